use crate::Error;
use crate::attribution::bottleneck;
use crate::backlog::backlog;
use crate::capacity::capacity;
use crate::checks::checks;
use crate::count::Count;
use crate::frames::{Frames, frames};
use crate::gated::{Gated, gated};
use crate::input::Input;
use crate::samples::{Percentile, Samples};
use crate::scenario::{Runs, scenarios, step_name};
use crate::slo::{Line, Metric};
use crate::spool::Spool;
use crate::summary::{
    self, Bucket, CheckCount, Evidence, Lateness, Percentiles, RateSummary, RunInfo, ScenarioSummary, Series, Step, Summary, Window,
};
use crate::tally::{Cell, Copy, Counts, SeriesKey};
use crate::verdict;
use crate::wave::Grid;
use rayon::prelude::*;
use runlog::{EventKind, Outcome, State, StepMark};
use schedule::{Meta, units};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What is asked of a run. Asked again as often as wanted: nothing is replayed.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Conditions; `None` asks the workload's own.
    pub slo: Option<Vec<Line>>,
    /// Conditions beside `slo`, asked only of series that the schedule has: those of a preset.
    pub slo_where_known: Vec<Line>,
    /// Ops due before are not counted, ns.
    pub warmup_ns: i64,
    /// Length of the windows of charts and tables, ns; `None` is one second, or more for a long run.
    pub window_ns: Option<i64>,
    /// A send that is later than this, by our own fault, speaks against the generator, ns; `None` is [`LATE_NS`].
    pub late_ns: Option<i64>,
    /// Buckets are by the size of the reply, a power of two each, in place of the schedule's.
    pub by_size: bool,
}

/// A send is late that leaves so long after its intended time, ns.
pub const LATE_NS: i64 = 1_000_000;

/// How often a run that goes on is opened anew because a file of it was renamed meanwhile.
const REOPEN_MAX: usize = 5;

/// Most windows of a run; longer runs get longer windows.
const WINDOWS_MAX: i64 = 600;

/// A window whose ops are all counted: its samples are gone.
pub(crate) struct ClosedWindow {
    pub length_ns: i64,
    pub start_ns: i64,
    pub key: SeriesKey,
    pub cell: Cell,
    /// Response percentiles 50, 95 and 99.
    pub shown: [Percentile; 3],
    /// For each SLO line that asks for this window: its percentile.
    pub asked: Vec<(usize, Percentile)>,
}

/// By step of a scenario and class: how many of its runs that ended.
pub(crate) type FailedAt = BTreeMap<(usize, String), u64>;

/// What verdict and summary are made from.
pub(crate) struct Findings {
    pub input: Input,
    pub counts: Counts,
    /// Keyed answers that belong to no op.
    pub unexpected: BTreeMap<u8, u64>,
    pub series: BTreeMap<SeriesKey, Cell>,
    pub buckets: BTreeMap<(SeriesKey, Arc<str>), Cell>,
    pub lateness: Samples,
    /// What counts as late, ns.
    pub late_ns: i64,
    pub windows: Vec<ClosedWindow>,
    pub names: BTreeMap<SeriesKey, String>,
    pub lines: Vec<Line>,
    pub gated: BTreeMap<u16, Gated>,
    pub frames: Frames,
    pub checks: Vec<CheckCount>,
    /// By scenario and step: how many it failed, by class.
    pub failed_at: Vec<FailedAt>,
    pub spool: Spool,
}

/// Analyses a run folder.
///
/// # Errors
/// [`Error`]: the folder is damaged, or an SLO line names no series of the run.
pub fn analyze(dir: &Path, question: &Question) -> Result<Summary, Error> {
    analyze_with(dir, question, &mut |_, _| {})
}

/// As [`analyze`]; `progress` is told how many parts of how many are counted.
///
/// # Errors
/// As [`analyze`].
pub fn analyze_with(dir: &Path, question: &Question, progress: &mut dyn FnMut(u64, u64)) -> Result<Summary, Error> {
    let input = Input::open(dir)?;
    let (marks, stages) = (input.steps.clone(), input.manifest.schedule.stages.clone());
    let due_ns = question.warmup_ns..i64::MAX;
    let mut summary = analyze_input(input, question, &due_ns, progress)?;
    for mark in &marks {
        summary.steps.push(Step::new(mark, analyze_step(dir, question, mark)?));
    }
    if let Some(mut capacity) = capacity(&summary.steps) {
        capacity.bottleneck = bottleneck(&stages, &summary.steps);
        summary.verdict = capacity.verdict();
        summary.capacity = Some(capacity);
    }
    Ok(summary)
}

