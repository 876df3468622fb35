//! The three-way verdict: any sound breach trips; else anything undecidable, or a generator that was the limit, makes
//! it inconclusive; else it passes.

use crate::analysis::Findings;
use crate::samples::Percentile;
use crate::slo::{Bound, Counter, Line, Metric};
use crate::summary::{Backlog, Evidence, LineState, Outcome, RateSummary, SloResult, Verdict};
use crate::tally::{Cell, Copy, Counts, OWN_CAUSES, SeriesKey};
use schedule::units::{show_count, show_ns, show_rate};

/// A percentile needs this many samples beyond it.
/// (A little less than ten: 100·(1 − 0.9) is not quite 10 in floating point.)
pub(crate) const BEYOND_MIN: f64 = 10.0 - 1e-9;
/// More unresolved answers than this share make a line undecidable.
const UNRESOLVED_MAX: f64 = 0.001;
/// More sends late by our own fault than this share, and the generator was the limit.
const OWN_LATE_MAX: f64 = 0.01;
/// Less of the intended rate than this, without fault of the target, likewise.
const ACHIEVED_MIN: f64 = 0.95;

/// Implied where backlogs are watched.
const NO_CONSUMER_VANISHES: &str = "no consumer vanishes";

/// What helps a generator that is the limit.
const OWN_HELP: &str = "give it a core of its own, allow SCHED_FIFO, or lower the rate";

/// A line, measured: the value, how it reads, and what speaks against it.
struct Measured {
    value: f64,
    text: String,
    doubt: Option<String>,
}

/// Decides.
pub(crate) fn decide(f: &mut Findings, rate: &RateSummary, backlog: &[Backlog], evidence: &Evidence) -> Verdict {
    let lines = f.lines.clone();
    let slos: Vec<SloResult> = lines.iter().enumerate().map(|(i, line)| result(f, i, line, backlog, evidence)).collect();
    let gone = evidence.consumers_gone.iter().map(|consumer| SloResult {
        line: NO_CONSUMER_VANISHES.into(),
        state: LineState::Breached,
        measured: consumer.clone(),
        why: None,
    });
    let slos = slos.into_iter().chain(gone).collect();
    let mut limits = generator_limits(&f.counts, f.late_ns, rate);
    limits
        .extend(f.input.spent.then(|| "the schedule, which cannot be sent twice, ended within the step; compile a longer one".to_owned()));
    verdict(slos, limits, state_reasons(f, evidence))
}

/// Precedence: a breach, then doubt, then the generator, then a pass.
fn verdict(slos: Vec<SloResult>, limits: Vec<String>, mut notes: Vec<String>) -> Verdict {
    let of = |state| slos.iter().filter(move |s| s.state == state);
    let (outcome, mut reasons): (_, Vec<String>) = if of(LineState::Breached).next().is_some() {
        (Outcome::Trip, of(LineState::Breached).map(|s| format!("{}: {}", s.line, s.measured)).collect())
    } else if of(LineState::Undecidable).next().is_some() || !limits.is_empty() {
        let doubts = of(LineState::Undecidable).map(|s| format!("{}: {}", s.line, s.why.as_deref().unwrap_or("undecidable")));
        (Outcome::Inconclusive, doubts.chain(limits).collect())
    } else {
        (Outcome::Pass, vec!["every line holds".into()])
    };
    reasons.append(&mut notes);
    Verdict { outcome, slos, reasons }
}

fn result(f: &mut Findings, index: usize, line: &Line, backlog: &[Backlog], evidence: &Evidence) -> SloResult {
    let measured = match &line.metric {
        Metric::Latency { quantile, .. } if line.every_ns.is_some() => windowed_latency(f, index, line, *quantile),
        Metric::Latency { quantile, service } => latency(f, line, *quantile, *service),
        Metric::Counter(counter, class) if line.every_ns.is_some() => windowed_counter(f, line, *counter, class.as_deref()),
        Metric::Counter(counter, class) => counted(f, line, *counter, class.as_deref()),
        Metric::BacklogGrowth => worst(backlog, |b| b.growth as f64),
        Metric::BacklogPeak => worst(backlog, |b| b.peak as f64),
    };
    let holds = line.operator.holds(measured.value, line.bound.value());
    let lost = (evidence.dropped_records > 0)
        .then(|| format!("{} records were lost; lower the rate or use a faster disk", evidence.dropped_records));
    // Lost records may hide answers, but they cannot make an answer slow.
    let doubt = if holds || !matches!(line.metric, Metric::Latency { .. }) { measured.doubt.or(lost) } else { measured.doubt };
    let state = match (&doubt, holds) {
        (Some(_), _) => LineState::Undecidable,
        (None, true) => LineState::Met,
        (None, false) => LineState::Breached,
    };
    SloResult { line: line.to_string(), state, measured: measured.text, why: doubt }
}

