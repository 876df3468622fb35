//! Ids and times in captured text: what must be fresh in a replay.

use regex::bytes::Regex;
use schedule::SlotKind;
use std::ops::Range;

/// A time is taken for that of its message if it is no further from it, ms.
const NEAR_MS: i64 = 24 * 3_600_000;

/// A place that a replay fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which bytes.
    pub at: Range<usize>,
    /// As what.
    pub kind: SlotKind,
}

/// Ids and times in a text of a message that came at `t_ms`: UUIDs, words of 20 letters and digits of more than one sort, epoch
/// milliseconds and RFC 3339 times near the message's own.
///
/// ```
/// use capture::ids::find;
/// use schedule::SlotKind;
/// let found = find(br#"{"id":"Zk3Qp0aVb81LmNcT7xYu","at":1782896400123}"#, 1_782_896_400_000);
/// assert_eq!((found[0].kind, found[0].at.clone()), (SlotKind::Message, 7..27));
/// assert_eq!((found[1].kind, found[1].at.clone()), (SlotKind::EpochMs, 34..47));
/// ```
pub fn find(text: &[u8], t_ms: i64) -> Vec<Found> {
    let mut found = Vec::new();
    let word = |b: u8| b.is_ascii_alphanumeric();
    let mut at = 0;
    while at < text.len() {
        if !word(text[at]) || at > 0 && word(text[at - 1]) {
            at += 1;
            continue;
        }
        let rest = &text[at..];
        let length = rest.iter().position(|b| !word(*b)).unwrap_or(rest.len());
        let (kind, width) = match length {
            8 if is_uuid(rest) => (Some(SlotKind::Request), 36),
            4 if is_time(rest, t_ms) => (Some(SlotKind::Rfc3339), 24),
            13 if near(&rest[..13], t_ms) => (Some(SlotKind::EpochMs), 13),
            20 if sorts(&rest[..20]) > 1 => (Some(SlotKind::Message), 20),
            _ => (None, length),
        };
        found.extend(kind.map(|kind| Found { at: at..at + width, kind }));
        at += width;
    }
    found
}

/// As [`find`], and what fits a rule besides: letters and digits, of which its first group, if it has one, is the id. Digits alone
/// stay as they are: what stands in their place might be read as a number.
pub fn find_by(text: &[u8], t_ms: i64, rules: &[Regex]) -> Vec<Found> {
    let mut found = find(text, t_ms);
    for rule in rules {
        for fit in rule.captures_iter(text) {
            let at = fit.get(1).or_else(|| fit.get(0)).expect("a match is there").range();
            let id = &text[at.clone()];
            let fits = (1..=255).contains(&id.len()) && id.iter().all(u8::is_ascii_alphanumeric) && !id.iter().all(u8::is_ascii_digit);
            if fits && found.iter().all(|other| other.at.end <= at.start || at.end <= other.at.start) {
                found.push(Found { at, kind: SlotKind::Fresh });
            }
        }
    }
    found.sort_by_key(|found| found.at.start);
    found
}

/// `8-4-4-4-12` hex digits, and no more of them.
fn is_uuid(text: &[u8]) -> bool {
    let hyphen = |i: usize| matches!(i, 8 | 13 | 18 | 23);
    let fits = |(i, b): (usize, &u8)| if hyphen(i) { *b == b'-' } else { b.is_ascii_hexdigit() };
    text.len() >= 36 && text[..36].iter().enumerate().all(fits) && !text.get(36).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// `2026-07-01T09:00:00.123Z`, near `t_ms`.
fn is_time(text: &[u8], t_ms: i64) -> bool {
    let Some(text) = text.get(..24).and_then(|text| std::str::from_utf8(text).ok()).filter(|text| text.ends_with('Z')) else {
        return false;
    };
    let parsed = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339);
    parsed.is_ok_and(|at| (at.unix_timestamp_nanos() / 1_000_000 - i128::from(t_ms)).abs() <= NEAR_MS.into())
}

fn near(digits: &[u8], t_ms: i64) -> bool {
    let value = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<i64>().ok());
    value.is_some_and(|ms| (ms - t_ms).abs() <= NEAR_MS)
}

/// How many of digits, upper and lower case letters there are.
fn sorts(word: &[u8]) -> usize {
    let any = |of: fn(&u8) -> bool| usize::from(word.iter().any(of));
    any(u8::is_ascii_digit) + any(u8::is_ascii_uppercase) + any(u8::is_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_782_896_400_000;

    fn kinds(text: &str) -> Vec<(SlotKind, &str)> {
        find(text.as_bytes(), NOW).into_iter().map(|f| (f.kind, &text[f.at])).collect()
    }

    #[test]
    fn what_must_be_fresh_is_found() {
        use SlotKind::{EpochMs, Message, Request, Rfc3339};
        let uuid = "018f6f0e-5b7a-7c31-9d52-0c4f1b2a9e77";
        assert_eq!(kinds(&format!("chat.user.a.response.{uuid}")), [(Request, uuid)]);
        assert_eq!(kinds("Zk3Qp0aVb81LmNcT7xYu:updated:1782896400001"), [(Message, "Zk3Qp0aVb81LmNcT7xYu"), (EpochMs, "1782896400001")]);
        assert_eq!(kinds(r#"{"at":"2026-07-01T09:00:00.123Z"}"#), [(Rfc3339, "2026-07-01T09:00:00.123Z")]);
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        for text in [
            "aaaaaaaaaaaaaaaaaaaa",
            "Zk3Qp0aVb81LmNcT7xYuQ",
            "018f6f0e-5b7a-7c31-9d52-0c4f1b2a9e77a",
            "018f6f0e-5b7a-7c31-9d52",
            "1482896400001",
            "2016-07-01T09:00:00.123Z",
            "room-000003-ab12cd",
            "",
        ] {
            assert_eq!(kinds(text), [], "{text}");
        }
    }

    #[test]
    fn a_rule_names_ids_of_another_shape() {
        let rules = [Regex::new("ord-([0-9a-z]{6})").unwrap(), Regex::new("[0-9]{5}").unwrap()];
        let text = b"ord-ab12cd ord-123456 54321 018f6f0e-5b7a-7c31-9d52-0c4f1b2a9e77";
        let found: Vec<_> = find_by(text, NOW, &rules).into_iter().map(|f| (f.kind, f.at)).collect();
        assert_eq!(found, [(SlotKind::Fresh, 4..10), (SlotKind::Request, 28..64)]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            for found in find(&bytes, NOW) {
                proptest::prop_assert!(found.at.end <= bytes.len() && found.at.start < found.at.end);
            }
        }
    }
}