/// Analyses one step that is over, of a run that may still go on: what was due in its hold.
///
/// # Errors
/// As [`analyze`].
pub fn analyze_step(dir: &Path, question: &Question, mark: &StepMark) -> Result<Summary, Error> {
    let due_ns = mark.hold_from_ns..mark.until_ns;
    for _ in 0..REOPEN_MAX {
        let found =
            Input::open(dir).map_err(Error::from).and_then(|input| analyze_input(input.of_step(mark), question, &due_ns, &mut |_, _| {}));
        match found {
            // A segment was sealed, and got another name, between looking for it and reading it.
            Err(Error::Run(runlog::Error::Io { source, .. })) if source.kind() == ErrorKind::NotFound => {}
            found => return found,
        }
    }
    analyze_input(Input::open(dir)?.of_step(mark), question, &due_ns, &mut |_, _| {})
}

fn analyze_input(input: Input, question: &Question, due_ns: &Range<i64>, progress: &mut dyn FnMut(u64, u64)) -> Result<Summary, Error> {
    let names = names(&input.manifest.schedule);
    let lines = lines(question, &input.manifest.schedule, &names)?;
    let window_ns = question.window_ns.unwrap_or_else(|| default_window_ns(&input)).max(1);
    let mut windows_ns = vec![window_ns];
    windows_ns.extend(lines.iter().filter_map(|l| l.every_ns));
    windows_ns[1..].sort_unstable();
    windows_ns.dedup();
    let grid = Grid { due_ns: due_ns.clone(), windows_ns, late_ns: question.late_ns.unwrap_or(LATE_NS), by_size: question.by_size };
    let mut count = Count::new(&input, &grid, &lines, &names);
    count.all(progress)?;
    let Count { layout, whole, copies, buckets, lateness, counts, closed: windows, spool, unexpected, .. } = count;
    let mut series = BTreeMap::new();
    for (pair, (cell, copies)) in whole.into_iter().zip(copies).enumerate() {
        let (action, answer) = layout.pair(pair);
        let each = [Copy::Each, Copy::First, Copy::Median, Copy::Last].into_iter().zip([cell].into_iter().chain(copies));
        series.extend(each.filter(|(_, cell)| !cell.is_empty()).map(|(copy, cell)| ((action, answer, copy), cell)));
    }
    let mut by_bucket = BTreeMap::new();
    for (name, cells) in buckets {
        for (pair, cell) in cells.into_iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
            let (action, answer) = layout.pair(pair);
            by_bucket.insert(((action, answer, Copy::Each), name.clone()), cell);
        }
    }
    let gated = if counts.gated > 0 { gated(&input, due_ns)? } else { BTreeMap::new() };
    let mut frames = frames(&input, due_ns)?;
    series.append(&mut frames.series);
    let mut failed_at = Vec::new();
    for (i, Runs { cell, failed_at: at }) in (0..).zip(scenarios(&input, due_ns)?) {
        series.insert(scenario_key(&input.manifest.schedule, i), cell);
        failed_at.push(at);
    }
    let checks = checks(&input, due_ns)?;
    let mut findings = Findings {
        input,
        counts,
        unexpected,
        series,
        buckets: by_bucket,
        lateness,
        late_ns: grid.late_ns,
        windows,
        names,
        lines,
        gated,
        frames,
        checks,
        failed_at,
        spool,
    };
    Ok(summarise(&mut findings, due_ns, window_ns))
}

/// Checks the conditions of a question against the series that a schedule can have, before anything is sent.
///
/// # Errors
/// [`Error::Slo`] for a line about another series, naming those that there are.
pub fn check_lines(question: &Question, meta: &Meta) -> Result<(), Error> {
    lines(question, meta, &names(meta)).map(drop)
}

/// Names of the series that the schedule can have.
fn names(meta: &Meta) -> BTreeMap<SeriesKey, String> {
    let mut names = BTreeMap::new();
    for (a, action) in (0u16..).zip(&meta.actions) {
        for &answer in &action.answers {
            let name = meta.series_name(a, answer);
            for (copy, suffix) in [(Copy::Each, ""), (Copy::First, ":first"), (Copy::Median, ":median"), (Copy::Last, ":last")] {
                names.insert((a, answer, copy), format!("{name}{suffix}"));
            }
            if meta.answers[usize::from(answer)].is_push() {
                names.insert((a, answer, Copy::Gap), format!("{name}:gap"));
                names.insert((a, answer, Copy::Staleness), format!("{name}:staleness"));
            }
        }
    }
    for (i, scenario) in (0..).zip(&meta.scenarios) {
        names.insert(scenario_key(meta, i), format!("scenario/{}", scenario.name));
    }
    names
}

