use schedule::units;
use std::fmt;
use std::str::FromStr;

/// One condition, as users write it.
///
/// ```text
/// send/reply p95 < 100ms                  response time of a series
/// send/reply service p99 < 50ms           service time
/// send/broadcast:last p95 < 200ms         the last recipient of a fan-out
/// send/broadcast{dm} p95 < 50ms           only ops of a bucket
/// send/broadcast{50 members} p95 < 1s     whose name may have spaces
/// unexpected == 0                         answers by a key that no op had
/// errors < 0.1%                           error answers, late, missing and unsent, of all
/// send/reply errors[not_subscribed] == 0  one class of one series
/// missing == 0    late == 0    duplicates == 0    unsent == 0    answered > 0
/// backlog growth < 1000                   of any consumer; also `backlog peak`
/// send/reply p95 < 100ms every 10s        in every window of that length
/// ```
///
/// ```
/// let line: analyze::Line = "send/reply p95 < 100ms".parse().unwrap();
/// assert_eq!(line.to_string(), "send/reply p95 < 100ms");
/// let error = "send/reply p95 < 100".parse::<analyze::Line>().unwrap_err().to_string();
/// assert_eq!(error, "SLO `send/reply p95 < 100`: `100` is not a duration; write 500ms, 10s, 5m or 1h30m");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    text: String,
    /// `send/reply`; `None` is all of them.
    pub series: Option<String>,
    /// Only ops of this bucket.
    pub bucket: Option<String>,
    /// What is measured.
    pub metric: Metric,
    /// How it is compared.
    pub operator: Operator,
    /// With what: ns for percentiles, a fraction or a count for counters.
    pub bound: Bound,
    /// In every window of this length, ns.
    pub every_ns: Option<i64>,
}

/// What a line measures.
#[derive(Debug, Clone, PartialEq)]
pub enum Metric {
    /// A percentile, 0 to 1, of response or service time. 1 is the maximum.
    Latency {
        /// Fraction of the samples at or below it.
        quantile: f64,
        /// Service time instead of response time.
        service: bool,
    },
    /// A counter; for errors, of one class only.
    Counter(Counter, Option<String>),
    /// Growth of the worst consumer's backlog while sending.
    BacklogGrowth,
    /// Its peak.
    BacklogPeak,
}

/// Counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Error answers, late, missing and unsent.
    Errors,
    /// Not there although observed past the deadline.
    Missing,
    /// After the deadline.
    Late,
    /// Came more than once.
    Duplicates,
    /// Not sent.
    Unsent,
    /// Came by a key that no op had.
    Unexpected,
    /// Came at all.
    Answered,
}

const COUNTERS: [(&str, Counter); 7] = [
    ("errors", Counter::Errors),
    ("missing", Counter::Missing),
    ("late", Counter::Late),
    ("duplicates", Counter::Duplicates),
    ("unsent", Counter::Unsent),
    ("unexpected", Counter::Unexpected),
    ("answered", Counter::Answered),
];

/// Comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Operator {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

impl Operator {
    /// Whether `a` stands in this relation to `b`.
    pub fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Operator::Less => a < b,
            Operator::LessOrEqual => a <= b,
            Operator::Equal => a == b,
            Operator::GreaterOrEqual => a >= b,
            Operator::Greater => a > b,
        }
    }
}

impl Operator {
    /// The sign between a measurement and a bound that it breaks. Where it is `>=`, equality is the rare case.
    fn broken(self) -> &'static str {
        match self {
            Operator::Less | Operator::LessOrEqual => ">",
            Operator::Equal => "!=",
            Operator::GreaterOrEqual | Operator::Greater => "<",
        }
    }
}

/// What a measurement is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// ns
    Duration(i64),
    /// A share of what was due, 0 to 1.
    Fraction(f64),
    /// A number.
    Count(f64),
}

impl Bound {
    /// As a number.
    pub fn value(self) -> f64 {
        match self {
            Bound::Duration(ns) => ns as f64,
            Bound::Fraction(f) => f,
            Bound::Count(n) => n,
        }
    }
}