fn key_of(f: &Findings, name: &str) -> Option<SeriesKey> {
    f.names.iter().find(|(_, n)| *n == name).map(|(key, _)| *key)
}

fn latency(f: &mut Findings, line: &Line, quantile: f64, service: bool) -> Measured {
    let own_late = own_late(&f.counts);
    let bound_ns = line.bound.value();
    let nothing = || Measured { value: f64::NAN, text: "no samples".into(), doubt: Some("there are no samples".into()) };
    let key = line.series.as_ref().and_then(|name| key_of(f, name));
    if let Some(doubt) = no_such_bucket(f, line) {
        return Measured { doubt: Some(doubt), ..nothing() };
    }
    let cell = match (key, &line.bucket) {
        (Some(key), Some(bucket)) => f.buckets.get_mut(&(key, bucket.as_str().into())),
        (Some(key), None) => f.series.get_mut(&key),
        (None, _) => None,
    };
    let Some(cell) = cell else { return nothing() };
    let missing = cell.missing;
    let over_ns = cell.missing_over_ns.max(cell.response.max_ns());
    let mut at = |service: bool| {
        let samples = if service { &mut cell.service } else { &mut cell.response };
        samples.percentiles(&[quantile], missing, Some(&f.spool))[0]
    };
    let (asked, alone) = (at(service), at(true));
    let value = match asked {
        Percentile::None => return nothing(),
        Percentile::Value(ns) => ns as f64,
        Percentile::Over => f64::INFINITY,
    };
    let text = if value.is_finite() { show_ns(value as i64) } else { format!("> {}", show_ns(over_ns)) };
    let n = cell.due() as f64;
    let breached = !line.operator.holds(value, bound_ns);
    let service_holds = matches!(alone, Percentile::Value(ns) if line.operator.holds(ns as f64, bound_ns));
    let beyond = n * (1.0 - quantile);
    let doubt = if quantile < 1.0 && beyond < BEYOND_MIN {
        Some(format!("{} samples are too few for this percentile; it needs {}", n, (BEYOND_MIN / (1.0 - quantile)).round()))
    } else if unresolved(cell) {
        Some(format!("{} answers are unresolved: observation ended first", cell.unresolved))
    } else if breached && !service && service_holds && own_late > (1.0 - quantile) / 2.0 {
        Some(format!("sends were late by our own fault ({:.2}%) and service time holds; {OWN_HELP}", own_late * 100.0))
    } else if breached && own_late > OWN_LATE_MAX && value - bound_ns <= f.counts.own_late_max_ns as f64 {
        // Who sends that late reads that late.
        let own = show_ns(f.counts.own_late_max_ns);
        Some(format!("we ran up to {own} late ourselves, and may have read answers as late; {OWN_HELP}"))
    } else {
        None
    };
    Measured { value, text, doubt }
}

/// A line about a bucket that the run has not is about nothing.
fn no_such_bucket(f: &Findings, line: &Line) -> Option<String> {
    let bucket = line.bucket.as_ref()?;
    let mut names: Vec<&str> = f.buckets.keys().map(|(_, name)| &**name).collect();
    names.sort_unstable();
    names.dedup();
    (!names.contains(&bucket.as_str())).then(|| format!("the run has no bucket `{bucket}`; there are {}", names.join(", ")))
}

fn unresolved(cell: &Cell) -> bool {
    cell.unresolved as f64 > UNRESOLVED_MAX * (cell.due() + cell.unresolved) as f64
}