/// Scenarios come after all actions, in their order.
fn scenario_key(meta: &Meta, i: u16) -> SeriesKey {
    ((u16::MAX - meta.scenarios.len() as u16).saturating_add(i), 0, Copy::Scenario)
}

/// The lines asked, or those of the workload that name a series of it, or the defaults.
fn lines(question: &Question, meta: &Meta, names: &BTreeMap<SeriesKey, String>) -> Result<Vec<Line>, Error> {
    let known = |line: &Line| line.series.as_ref().is_none_or(|s| names.values().any(|n| n == s));
    let mut lines = match &question.slo {
        Some(lines) => {
            if let Some(line) = lines.iter().find(|l| !known(l)) {
                let plain = names
                    .iter()
                    .filter(|(key, _)| matches!(key.2, Copy::Each | Copy::Scenario))
                    .map(|(_, n)| n.as_str())
                    .collect::<Vec<_>>();
                let what = format!("the run has no such series; there are {}", plain.join(", "));
                return Err(crate::LineError { line: line.to_string(), what }.into());
            }
            lines.clone()
        }
        None => {
            let stored: Result<Vec<Line>, _> = meta.slo.iter().map(|text| text.parse()).collect();
            stored?.into_iter().filter(known).collect()
        }
    };
    lines.extend(question.slo_where_known.iter().filter(|line| known(line)).cloned());
    if lines.is_empty() {
        lines = ["missing == 0", "errors < 0.1%"].iter().map(|text| text.parse().expect("ours")).collect();
    }
    let answerable = meta.actions.iter().any(|a| !a.answers.is_empty());
    if answerable && !lines.iter().any(|l| matches!(l.metric, Metric::Counter(crate::slo::Counter::Answered, _))) {
        lines.push("answered > 0".parse().expect("ours"));
    }
    Ok(lines)
}

fn default_window_ns(input: &Input) -> i64 {
    let seconds = input.observed_ns.max(0) / 1_000_000_000;
    let nice = [1, 2, 5, 10, 30, 60, 300, 600, 3600];
    nice.into_iter().find(|n| seconds / n <= WINDOWS_MAX).unwrap_or(86_400) * 1_000_000_000
}

fn summarise(f: &mut Findings, due_ns: &Range<i64>, window_ns: i64) -> Summary {
    let (names, spool, gated) = (&f.names, &f.spool, &mut f.gated);
    let mut series: Vec<Series> = f.series.par_iter_mut().map(|(key, cell)| series_of(&names[key], cell, spool)).collect();
    for (series, key) in series.iter_mut().zip(f.series.keys()) {
        series.closed_loop = gated.contains_key(&key.0);
    }
    let actions = &f.input.manifest.schedule.actions;
    let gates = gated.iter_mut().map(|(action, gated)| summary::Gates {
        action: actions[usize::from(*action)].name.clone(),
        ops: gated.ops,
        released: gated.released,
        slip: percentiles(&mut gated.slip, 0, 0, spool),
    });
    let gates = gates.collect();
    let sockets = f.frames.summary(names, window_ns, spool);
    let scenarios = scenario_summaries(&f.input.manifest.schedule, &series, &f.failed_at);
    let bucket = |((key, bucket), cell): (&(SeriesKey, Arc<str>), &mut Cell)| Bucket {
        bucket: bucket.to_string(),
        series: series_of(&names[key], cell, spool),
    };
    let buckets = f.buckets.par_iter_mut().map(bucket).collect();
    let lateness = percentiles(&mut f.lateness, 0, 0, spool);
    let rate = rate(f, due_ns, window_ns);
    let sent_until_ns = f.counts.sent_span.map_or(0, |(_, last)| last);
    let backlog = backlog(&f.input.metrics, sent_until_ns);
    let late_by_cause = f.counts.late_by_cause.iter().map(|(cause, n)| ((*cause).to_owned(), *n)).collect();
    let lateness = Lateness { percentiles: lateness, late_ns: f.late_ns, late_by_cause };
    let shown = |p: Percentile| if let Percentile::Value(ns) = p { Some(ns) } else { None };
    let windows = f.windows.iter().filter(|w| w.length_ns == window_ns && w.key.2 == Copy::Each).map(|w| Window {
        start_ns: w.start_ns,
        series: f.names[&w.key].clone(),
        count: w.cell.response.count(),
        errors: w.cell.bad(),
        missing: w.cell.missing,
        p50_ns: shown(w.shown[0]),
        p95_ns: shown(w.shown[1]),
        p99_ns: shown(w.shown[2]),
        max_ns: (w.cell.response.count() > 0).then(|| w.cell.response.max_ns()),
    });
    let mut windows: Vec<Window> = windows.collect();
    windows.sort_by(|a, b| (&a.series, a.start_ns).cmp(&(&b.series, b.start_ns)));
    let evidence = evidence(f);
    let run = run_info(f, due_ns.start, window_ns);
    let verdict = verdict::decide(f, &rate, &backlog, &evidence);
    Summary {
        format: summary::SUMMARY_FORMAT,
        run,
        verdict,
        series,
        gates,
        lateness,
        rate,
        backlog,
        windows,
        buckets,
        scenarios,
        checks: f.checks.clone(),
        sockets,
        evidence,
        steps: Vec::new(),
        capacity: None,
    }
}