/// What the reference load generator judges its workloads by, as lines; of a preset, those apply whose series a run has.
pub const SLO_PRESETS: &[(&str, &[&str])] = &[
    (
        "messages",
        &[
            "send/reply p95 < 100ms",
            "send/reply p99 < 250ms",
            "send/puback p95 < 100ms",
            "send/puback p99 < 250ms",
            "send/broadcast p95 < 100ms",
            "send/broadcast p99 < 250ms",
            "errors < 0.1%",
            "backlog growth < 1000",
        ],
    ),
    (
        "history",
        &[
            "history/reply p95 < 100ms",
            "history/reply p99 < 250ms",
            "thread/reply p95 < 100ms",
            "thread/reply p99 < 250ms",
            "errors < 0.1%",
        ],
    ),
    (
        "daily",
        &[
            "send/broadcast p95 < 500ms",
            "send/broadcast p99 < 1s",
            "mark_read/reply p95 < 100ms",
            "mark_read/reply p99 < 250ms",
            "refresh_room_list/reply p95 < 200ms",
            "refresh_room_list/reply p99 < 500ms",
            "scroll_history/reply p95 < 500ms",
            "scroll_history/reply p99 < 1500ms",
            "member_add/reply p95 < 200ms",
            "member_add/reply p99 < 500ms",
            "mute_toggle/reply p95 < 100ms",
            "mute_toggle/reply p99 < 250ms",
            "room_create/reply p95 < 500ms",
            "room_create/reply p99 < 1500ms",
            "errors < 0.1%",
            "backlog growth < 1000",
        ],
    ),
    ("max-room-size", &["send/broadcast p95 < 500ms", "send/broadcast p99 < 1s", "errors < 0.1%", "backlog growth < 1000"]),
];

/// The lines of a preset.
pub fn slo_preset(name: &str) -> Option<Vec<Line>> {
    let (_, lines) = SLO_PRESETS.iter().find(|(known, _)| *known == name)?;
    Some(lines.iter().map(|text| text.parse().expect("ours")).collect())
}