fn windowed_latency(f: &Findings, index: usize, line: &Line, quantile: f64) -> Measured {
    let mut worst: Option<(f64, i64)> = None;
    let (mut sparse, mut unknown) = (0, 0);
    for window in &f.windows {
        let Some((_, percentile)) = window.asked.iter().find(|(i, _)| *i == index) else { continue };
        unknown += if unresolved(&window.cell) { window.cell.unresolved } else { 0 };
        if window.cell.due() as f64 * (1.0 - quantile) < BEYOND_MIN && quantile < 1.0 {
            sparse += 1;
            continue;
        }
        let value = match percentile {
            Percentile::Value(ns) => *ns as f64,
            Percentile::Over => f64::INFINITY,
            Percentile::None => continue,
        };
        if worst.is_none_or(|(w, _)| value > w) {
            worst = Some((value, window.start_ns));
        }
    }
    let Some((value, start_ns)) = worst else {
        let why = format!("no window of this length has samples enough for this percentile ({sparse} have too few)");
        return Measured { value: f64::NAN, text: "no samples".into(), doubt: Some(why) };
    };
    let shown = if value.is_finite() { show_ns(value as i64) } else { "missing answers".into() };
    let every = show_ns(line.every_ns.unwrap_or(0));
    Measured {
        value,
        text: format!("worst {every} window: {shown} at {}", show_ns(start_ns)),
        doubt: windows_doubt(line, value, unknown, 0),
    }
}

/// A window that looks good may be one in which nobody watched, or nothing was sent.
fn windows_doubt(line: &Line, worst: f64, unknown: u64, unsent: u64) -> Option<String> {
    match (line.operator.holds(worst, line.bound.value()), unknown, unsent) {
        (false, ..) | (_, 0, 0) => None,
        (_, 0, unsent) => Some(format!("{unsent} ops were not sent, and are not counted by window")),
        (_, unknown, _) => Some(format!("{unknown} answers are unresolved: observation ended first")),
    }
}

/// What a counter counts, and of how many.
fn counter_of(cell: &Cell, counter: Counter, class: Option<&str>) -> (u64, u64) {
    let n = match counter {
        Counter::Errors => class.map_or_else(|| cell.bad(), |class| cell.errors.get(class).copied().unwrap_or(0)),
        Counter::Missing => cell.missing,
        Counter::Late => cell.late,
        Counter::Duplicates => cell.duplicates,
        Counter::Answered => cell.response.count(),
        Counter::Unsent | Counter::Unexpected => 0,
    };
    (n, cell.due())
}

