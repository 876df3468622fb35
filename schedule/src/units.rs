//! Numbers as people write them: `10s`, `2k`, `50/s`, `0.1%`, and back.

/// A decimal as an exact ratio: `12.5` is (125, 10). `None` if it is not one.
pub fn parse_decimal(text: &str) -> Option<(i128, i128)> {
    let (whole, frac) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if text.is_empty() || text == "." || whole.len() + frac.len() > 18 || !digits(whole) || !digits(frac) {
        return None;
    }
    Some((format!("0{whole}{frac}").parse().ok()?, 10i128.pow(frac.len() as u32)))
}

/// A count with an optional `k` (×1000) or `m` (×1,000,000), as a ratio.
fn parse_scaled(text: &str) -> Option<(i128, i128)> {
    let text = text.trim();
    let (digits, scale) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1_000),
        b'm' | b'M' => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let (num, den) = parse_decimal(&digits.replace('_', ""))?;
    Some((num * scale, den))
}

/// `500`, `2k`, `1.5m`, `10_000`: a whole number.
///
/// # Errors
/// A sentence naming what was typed.
///
/// ```
/// assert_eq!(schedule::units::parse_count("2.5k"), Ok(2500));
/// assert!(schedule::units::parse_count("many").is_err());
/// ```
pub fn parse_count(text: &str) -> Result<u64, String> {
    match parse_scaled(text) {
        Some((num, den)) if num % den == 0 => u64::try_from(num / den).map_err(|_| format!("`{text}` is too large")),
        _ => Err(format!("`{text}` is not a whole number; write 500, 2k or 1m")),
    }
}

/// `500`, `2k`, `50/s`, `3k/m`: operations per second as an exact ratio, greater than 0.
///
/// # Errors
/// A sentence naming what was typed.
///
/// ```
/// assert_eq!(schedule::units::parse_rate("3k/m"), Ok((3000, 60)));
/// ```
pub fn parse_rate(text: &str) -> Result<(i128, i128), String> {
    let (count, seconds) = match text.split_once('/') {
        Some((count, "s")) => (count, 1),
        Some((count, "m")) => (count, 60),
        Some((count, "h")) => (count, 3600),
        Some(_) => ("", 1),
        None => (text, 1),
    };
    match parse_scaled(count) {
        Some((num, den)) if num > 0 => Ok((num, den * seconds)),
        _ => Err(format!("`{text}` is not a rate; write 500, 2k, 50/s or 3k/m")),
    }
}

/// `500ms`, `10s`, `1h30m`, in nanoseconds.
///
/// # Errors
/// A sentence naming what was typed.
///
/// ```
/// assert_eq!(schedule::units::parse_duration_ns("1m30s"), Ok(90_000_000_000));
/// ```
pub fn parse_duration_ns(text: &str) -> Result<i64, String> {
    let bad = || format!("`{text}` is not a duration; write 500ms, 10s, 5m or 1h30m");
    let (mut rest, mut total) = (text.trim(), 0i128);
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |i| digits + i);
        let unit: i128 = match &rest[digits..unit_end] {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(bad()),
        };
        let (num, den) = parse_decimal(&rest[..digits]).ok_or_else(bad)?;
        total += num * unit / den;
        rest = &rest[unit_end..];
    }
    i64::try_from(total).map_err(|_| bad())
}

/// `0.1%` or `0.001`, as a fraction.
///
/// # Errors
/// A sentence naming what was typed.
pub fn parse_fraction(text: &str) -> Result<f64, String> {
    let (digits, scale) = text.strip_suffix('%').map_or((text, 1), |digits| (digits, 100));
    let (num, den) = parse_decimal(digits).ok_or_else(|| format!("`{text}` is not a fraction; write 0.1% or 0.001"))?;
    Ok(num as f64 / (den * scale) as f64)
}

/// Three digits and a unit: `1.23ms`, `45.6µs`, `12.0s`.
///
/// ```
/// assert_eq!(schedule::units::show_ns(1_234_567), "1.23ms");
/// assert_eq!(schedule::units::show_ns(-20), "-20ns");
/// ```
pub fn show_ns(ns: i64) -> String {
    let (sign, ns) = (if ns < 0 { "-" } else { "" }, ns.unsigned_abs());
    let (value, unit) = match ns {
        0..1_000 => return format!("{sign}{ns}ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    format!("{sign}{value:.digits$}{unit}")
}

/// `1234567` as `1,234,567`.
pub fn show_count(n: u64) -> String {
    let digits = n.to_string();
    let first = digits.len() % 3;
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && i % 3 == first {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Bytes with a binary unit: `1.5 MiB`.
pub fn show_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 || unit == "GiB" {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    unreachable!("the last unit returns")
}

/// A rate: `2,000/s`, `0.5/s`.
pub fn show_rate(per_sec: f64) -> String {
    if per_sec >= 100.0 { format!("{}/s", show_count(per_sec.round() as u64)) } else { format!("{}/s", (per_sec * 100.0).round() / 100.0) }
}

/// Civil date and time of a wall clock, `YYYY-MM-DDTHH:MM:SS.mmmZ`, 24 characters, into `out`.
///
/// Days to date by the algorithm in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
///
/// ```
/// let mut out = [0; 24];
/// schedule::units::write_rfc3339(1_782_896_400_123, &mut out);
/// assert_eq!(&out, b"2026-07-01T09:00:00.123Z");
/// ```
pub fn write_rfc3339(epoch_ms: i64, out: &mut [u8]) {
    let (days, ms) = (epoch_ms.div_euclid(86_400_000), epoch_ms.rem_euclid(86_400_000));
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    out[..24].copy_from_slice(b"0000-00-00T00:00:00.000Z");
    for (at, width, value) in [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, ms / 3_600_000),
        (14, 2, ms / 60_000 % 60),
        (17, 2, ms / 1_000 % 60),
        (20, 3, ms % 1_000),
    ] {
        write_digits(value, &mut out[at..at + width]);
    }
}

/// A number with leading zeros that fills `out`.
pub fn write_digits(mut value: i64, out: &mut [u8]) {
    for byte in out.iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type() {
        assert_eq!(parse_count("10_000"), Ok(10_000));
        assert_eq!(parse_count("2K"), Ok(2_000));
        assert!(parse_count("1.5").is_err());
        assert_eq!(parse_rate("0.5"), Ok((5, 10)));
        assert!(parse_rate("0").is_err());
        assert!(parse_rate("5/week").is_err());
        assert_eq!(parse_duration_ns("0s"), Ok(0));
        assert_eq!(parse_duration_ns("1.5s"), Ok(1_500_000_000));
        assert_eq!(parse_duration_ns("1h30m"), Ok(5_400_000_000_000));
        for bad in ["", "10", "s", "10 s x", "-1s", "10parsecs"] {
            assert!(parse_duration_ns(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_fraction("0.1%"), Ok(0.001));
    }

    #[test]
    fn what_people_read() {
        assert_eq!(show_ns(999), "999ns");
        assert_eq!(show_ns(45_600), "45.6µs");
        assert_eq!(show_ns(143_000_000), "143ms");
        assert_eq!(show_ns(12_000_000_000), "12.0s");
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_count(12), "12");
        assert_eq!(show_bytes(1_572_864), "1.5 MiB");
        assert_eq!(show_rate(0.5), "0.5/s");
    }

    #[test]
    fn dates_match_known_days() {
        let show = |ms| {
            let mut out = [0; 24];
            write_rfc3339(ms, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(show(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(show(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(show(4_102_444_799_999), "2099-12-31T23:59:59.999Z");
    }
}