/// From the series of each, and from what ended its runs.
fn scenario_summaries(meta: &Meta, series: &[Series], failed_at: &[FailedAt]) -> Vec<ScenarioSummary> {
    let summary = |i: usize, failed: &FailedAt| {
        let scenario = &meta.scenarios[i];
        let series = series.iter().find(|s| s.name == format!("scenario/{}", scenario.name))?;
        let mut by_step: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for ((place, class), n) in failed {
            let step = step_name(meta, i, scenario.actions[*place]).to_owned();
            by_step.entry(step).or_default().insert(class.clone(), *n);
        }
        let failed = failed.values().sum();
        Some(ScenarioSummary {
            name: scenario.name.clone(),
            runs: series.ok + failed,
            failed,
            failed_at: by_step,
            unresolved: series.unresolved,
            response: series.response.clone(),
        })
    };
    failed_at.iter().enumerate().filter_map(|(i, failed)| summary(i, failed)).collect()
}

fn series_of(name: &str, cell: &mut Cell, spool: &Spool) -> Series {
    let (missing, over) = (cell.missing, cell.missing_over_ns);
    Series {
        name: name.to_owned(),
        closed_loop: false,
        count: cell.response.count(),
        ok: cell.ok,
        missing,
        late: cell.late,
        duplicates: cell.duplicates,
        repeated: cell.repeated,
        void: cell.void,
        unresolved: cell.unresolved,
        errors: cell.errors.iter().map(|(class, n)| (class.to_string(), *n)).collect(),
        response: percentiles(&mut cell.response, missing, over, spool),
        service: percentiles(&mut cell.service, missing, over, spool),
    }
}

/// Percentiles of the curve on a log axis.
fn curve_points() -> impl Iterator<Item = f64> {
    (0..=60).map(|i| 100.0 * (1.0 - 10f64.powf(-f64::from(i) / 12.0)))
}

fn percentiles(samples: &mut Samples, missing: u64, timeout_ns: i64, spool: &Spool) -> Percentiles {
    let over_ns = timeout_ns.max(samples.max_ns());
    let n = samples.count() + missing;
    let resolved = |p: &f64| (1.0 - p / 100.0) * n as f64 >= 1.0;
    let any = samples.count() > 0;
    let points: Vec<f64> = if any { curve_points().take_while(resolved).collect() } else { Vec::new() };
    let at = |p: Percentile| match p {
        Percentile::Value(ns) => (Some(ns), None),
        Percentile::Over => (None, Some(over_ns)),
        Percentile::None => (None, None),
    };
    let named = samples.percentiles(&[0.5, 0.9, 0.95, 0.99, 0.999], missing, Some(spool));
    let [p50, p90, p95, p99, p999] = [0, 1, 2, 3, 4].map(|i| at(named[i]));
    let curve = samples.rough_percentiles(&points.iter().map(|p| p / 100.0).collect::<Vec<_>>(), missing);
    let on_curve = |(p, found): (&f64, &Percentile)| if let Percentile::Value(ns) = found { Some((*p, *ns)) } else { None };
    Percentiles {
        exact: samples.is_exact(),
        min_ns: any.then(|| samples.min_ns()),
        p50_ns: p50.0,
        p90_ns: p90.0,
        p95_ns: p95.0,
        p99_ns: p99.0,
        p999_ns: p999.0,
        max_ns: any.then(|| samples.max_ns()),
        p50_over_ns: p50.1,
        p90_over_ns: p90.1,
        p95_over_ns: p95.1,
        p99_over_ns: p99.1,
        p999_over_ns: p999.1,
        curve: points.iter().zip(&curve).filter_map(on_curve).collect(),
    }
}