fn counted(f: &Findings, line: &Line, counter: Counter, class: Option<&str>) -> Measured {
    let unsent = f.counts.unsent_ops();
    let sent = f.counts.sent;
    let cells: Vec<&Cell> = match &line.series {
        Some(name) => {
            let cell = key_of(f, name).and_then(|key| match &line.bucket {
                Some(bucket) => f.buckets.get(&(key, bucket.as_str().into())),
                None => f.series.get(&key),
            });
            cell.into_iter().collect()
        }
        // Pushes after the first of a WebSocket are answers, too.
        None => f.series.iter().filter(|(key, _)| matches!(key.2, Copy::Each | Copy::Gap)).map(|(_, c)| c).collect(),
    };
    let (mut n, mut of) = cells.iter().map(|c| counter_of(c, counter, class)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let whole = line.series.is_none() && class.is_none();
    match counter {
        Counter::Errors if whole => (n, of) = (n + unsent, of + unsent),
        Counter::Unsent => (n, of) = (unsent, unsent + sent),
        Counter::Unexpected => (n, of) = (f.unexpected.values().sum(), sent),
        _ => {}
    }
    let unresolved_n: u64 = cells.iter().map(|c| c.unresolved).sum();
    let doubtful = cells.iter().any(|c| unresolved(c)) && matches!(counter, Counter::Errors | Counter::Missing | Counter::Late);
    let (value, text) = measure(line, n, of);
    let breached = !line.operator.holds(value, line.bound.value());
    let mut doubt = (doubtful && !breached).then(|| format!("{unresolved_n} answers are unresolved: observation ended first"));
    if breached && matches!(counter, Counter::Errors | Counter::Late) && class.is_none() && own_late(&f.counts) > OWN_LATE_MAX {
        let late: u64 = cells.iter().map(|c| c.late).sum();
        let (sure, _) = measure(line, n - late, of);
        // The same without answers that we may have read too late.
        doubt = line
            .operator
            .holds(sure, line.bound.value())
            .then(|| format!("we ran late ourselves, and {late} answers were late; {OWN_HELP}"));
    }
    doubt = no_such_bucket(f, line).or(doubt);
    if counter == Counter::Answered && of == 0 && unresolved_n == 0 && sent == 0 {
        doubt = Some("nothing was sent".into());
    }
    Measured { value, text, doubt }
}

fn measure(line: &Line, n: u64, of: u64) -> (f64, String) {
    let share = if of > 0 { n as f64 / of as f64 } else { 0.0 };
    match line.bound {
        Bound::Fraction(_) => (share, format!("{:.3}% ({} of {})", share * 100.0, show_count(n), show_count(of))),
        _ => (n as f64, format!("{} of {}", show_count(n), show_count(of))),
    }
}

fn windowed_counter(f: &Findings, line: &Line, counter: Counter, class: Option<&str>) -> Measured {
    let mut by_start: std::collections::BTreeMap<i64, (u64, u64)> = std::collections::BTreeMap::new();
    let mut unknown = 0;
    for window in f.windows.iter().filter(|w| Some(w.length_ns) == line.every_ns && w.key.2 == Copy::Each) {
        if line.series.as_ref().is_none_or(|s| f.names.get(&window.key) == Some(s)) {
            let (n, of) = counter_of(&window.cell, counter, class);
            unknown += if unresolved(&window.cell) { window.cell.unresolved } else { 0 };
            let sum = by_start.entry(window.start_ns).or_default();
            *sum = (sum.0 + n, sum.1 + of);
        }
    }
    let measured = by_start.iter().map(|(start, (n, of))| (measure(line, *n, *of), *start));
    let worse = |a: f64, b: f64| if line.operator.holds(0.0, 1.0) || line.operator.holds(0.0, 0.0) { a > b } else { a < b };
    let worst = measured.reduce(|a, b| if worse(b.0.0, a.0.0) { b } else { a });
    match worst {
        Some(((value, text), start)) => {
            let unsent = if counter == Counter::Errors && class.is_none() { f.counts.unsent_ops() } else { 0 };
            let doubt = windows_doubt(line, value, unknown, unsent);
            Measured { value, text: format!("worst window: {text} at {}", show_ns(start)), doubt }
        }
        None => Measured { value: 0.0, text: "no windows".into(), doubt: Some("there are no answers".into()) },
    }
}

fn worst(backlog: &[Backlog], of: impl Fn(&Backlog) -> f64) -> Measured {
    match backlog.iter().max_by(|a, b| of(a).total_cmp(&of(b))) {
        Some(b) => Measured { value: of(b), text: format!("{} ({})", of(b), b.consumer), doubt: None },
        // No sample is not zero.
        None => Measured {
            value: f64::NAN,
            text: "no samples".into(),
            doubt: Some("no backlog was sampled; does the workload name its `streams`?".into()),
        },
    }
}

/// Share of the sends that were late because of us.
fn own_late(counts: &Counts) -> f64 {
    let ours: u64 = OWN_CAUSES.iter().filter_map(|cause| counts.late_by_cause.get(cause)).sum();
    if counts.sent > 0 { ours as f64 / counts.sent as f64 } else { 0.0 }
}

/// Whether the generator was the limit, naming the knob.
fn generator_limits(counts: &Counts, late_ns: i64, rate: &RateSummary) -> Vec<String> {
    let mut limits = Vec::new();
    let own = own_late(counts);
    if own > OWN_LATE_MAX {
        limits.push(format!(
            "the generator was the limit: {:.1}% of the sends were more than {} late by its own fault; {OWN_HELP}",
            own * 100.0,
            show_ns(late_ns)
        ));
    }
    let blocked = ["socket_full", "no_connection", "disconnected"].iter().any(|cause| counts.late_by_cause.contains_key(cause))
        || !counts.unsent.is_empty();
    if !blocked && rate.achieved_per_sec < ACHIEVED_MIN * rate.intended_per_sec {
        limits.push(format!(
            "the generator sent {} of {}; lower the rate",
            show_rate(rate.achieved_per_sec),
            show_rate(rate.intended_per_sec)
        ));
    }
    limits
}

/// What a reader must know beside the lines.
fn state_reasons(f: &Findings, evidence: &Evidence) -> Vec<String> {
    let mut reasons = Vec::new();
    let each = || f.series.iter().filter(|(key, _)| key.2 == Copy::Each).map(|(_, c)| c);
    if f.counts.sent > 0 && each().next().is_some() && each().all(|c| c.response.count() == 0) {
        reasons.push(
            "nothing answered, though the receive path was proven: is the system running behind this server, with this site id, and seeded with this schedule's population?".into(),
        );
    }
    let no_responders: u64 = each().filter_map(|c| c.errors.get("no_responders")).sum();
    if no_responders > 0 {
        reasons.push(format!("{no_responders} times the server said that nobody listens on the subject (no responders)"));
    }
    match f.input.manifest.state {
        runlog::State::Running => reasons.push(format!("partial: the run was cut off; analysed up to {}", show_ns(f.input.observed_ns))),
        runlog::State::Interrupted => reasons.push("the run was interrupted".into()),
        runlog::State::Complete => {}
    }
    if let Some(losses) = &f.input.manifest.schedule.losses {
        let (dropped, gaps) = (losses["dropped"].as_u64().unwrap_or(0), losses["gaps"].as_array().map_or(0, Vec::len));
        if dropped > 0 || gaps > 0 || losses["cut_off"] == true {
            let dropped = show_count(dropped);
            reasons
                .push(format!("the capture that was replayed is not whole: {dropped} messages dropped, {gaps} times without a connection"));
        }
    }
    if !evidence.gaps.is_empty() {
        reasons.push(format!("connections were lost {} times", evidence.gaps.len()));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slo(state: LineState) -> SloResult {
        SloResult { line: "l".into(), state, measured: "m".into(), why: Some("w".into()) }
    }

    #[test]
    fn precedence_is_a_table() {
        use LineState::{Breached, Met, Undecidable};
        let limit = || vec!["limit".to_owned()];
        for (states, limits, expected) in [
            (vec![], vec![], Outcome::Pass),
            (vec![Met, Met], vec![], Outcome::Pass),
            (vec![Met, Met], limit(), Outcome::Inconclusive),
            (vec![Met, Undecidable], vec![], Outcome::Inconclusive),
            (vec![Undecidable], limit(), Outcome::Inconclusive),
            (vec![Breached], vec![], Outcome::Trip),
            (vec![Breached, Undecidable, Met], vec![], Outcome::Trip),
            (vec![Breached], limit(), Outcome::Trip),
        ] {
            let verdict = verdict(states.iter().map(|s| slo(*s)).collect(), limits, vec![]);
            assert_eq!(verdict.outcome, expected, "{states:?}");
            assert!(!verdict.reasons.is_empty());
        }
    }

    #[test]
    fn a_generator_that_was_the_limit_is_named() {
        let rate = |achieved_per_sec| RateSummary { intended_per_sec: 1000.0, achieved_per_sec, windows: vec![] };
        let late = |cause, n| Counts { sent: 1_000, late_by_cause: [(cause, n)].into(), ..Counts::default() };
        let limits = |counts: Counts, achieved| generator_limits(&counts, 1_000_000, &rate(achieved)).join("; ");
        assert_eq!(limits(late("woke_late", 10), 1000.0), "");
        assert!(limits(late("woke_late", 11), 1000.0).contains("1.1% of the sends"));
        assert!(limits(late("loader_late", 500), 1000.0).contains("lower the rate"));
        assert!(limits(Counts { sent: 1_000, ..Counts::default() }, 900.0).contains("sent 900/s of 1,000/s"));
        // A socket that takes no more is the target's doing, and so is what follows from it.
        assert_eq!(limits(late("socket_full", 900), 500.0), "");
    }
}
