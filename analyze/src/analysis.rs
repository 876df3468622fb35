use crate::Error;
use crate::backlog::backlog;
use crate::input::Input;
use crate::samples::{Percentile, Samples};
use crate::slo::{Line, Metric};
use crate::summary::{self, Bucket, Evidence, Lateness, Percentiles, RateSummary, RunInfo, Series, Summary, Window};
use crate::tally::{Cell, Copy, SeriesKey, Tally};
use crate::verdict;
use crate::wave::{self, Grid, WAVE_OPS};
use rayon::prelude::*;
use runlog::{EventKind, Manifest, Outcome, State};
use schedule::units;
use std::collections::BTreeMap;
use std::path::Path;

/// What is asked of a run. Asked again as often as wanted: nothing is replayed.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Conditions; `None` asks the workload's own.
    pub slo: Option<Vec<Line>>,
    /// Ops due before are not counted, ns.
    pub warmup_ns: i64,
    /// Length of the windows of charts and tables, ns; `None` is one second, or more for a long run.
    pub window_ns: Option<i64>,
}

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

/// What verdict and summary are made from.
pub(crate) struct Findings {
    pub input: Input,
    pub tally: Tally,
    pub windows: Vec<ClosedWindow>,
    pub names: BTreeMap<SeriesKey, String>,
    pub lines: Vec<Line>,
}

/// Analyses a run folder.
///
/// # Errors
/// [`Error`]: the folder is damaged, or an SLO line names no series of the run.
pub fn analyze(dir: &Path, question: &Question) -> Result<Summary, Error> {
    analyze_with(dir, question, &mut |_, _| {})
}

/// As [`analyze`]; `progress` is told how many ops of how many are counted.
///
/// # Errors
/// As [`analyze`].
pub fn analyze_with(dir: &Path, question: &Question, progress: &mut dyn FnMut(u64, u64)) -> Result<Summary, Error> {
    let input = Input::open(dir)?;
    let names = names(&input.manifest);
    let lines = lines(question, &input.manifest, &names)?;
    let window_ns = question.window_ns.unwrap_or_else(|| default_window_ns(&input)).max(1);
    let mut windows_ns = vec![window_ns];
    windows_ns.extend(lines.iter().filter_map(|l| l.every_ns));
    windows_ns[1..].sort_unstable();
    windows_ns.dedup();
    let grid = Grid { warmup_ns: question.warmup_ns, windows_ns };
    let (tally, windows) = count(&input, &grid, &lines, &names, progress)?;
    let mut findings = Findings { input, tally, windows, names, lines };
    Ok(summarise(&mut findings, question.warmup_ns, window_ns))
}

/// All waves, a few at a time, merged in the order of ops; windows are closed as soon as no later op can fall into them.
fn count(
    input: &Input,
    grid: &Grid,
    lines: &[Line],
    names: &BTreeMap<SeriesKey, String>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Tally, Vec<ClosedWindow>), Error> {
    let (mut tally, mut closed) = (Tally::default(), Vec::new());
    let Some(first) = input.sends.iter().map(|c| c.min_op).min() else { return Ok((tally, closed)) };
    let last = input.sends.iter().map(|c| c.max_op).max().unwrap_or(first);
    let starts: Vec<i64> = (first..=last).step_by(WAVE_OPS as usize).collect();
    for group in starts.chunks(rayon::current_num_threads()) {
        progress((group[0] - first) as u64, (last - first + 1) as u64);
        let waves: Vec<Tally> = group.par_iter().map(|&start| wave::tally(input, grid, start)).collect::<Result<_, _>>()?;
        for wave in waves {
            tally.merge(wave);
            let done_ns = tally.last_intended_ns;
            close(&mut tally, &mut closed, lines, names, |length, window| (window + 1) * length <= done_ns);
        }
    }
    close(&mut tally, &mut closed, lines, names, |_, _| true);
    Ok((tally, closed))
}

