use crate::{Bucket, Capacity, LineState, Outcome, Percentiles, Series, Summary};
use schedule::units::{show_bytes, show_count, show_ns, show_rate};
use std::fmt::Write;

/// The report for a terminal, at most 110 columns.
pub fn text(summary: &Summary) -> String {
    let mut out = String::new();
    head(summary, &mut out);
    series_table(summary, &mut out);
    buckets_table(summary, &mut out);
    out += &super::web::text(summary);
    counts(summary, &mut out);
    own(summary, &mut out);
    backlog(summary, &mut out);
    match &summary.capacity {
        Some(capacity) => steps(summary, capacity, &mut out),
        None => verdict(summary, &mut out),
    }
    out
}

/// Writing to a String does not fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => { writeln!($out, $($arg)*).expect("a String takes all") };
}

fn head(s: &Summary, out: &mut String) {
    let state = if s.run.state == "complete" { String::new() } else { format!(" ({})", s.run.state) };
    line!(out, "{} · seed {} · {} ops in {}{state}", s.run.workload, s.run.seed, show_count(s.run.ops), show_ns(s.run.observed_ns));
    line!(out, "{}", s.run.target.join(", "));
    line!(out, "rate: {} intended, {} achieved", show_rate(s.rate.intended_per_sec), show_rate(s.rate.achieved_per_sec));
    if s.run.warmup_ns > 0 {
        line!(out, "warm-up left out: {}", show_ns(s.run.warmup_ns));
    }
}

fn series_table(s: &Summary, out: &mut String) {
    let width = s.series.iter().filter(|x| !x.is_scenario()).map(|x| x.name.len()).max().unwrap_or(6).max(6);
    line!(
        out,
        "\n{:width$}  {:8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "series",
        "time",
        "count",
        "p50",
        "p90",
        "p95",
        "p99",
        "p99.9",
        "max"
    );
    for series in s.series.iter().filter(|x| !x.is_scenario()) {
        // Gaps, staleness and whole scenarios have no time of their own beside it.
        let rows = [(series.name.as_str(), "response", &series.response), ("", "service", &series.service)];
        for (name, label, p) in rows.into_iter().filter(|(_, label, p)| *label == "response" || p.max_ns.is_some() || series.count == 0) {
            let [p50, p90, p95, p99, p999] = percentile_cells(p);
            let max = p.max_ns.map_or_else(|| "-".into(), show_ns);
            let count = if name.is_empty() { String::new() } else { show_count(series.count) };
            line!(out, "{name:width$}  {label:8} {count:>9} {p50:>9} {p90:>9} {p95:>9} {p99:>9} {p999:>9} {max:>9}");
        }
    }
}

/// Response times by bucket, and what went wrong there.
fn buckets_table(s: &Summary, out: &mut String) {
    let shown = || s.buckets.iter().filter(|b| !b.series.name.contains(':'));
    let name = |b: &Bucket| format!("{}{{{}}}", b.series.name, b.bucket);
    let Some(width) = shown().map(|b| name(b).chars().count()).max() else { return };
    let width = width.max(6);
    line!(out, "\n{:width$} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}", "bucket", "count", "p50", "p95", "p99", "missing", "errors");
    for bucket in shown() {
        let [p50, _, p95, p99, _] = percentile_cells(&bucket.series.response);
        let (count, missing) = (show_count(bucket.series.count), show_count(bucket.series.missing));
        let errors = show_count(bucket.series.errors.values().sum());
        line!(out, "{:width$} {count:>9} {p50:>9} {p95:>9} {p99:>9} {missing:>9} {errors:>9}", name(bucket));
    }
}

/// `58 bind_failed (the answer waited for has not the value to be taken from it)`.
pub(crate) fn unsent_words(s: &Summary) -> Vec<String> {
    let why = |outcome: &str| match outcome {
        "cancelled" => "the run was ended first",
        "disconnected" => "the connection was down",
        "overflow" => "too much waited to be sent",
        "too_large" => "larger than the server takes",
        "gate_failed" => "the answer waited for did not come in time, or was an error",
        "dependency_not_sent" => "the op waited for was not sent",
        "bind_failed" => "the answer waited for has not the value to be taken from it",
        _ => "",
    };
    s.run.unsent.iter().map(|(outcome, n)| format!("{} {outcome} ({})", show_count(*n), why(outcome))).collect()
}

/// `12 state`: answers by a key that no op had.
pub(crate) fn unexpected_words(s: &Summary) -> Vec<String> {
    s.evidence.unexpected.iter().map(|(answer, n)| format!("{} {answer}", show_count(*n))).collect()
}

/// `12.3ms`, `> 5.00s` where it falls among missing answers, `-` without samples.
pub(crate) fn percentile_cells(p: &Percentiles) -> [String; 5] {
    let cell = |ns: Option<i64>, over: Option<i64>| match (ns, over) {
        (Some(ns), _) => show_ns(ns),
        (None, Some(over)) => format!("> {}", show_ns(over)),
        (None, None) => "-".into(),
    };
    [
        cell(p.p50_ns, p.p50_over_ns),
        cell(p.p90_ns, p.p90_over_ns),
        cell(p.p95_ns, p.p95_over_ns),
        cell(p.p99_ns, p.p99_over_ns),
        cell(p.p999_ns, p.p999_over_ns),
    ]
}