fn rate(f: &Findings, due_ns: &Range<i64>, window_ns: i64) -> RateSummary {
    let counts = &f.counts;
    let first_ns = counts.rates.keys().next().map_or(0, |w| w.saturating_mul(window_ns)).max(due_ns.start);
    let last_ns = if due_ns.end < i64::MAX { due_ns.end } else { counts.last_intended_ns };
    let seconds = last_ns.saturating_sub(first_ns).max(1_000_000) as f64 / 1e9;
    let took = counts.sent_span.map_or(seconds, |(_, last)| (last.saturating_sub(first_ns) as f64 / 1e9).max(seconds));
    let rounded = |per_sec: f64| (per_sec * 1000.0).round() / 1000.0;
    RateSummary {
        intended_per_sec: rounded(counts.ops as f64 / seconds),
        achieved_per_sec: rounded(counts.sent as f64 / took),
        windows: counts.rates.iter().map(|(w, r)| (w.saturating_mul(window_ns), r.intended, r.sent)).collect(),
    }
}

fn evidence(f: &Findings) -> Evidence {
    let input = &f.input;
    let texts = |kind| {
        let mut texts: Vec<String> = input.events_of(kind).filter_map(|e| e.text.as_deref().map(str::to_owned)).collect();
        texts.dedup();
        texts.truncate(20);
        texts
    };
    let mut cpu: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for metric in input.metrics.iter().filter(|m| &*m.metric == "cpu") {
        cpu.entry(metric.source.to_string()).or_default().push(metric.value);
    }
    let use_of = |values: &[f64]| (values.iter().sum::<f64>() / values.len() as f64, values.iter().copied().fold(0.0, f64::max));
    let host = input.metrics.iter().filter(|m| &*m.source == "host" && &*m.metric == "cpu").map(|m| (m.t_ns, m.value));
    let peak = |metric| input.metrics.iter().filter(|m| &*m.metric == metric).map(|m| m.value as u64).max().unwrap_or(0);
    Evidence {
        dropped_records: input.counter(EventKind::Dropped),
        foreign: input.counter(EventKind::Foreign),
        orphans: f.counts.orphans,
        unexpected: f
            .unexpected
            .iter()
            .map(|(&answer, &n)| (input.manifest.schedule.answers[usize::from(answer)].name.clone(), n))
            .collect(),
        unconfirmed: f.counts.unconfirmed,
        gaps: input.gaps.iter().map(|g| (g.connection, g.lost_ns, g.up_ns.saturating_sub(g.lost_ns))).collect(),
        server_errors: texts(EventKind::ServerError),
        first_errors: texts(EventKind::FirstError),
        clock_steps: input.events_of(EventKind::ClockStep).map(|e| e.value).collect(),
        cpu: cpu.iter().map(|(source, values)| (source.clone(), use_of(values))).collect(),
        host_cpu: host.collect(),
        rss_peak_bytes: peak("rss_bytes"),
        queued_peak: (peak("queued_sends"), peak("queued_answers")),
        consumers_gone: texts(EventKind::ConsumerGone),
        notes: texts(EventKind::Note),
    }
}

fn run_info(f: &Findings, warmup_ns: i64, window_ns: i64) -> RunInfo {
    let (input, counts) = (&f.input, &f.counts);
    let m = &input.manifest;
    let state = match m.state {
        State::Running => "partial",
        State::Complete => "complete",
        State::Interrupted => "interrupted",
    };
    let said = |granted| if granted { "granted" } else { "not granted" };
    let (fifo, awake) = (said(m.granted.sched_fifo), said(m.granted.cpu_dma_latency));
    let granted = format!("SCHED_FIFO {fifo}, cpu_dma_latency 0 {awake}, timer slack {} ns", m.granted.timer_slack_ns);
    RunInfo {
        id: m.run.clone(),
        folder: input.dir.display().to_string(),
        state: state.into(),
        workload: m.schedule.name.clone(),
        seed: m.schedule.seed,
        command: m.command.clone(),
        target: m.target.clone(),
        anchor_epoch_ns: m.anchor_epoch_ns,
        planned_ops: m.planned_ops,
        ops: counts.ops,
        sent: counts.sent,
        unsent: counts.unsent.iter().map(|(outcome, n)| (Outcome::name(*outcome).to_owned(), *n)).collect(),
        warmup_ns,
        window_ns,
        observed_ns: input.observed_ns,
        host: format!("{} cores, {}, {}", m.host.cores, units::show_bytes(m.host.memory_bytes), m.host.kernel),
        granted,
    }
}