fn close(
    tally: &mut Tally,
    closed: &mut Vec<ClosedWindow>,
    lines: &[Line],
    names: &BTreeMap<SeriesKey, String>,
    done: impl Fn(i64, i64) -> bool,
) {
    let keys: Vec<_> = tally.windows.keys().filter(|(length, window, _)| done(*length, *window)).copied().collect();
    for (length_ns, window, key) in keys {
        let mut cell = tally.windows.remove(&(length_ns, window, key)).expect("just listed");
        let missing = cell.missing;
        let asked = lines.iter().enumerate().filter_map(|(i, line)| match line.metric {
            Metric::Latency { quantile, service } if line.every_ns == Some(length_ns) && line.series.as_ref() == names.get(&key) => {
                let samples = if service { &mut cell.service } else { &mut cell.response };
                Some((i, samples.percentile(quantile, missing)))
            }
            _ => None,
        });
        let asked = asked.collect();
        let shown = [0.5, 0.95, 0.99].map(|q| cell.response.percentile(q, missing));
        // The counts and the maximum stay; the values go.
        let max_ns = cell.response.max_ns();
        let count = cell.response.count();
        (cell.response, cell.service) = (Samples::counted(count, max_ns), Samples::default());
        closed.push(ClosedWindow { length_ns, start_ns: window * length_ns, key, cell, shown, asked });
    }
}

/// Names of the series that the schedule can have.
fn names(manifest: &Manifest) -> BTreeMap<SeriesKey, String> {
    let meta = &manifest.schedule;
    let mut names = BTreeMap::new();
    for (a, action) in (0u16..).zip(&meta.actions) {
        for &answer in &action.answers {
            let name = meta.series_name(a, answer);
            for (copy, suffix) in [(Copy::Each, ""), (Copy::First, ":first"), (Copy::Median, ":median"), (Copy::Last, ":last")] {
                names.insert((a, answer, copy), format!("{name}{suffix}"));
            }
        }
    }
    names
}

/// The lines asked, or those of the workload that name a series of it, or the defaults.
fn lines(question: &Question, manifest: &Manifest, names: &BTreeMap<SeriesKey, String>) -> Result<Vec<Line>, Error> {
    let known = |line: &Line| line.series.as_ref().is_none_or(|s| names.values().any(|n| n == s));
    let mut lines = match &question.slo {
        Some(lines) => {
            if let Some(line) = lines.iter().find(|l| !known(l)) {
                let plain = names.iter().filter(|(key, _)| key.2 == Copy::Each).map(|(_, n)| n.as_str()).collect::<Vec<_>>();
                let what = format!("the run has no such series; there are {}", plain.join(", "));
                return Err(crate::LineError { line: line.to_string(), what }.into());
            }
            lines.clone()
        }
        None => {
            let stored: Result<Vec<Line>, _> = manifest.schedule.slo.iter().map(|text| text.parse()).collect();
            stored?.into_iter().filter(known).collect()
        }
    };
    if lines.is_empty() {
        lines = ["missing == 0", "errors < 0.1%"].iter().map(|text| text.parse().expect("ours")).collect();
    }
    let answerable = manifest.schedule.actions.iter().any(|a| !a.answers.is_empty());
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

fn summarise(f: &mut Findings, warmup_ns: i64, window_ns: i64) -> Summary {
    let mut series: Vec<Series> = Vec::new();
    for (key, cell) in &mut f.tally.series {
        series.push(series_of(&f.names[key], cell));
    }
    let buckets = f
        .tally
        .buckets
        .iter_mut()
        .map(|((key, bucket), cell)| Bucket { bucket: bucket.to_string(), series: series_of(&f.names[key], cell) });
    let buckets = buckets.collect();
    let rate = rate(f, window_ns);
    let sent_until_ns = f.tally.sent_span.map_or(0, |(_, last)| last);
    let backlog = backlog(&f.input.metrics, sent_until_ns);
    let late_by_cause = f.tally.late_by_cause.iter().map(|(cause, n)| ((*cause).to_owned(), *n)).collect();
    let lateness = Lateness { percentiles: percentiles(&mut f.tally.lateness, 0, 0), late_by_cause };
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
    let run = run_info(f, warmup_ns, window_ns);
    let verdict = verdict::decide(f, &rate, &backlog, &evidence);
    Summary { format: summary::SUMMARY_FORMAT, run, verdict, series, lateness, rate, backlog, windows, buckets, evidence }
}

fn series_of(name: &str, cell: &mut Cell) -> Series {
    let (missing, over) = (cell.missing, cell.missing_over_ns);
    Series {
        name: name.to_owned(),
        count: cell.response.count(),
        ok: cell.ok,
        missing,
        late: cell.late,
        duplicates: cell.duplicates,
        repeated: cell.repeated,
        void: cell.void,
        unresolved: cell.unresolved,
        errors: cell.errors.iter().map(|(class, n)| (class.to_string(), *n)).collect(),
        response: percentiles(&mut cell.response, missing, over),
        service: percentiles(&mut cell.service, missing, over),
    }
}

/// Percentiles of the curve on a log axis.
fn curve_points() -> impl Iterator<Item = f64> {
    (0..=60).map(|i| 100.0 * (1.0 - 10f64.powf(-f64::from(i) / 12.0)))
}

fn percentiles(samples: &mut Samples, missing: u64, timeout_ns: i64) -> Percentiles {
    let over_ns = timeout_ns.max(samples.max_ns());
    let mut at = |q: f64| match samples.percentile(q, missing) {
        Percentile::Value(ns) => (Some(ns), None),
        Percentile::Over => (None, Some(over_ns)),
        Percentile::None => (None, None),
    };
    let [p50, p90, p95, p99, p999] = [0.5, 0.9, 0.95, 0.99, 0.999].map(&mut at);
    let any = samples.count() > 0;
    let curve = if any {
        let n = samples.count() + missing;
        let resolved = |p: &f64| (1.0 - p / 100.0) * n as f64 >= 1.0;
        let points: Vec<f64> = curve_points().take_while(resolved).collect();
        points
            .into_iter()
            .filter_map(|p| if let Percentile::Value(ns) = samples.percentile(p / 100.0, missing) { Some((p, ns)) } else { None })
            .collect()
    } else {
        Vec::new()
    };
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
        curve,
    }
}