fn counts(s: &Summary, out: &mut String) {
    line!(out, "");
    for series in s.series.iter().filter(|x| !x.name.contains(':') && !x.is_scenario()) {
        line!(out, "{}: {}", series.name, count_words(series));
    }
    for g in &s.gates {
        let [p50, _, _, p99, _] = percentile_cells(&g.slip);
        let (ops, released) = (show_count(g.ops), show_count(g.released));
        line!(out, "closed loop: {ops} ops of {} waited for an answer, {released} were released; slip p50 {p50}, p99 {p99}", g.action);
    }
    let (unsent, unexpected) = (unsent_words(s), unexpected_words(s));
    if !unsent.is_empty() {
        line!(out, "not sent: {}", unsent.join(", "));
    }
    if !unexpected.is_empty() {
        line!(out, "unexpected, by no op's key: {}", unexpected.join(", "));
    }
}

/// `29,990 ok, 3 late, missing 0, duplicates 0`.
pub(crate) fn count_words(series: &Series) -> String {
    let mut words = vec![format!("{} ok", show_count(series.ok))];
    words.extend(series.errors.iter().map(|(class, n)| format!("{} error {class}", show_count(*n))));
    let optional = [("late", series.late), ("void", series.void), ("unresolved", series.unresolved), ("repeated", series.repeated)];
    words.extend(optional.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{} {name}", show_count(*n))));
    words.push(format!("missing {}", show_count(series.missing)));
    words.push(format!("duplicates {}", show_count(series.duplicates)));
    words.join(", ")
}

fn own(s: &Summary, out: &mut String) {
    let p = &s.lateness.percentiles;
    let at = |ns: Option<i64>| ns.map_or_else(|| "-".into(), show_ns);
    let causes: Vec<String> = s.lateness.late_by_cause.iter().map(|(cause, n)| format!("{} {cause}", show_count(*n))).collect();
    let causes = if causes.is_empty() { String::new() } else { format!("; over {}: {}", show_ns(s.lateness.late_ns), causes.join(", ")) };
    line!(out, "lateness: p50 {}, p99 {}, max {}{causes}", at(p.p50_ns), at(p.p99_ns), at(p.max_ns));
    let cpu = |source: &str| s.evidence.cpu.get(source).map_or_else(|| "-".into(), |(mean, _)| format!("{mean:.2}"));
    let rss = show_bytes(s.evidence.rss_peak_bytes);
    line!(
        out,
        "own CPU: {} cores (pacer {}), memory {rss}; host {} cores busy; {}",
        cpu("self"),
        cpu("thread:pacer"),
        cpu("host"),
        s.run.granted
    );
}

fn backlog(s: &Summary, out: &mut String) {
    for b in &s.backlog {
        let drained = b.drained_after_ns.map_or_else(|| "not drained".into(), |ns| format!("drained after {}", show_ns(ns)));
        line!(out, "backlog {}: peak {}, growth {}, {drained}, redelivered {}", b.consumer, show_count(b.peak), b.growth, b.redelivered);
    }
}

/// Each step, and what they come to.
fn steps(s: &Summary, capacity: &Capacity, out: &mut String) {
    line!(
        out,
        "\n{:>4}  {:>12}  {:12}  {:>10}  {:>9}  {:>9}  {:>8}",
        "step",
        "target",
        "verdict",
        "achieved",
        "late p99",
        "missing",
        "errors"
    );
    for step in &s.steps {
        let each = || step.series.iter().filter(|x| !x.name.contains(':'));
        let target = crate::capacity::show_target(step.mark.axis, step.mark.target);
        let late = step.late_p99_ns.map_or_else(|| "-".into(), show_ns);
        let missing = show_count(each().map(|x| x.missing).sum());
        let errors = show_count(each().map(|x| x.late + x.errors.values().sum::<u64>()).sum());
        let (outcome, achieved) = (outcome_name(step.verdict.outcome), show_rate(step.rate_per_sec.1));
        line!(out, "{:>4}  {target:>12}  {outcome:12}  {achieved:>10}  {late:>9}  {missing:>9}  {errors:>8}", step.mark.number);
        for series in each() {
            let [p50, _, p95, p99, _] = percentile_cells(&series.response);
            line!(out, "      {:>26}  p50 {p50}, p95 {p95}, p99 {p99}", series.name);
        }
        if step.verdict.outcome != Outcome::Pass {
            line!(out, "      {}", step.verdict.reasons.first().map_or("", String::as_str));
        }
    }
    line!(out, "\nANSWER: {}", s.verdict.reasons.first().map_or("", String::as_str));
    if let Some(limit) = &capacity.next_limit {
        line!(out, "Next limit: {limit}");
    }
    if let Some(bottleneck) = &capacity.bottleneck {
        line!(out, "BOTTLENECK: {}", bottleneck.words());
        bottleneck.missing.iter().filter(|_| !bottleneck.stages.is_empty()).for_each(|missing| line!(out, "  - {missing}"));
    }
    for note in capacity.notes.iter().chain(&s.evidence.notes) {
        line!(out, "  - {note}");
    }
}

fn verdict(s: &Summary, out: &mut String) {
    line!(out, "");
    for slo in &s.verdict.slos {
        let mark = match slo.state {
            LineState::Met => "met        ",
            LineState::Breached => "BREACHED   ",
            LineState::Undecidable => "undecidable",
        };
        line!(out, "{mark}  {}  ({})", slo.line, slo.measured);
    }
    line!(out, "\nVERDICT: {}", outcome_name(s.verdict.outcome));
    for reason in &s.verdict.reasons {
        line!(out, "  - {reason}");
    }
    for error in &s.evidence.first_errors {
        line!(out, "  first error: {error}");
    }
    for note in s.evidence.server_errors.iter().chain(&s.evidence.notes) {
        line!(out, "  note: {note}");
    }
}

/// `PASS`, `TRIP` or `INCONCLUSIVE`.
pub fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "PASS",
        Outcome::Trip => "TRIP",
        Outcome::Inconclusive => "INCONCLUSIVE",
    }
}
