//! Conditions from evidence: what a healthy run had, with room.

use crate::summary::{Outcome, Percentiles, Summary};
use crate::verdict::BEYOND_MIN;

/// Two digits are all that a threshold means.
const DIGITS: u32 = 2;

/// Conditions that a run like this one holds: 95th and 99th percentile of each series, `factor` times as long.
///
/// # Errors
/// A sentence: the run is not healthy, or has too few samples; what it had is no measure.
pub fn suggest(summary: &Summary, factor: f64) -> Result<Vec<String>, String> {
    let each = || summary.series.iter().filter(|s| !s.name.contains(':') && s.count + s.missing > 0);
    if let Some(series) = each().find(|s| s.missing > 0 || s.late > 0 || !s.errors.is_empty()) {
        let errors: u64 = series.errors.values().sum();
        let (name, missing, late) = (&series.name, series.missing, series.late);
        return Err(format!("it is not healthy: {name} has {errors} errors, {late} late and {missing} missing; take a run without"));
    }
    if summary.verdict.outcome == Outcome::Trip {
        return Err(format!("it is not healthy: {}; take a run that passes", summary.verdict.reasons.first().map_or("", String::as_str)));
    }
    let mut lines = Vec::new();
    for series in each() {
        let Percentiles { p95_ns, p99_ns, .. } = series.response;
        for (name, share, ns) in [("p95", 0.05, p95_ns), ("p99", 0.01, p99_ns)] {
            // What a verdict would not decide is no condition.
            let enough = series.count as f64 * share >= BEYOND_MIN;
            lines.extend(ns.filter(|_| enough).map(|ns| format!("{} {name} < {}", series.name, rounded(ns as f64 * factor))));
        }
    }
    if lines.is_empty() {
        return Err("it has too few samples for a percentile; take a longer run".into());
    }
    lines.push("errors < 0.1%".into());
    lines.push("missing == 0".into());
    Ok(lines)
}

/// Up to two digits: `143.2 ms` becomes `150ms`.
fn rounded(ns: f64) -> String {
    let unit = 10f64.powi((ns.max(1.0).log10().floor() as i32 + 1 - DIGITS as i32).max(0));
    let ns = ((ns / unit).ceil() * unit) as i64;
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let (size, name) = units.into_iter().find(|(size, _)| ns % size == 0).unwrap_or((1, "ns"));
    format!("{}{name}", ns / size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Line;

    #[test]
    fn thresholds_are_rounded_up_and_read_back() {
        for (ns, shown) in [
            (143_200_000.0, "150ms"),
            (1_000_000.0, "1ms"),
            (1_234_567.0, "1300us"),
            (2_100_000_000.0, "2100ms"),
            (37.0, "37ns"),
            (9.2e9, "9200ms"),
        ] {
            assert_eq!(rounded(ns), shown);
            assert!(format!("a/b p95 < {shown}").parse::<Line>().is_ok(), "{shown}");
        }
    }
}