fn rate(f: &Findings, window_ns: i64) -> RateSummary {
    let tally = &f.tally;
    let due: u64 = tally.ops.values().sum();
    let first_ns = tally.rates.keys().next().map_or(0, |w| w * window_ns).max(0);
    let seconds = (tally.last_intended_ns - first_ns).max(1_000_000) as f64 / 1e9;
    let took = tally.sent_span.map_or(seconds, |(_, last)| ((last - first_ns) as f64 / 1e9).max(seconds));
    let rounded = |per_sec: f64| (per_sec * 1000.0).round() / 1000.0;
    RateSummary {
        intended_per_sec: rounded(due as f64 / seconds),
        achieved_per_sec: rounded(tally.sent as f64 / took),
        windows: tally.rates.iter().map(|(w, r)| (w * window_ns, r.intended, r.sent)).collect(),
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
    let rss = input.metrics.iter().filter(|m| &*m.metric == "rss_bytes").map(|m| m.value as u64).max();
    Evidence {
        dropped_records: input.counter(EventKind::Dropped),
        foreign: input.counter(EventKind::Foreign),
        orphans: f.tally.orphans,
        unconfirmed: f.tally.unconfirmed,
        gaps: input.gaps.iter().map(|g| (g.connection, g.lost_ns, g.up_ns - g.lost_ns)).collect(),
        server_errors: texts(EventKind::ServerError),
        first_errors: texts(EventKind::FirstError),
        clock_steps: input.events_of(EventKind::ClockStep).map(|e| e.value).collect(),
        cpu: cpu.iter().map(|(source, values)| (source.clone(), use_of(values))).collect(),
        host_cpu: host.collect(),
        rss_peak_bytes: rss.unwrap_or(0),
        notes: texts(EventKind::Note),
    }
}

fn run_info(f: &Findings, warmup_ns: i64, window_ns: i64) -> RunInfo {
    let (input, tally) = (&f.input, &f.tally);
    let m = &input.manifest;
    let state = match m.state {
        State::Running => "partial",
        State::Complete => "complete",
        State::Interrupted => "interrupted",
    };
    let granted =
        format!("SCHED_FIFO {}, timer slack {} ns", if m.granted.sched_fifo { "granted" } else { "not granted" }, m.granted.timer_slack_ns);
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
        ops: tally.ops.values().sum(),
        sent: tally.sent,
        unsent: tally.unsent.iter().map(|(outcome, n)| (Outcome::name(*outcome).to_owned(), *n)).collect(),
        warmup_ns,
        window_ns,
        observed_ns: input.observed_ns,
        host: format!("{} cores, {}, {}", m.host.cores, units::show_bytes(m.host.memory_bytes), m.host.kernel),
        granted,
    }
}