impl Line {
    /// How it reads that this was measured, and breaks it.
    ///
    /// ```
    /// let line: analyze::Line = "send/broadcast p95 < 100ms".parse().unwrap();
    /// assert_eq!(line.breach("143ms"), "send/broadcast p95 143ms > 100ms");
    /// ```
    pub fn breach(&self, measured: &str) -> String {
        let words = self.text.split(' ').map(|word| match operator(word) {
            Some(operator) => format!("{measured} {}", operator.broken()),
            None => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("SLO `{line}`: {what}")]
pub struct LineError {
    /// As typed.
    pub line: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Line {
    type Err = LineError;
    fn from_str(text: &str) -> Result<Line, LineError> {
        parse(text).map_err(|what| LineError { line: text.trim().to_owned(), what })
    }
}

const SHAPE: &str = "it reads like `send/reply p95 < 100ms`, `errors < 0.1%` or `missing == 0 every 10s`";

/// Split at white space, but not within the braces of a bucket.
fn words(text: &str) -> Vec<&str> {
    let closed = text.matches('{').count() == text.matches('}').count();
    let mut depth = 0;
    let splits = text.split(move |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        (depth <= 0 || !closed) && c.is_whitespace()
    });
    splits.filter(|word| !word.is_empty()).collect()
}

fn parse(text: &str) -> Result<Line, String> {
    let words = words(text);
    let at = words.iter().position(|w| operator(w).is_some()).ok_or_else(|| format!("there is no <, <=, ==, >= or > in it; {SHAPE}"))?;
    let (left, right) = (&words[..at], &words[at + 1..]);
    let (bound_text, every_ns) = match right {
        [bound] => (bound, None),
        [bound, "every", length] => (bound, Some(units::parse_duration_ns(length)?)),
        _ => return Err(format!("after `{}` comes one value; {SHAPE}", words[at])),
    };
    let (series, metric) = match left {
        ["backlog", "growth"] => (None, Metric::BacklogGrowth),
        ["backlog", "peak"] => (None, Metric::BacklogPeak),
        ["backlog", ..] => return Err("backlog has `growth` and `peak`".into()),
        [name] => (None, metric(name, false)?),
        [series, "service", name] => (Some(series), metric(name, true)?),
        [series, name] => (Some(series), metric(name, false)?),
        _ => return Err(SHAPE.into()),
    };
    let (series, bucket) = match series.map(|s| s.split_once('{')) {
        Some(Some((series, bucket))) => {
            (Some(series), Some(bucket.strip_suffix('}').ok_or("a bucket stands in braces: send/reply{dm} p95 < 50ms")?.to_owned()))
        }
        _ => (series.copied(), None),
    };
    if bucket.is_some() && (every_ns.is_some() || series.is_some_and(|s| s.contains(':'))) {
        return Err("a bucket goes neither with `every` nor with :first, :median or :last".into());
    }
    if let Some(series) = series
        && !series.contains('/')
    {
        return Err(format!("`{series}` is not a series; a series is ACTION/ANSWER, like send/reply"));
    }
    let bound = match metric {
        Metric::Latency { .. } if series.is_none() => return Err(format!("a percentile needs a series before it: send/reply {}", left[0])),
        Metric::Latency { .. } => Bound::Duration(units::parse_duration_ns(bound_text)?),
        _ if bound_text.ends_with('%') => Bound::Fraction(units::parse_fraction(bound_text)?),
        _ => Bound::Count(units::parse_count(bound_text)? as f64),
    };
    if every_ns.is_some_and(|ns| ns <= 0) || every_ns.is_some() && matches!(metric, Metric::BacklogGrowth | Metric::BacklogPeak) {
        return Err("`every` takes a length greater than 0, and does not go with backlog".into());
    }
    if every_ns.is_some() && matches!(metric, Metric::Counter(Counter::Unsent | Counter::Unexpected, _)) {
        return Err("`every` does not go with unsent and unexpected, which are counted over the whole run".into());
    }
    let operator = operator(words[at]).expect("found above");
    Ok(Line { text: words.join(" "), series: series.map(str::to_owned), bucket, metric, operator, bound, every_ns })
}

fn operator(word: &str) -> Option<Operator> {
    Some(match word {
        "<" => Operator::Less,
        "<=" => Operator::LessOrEqual,
        "==" => Operator::Equal,
        ">=" => Operator::GreaterOrEqual,
        ">" => Operator::Greater,
        _ => return None,
    })
}

fn metric(name: &str, service: bool) -> Result<Metric, String> {
    if name == "max" {
        return Ok(Metric::Latency { quantile: 1.0, service });
    }
    if let Some((num, den)) = name.strip_prefix('p').and_then(units::parse_decimal) {
        let quantile = num as f64 / den as f64 / 100.0;
        return if quantile > 0.0 && quantile < 1.0 {
            Ok(Metric::Latency { quantile, service })
        } else {
            Err(format!("`{name}` is not a percentile between p0 and p100"))
        };
    }
    let (counter, class) = match name.split_once('[') {
        Some((counter, class)) => (counter, Some(class.strip_suffix(']').ok_or("a class stands in brackets: errors[not_subscribed]")?)),
        None => (name, None),
    };
    let found = COUNTERS.iter().find(|(n, _)| *n == counter).map(|(_, c)| *c);
    match found {
        Some(Counter::Errors) => Ok(Metric::Counter(Counter::Errors, class.map(str::to_owned))),
        Some(counter) if class.is_none() && !service => Ok(Metric::Counter(counter, None)),
        _ => {
            let known = COUNTERS.iter().map(|(n, _)| *n).chain(["p95", "max"]);
            let near = known
                .clone()
                .min_by_key(|n| strsim::damerau_levenshtein(n, counter))
                .filter(|n| strsim::damerau_levenshtein(n, counter) <= 2);
            let hint = near.map_or_else(
                || format!("there are p50 to p99.999, {}", known.collect::<Vec<_>>().join(", ")),
                |n| format!("did you mean {n}?"),
            );
            Err(format!("`{name}` is not a metric; {hint}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_people_write() {
        for text in [
            "send/reply p95 < 100ms",
            "send/reply service p99.9 <= 1s",
            "send/broadcast:last max < 2s every 10s",
            "send/broadcast{dm} p95 < 50ms",
            "send/broadcast{50 members} p95 < 50ms",
            "send/reply{page-3} errors < 1%",
            "errors < 0.1%",
            "errors[not_subscribed] == 0",
            "send/reply errors[x] < 1%",
            "missing == 0",
            "backlog growth < 1000",
            "answered > 0",
        ] {
            assert_eq!(text.parse::<Line>().unwrap_or_else(|e| panic!("{e}")).to_string(), text);
        }
    }

    #[test]
    fn presets_can_be_read() {
        assert!(SLO_PRESETS.iter().all(|(name, lines)| slo_preset(name).is_some_and(|read| read.len() == lines.len())));
        assert!(slo_preset("nothing").is_none());
    }

    #[test]
    fn typos_get_a_hint() {
        for (text, hint) in [
            ("send/reply p95 100ms", "there is no <"),
            ("send/reply p95 < 100", "`100` is not a duration"),
            ("errrors < 1%", "did you mean errors?"),
            ("p95 < 100ms", "a percentile needs a series before it: send/reply p95"),
            ("send p95 < 100ms", "`send` is not a series"),
            ("send/reply p200 < 1s", "not a percentile"),
            ("backlog size < 5", "backlog has `growth` and `peak`"),
            ("missing == 0 always", "after `==` comes one value"),
            ("missing == x", "not a whole number"),
            ("unsent == 0 every 10s", "`every` does not go with unsent"),
            ("errors[x < 1", "a class stands in brackets"),
            ("send/reply{dm p95 < 1s", "a bucket stands in braces"),
            ("send/reply{dm} p95 < 1s every 10s", "a bucket goes neither with `every`"),
            ("", "there is no <"),
        ] {
            let message = text.parse::<Line>().expect_err(text).to_string();
            assert!(message.contains(hint), "{text}: {message}");
        }
    }
}
