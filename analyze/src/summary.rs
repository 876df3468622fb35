use runlog::{Axis, StepMark};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the JSON form of a summary.
pub const SUMMARY_FORMAT: u32 = 1;

/// Everything an analysis found: the one value that every renderer draws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this form.
    pub format: u32,
    /// What was analysed.
    pub run: RunInfo,
    /// What it comes to.
    pub verdict: Verdict,
    /// One per action and answer; fan-outs also have `:first`, `:median` and `:last`.
    pub series: Vec<Series>,
    /// What the gates did, per action that has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gates>,
    /// sent − intended.
    pub lateness: Lateness,
    /// Operations per second.
    pub rate: RateSummary,
    /// Per consumer.
    pub backlog: Vec<Backlog>,
    /// Per display window and series.
    pub windows: Vec<Window>,
    /// Per bucket and series.
    pub buckets: Vec<Bucket>,
    /// One per scenario of the schedule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scenarios: Vec<ScenarioSummary>,
    /// One per check and answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckCount>,
    /// Of WebSockets, if there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<Sockets>,
    /// What there is to distrust.
    pub evidence: Evidence,
    /// Of a run in steps: each, judged by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Of a run in steps: what they come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
}

/// The runs of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScenarioSummary {
    /// Its name.
    pub name: String,
    /// Those that ended.
    pub runs: u64,
    /// Those of them that a step ended before its time.
    pub failed: u64,
    /// By step: how many it failed, by class.
    pub failed_at: BTreeMap<String, BTreeMap<String, u64>>,
    /// Those that had not ended when observation did.
    pub unresolved: u64,
    /// From the intended time of the first step to the last answer, or to the one that ended it.
    pub response: Percentiles,
}

/// How a check went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckCount {
    /// The answer.
    pub answer: String,
    /// Its name.
    pub name: String,
    /// As written.
    pub check: String,
    /// Answers that it held of.
    pub passed: u64,
    /// Answers that it did not hold of.
    pub failed: u64,
}

/// WebSockets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sockets {
    /// Opened.
    pub opened: u64,
    /// Most that were open at a time.
    pub peak: u64,
    /// Open when the run ended.
    pub at_end: u64,
    /// Ended, by how: the target's close code, `reset`, `protocol`, or `closed by us`.
    pub ended: BTreeMap<String, u64>,
    /// What was pushed over them.
    pub pushes: Vec<Pushes>,
    /// Frames that no answer rule is about.
    pub other_frames: u64,
    /// Open at the end of windows in which that changed: start of the window, how many.
    pub points: Vec<(i64, u64)>,
}

/// What was pushed of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pushes {
    /// The series of the first of each WebSocket; `:gap` and `:staleness` of all.
    pub series: String,
    /// How many.
    pub count: u64,
    /// Median size.
    pub p50_bytes: u64,
    /// 99th percentile of the size.
    pub p99_bytes: u64,
    /// Largest.
    pub max_bytes: u64,
}

/// A stretch of a run at one tempo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When, and at what it aimed.
    pub mark: StepMark,
    /// What its hold comes to.
    pub verdict: Verdict,
    /// Operations per second in its hold: intended, achieved.
    pub rate_per_sec: (f64, f64),
    /// 99th percentile of sent − intended, ns.
    pub late_p99_ns: Option<i64>,
    /// One per action and answer.
    pub series: Vec<Series>,
    /// Per consumer.
    pub backlog: Vec<Backlog>,
    /// Mean and peak CPU by source, cores.
    pub cpu: BTreeMap<String, (f64, f64)>,
}

impl Series {
    /// Whether it is of a scenario, which has a table of its own.
    pub fn is_scenario(&self) -> bool {
        self.name.starts_with("scenario/")
    }
}

impl Step {
    /// What its hold really offered: random arrivals are not quite as many as aimed at.
    pub fn offered(&self) -> f64 {
        if self.mark.axis == Axis::Rate && self.rate_per_sec.0 > 0.0 { self.rate_per_sec.0 } else { self.mark.target }
    }

    /// From the analysis of its hold.
    pub fn new(mark: &StepMark, summary: Summary) -> Step {
        Step {
            mark: mark.clone(),
            verdict: summary.verdict,
            rate_per_sec: (summary.rate.intended_per_sec, summary.rate.achieved_per_sec),
            late_p99_ns: summary.lateness.percentiles.p99_ns,
            series: summary.series,
            backlog: summary.backlog,
            cpu: summary.evidence.cpu,
        }
    }
}

/// How much the target can take under the SLO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// What the numbers count.
    pub axis: Axis,
    /// The most that passes; `None` if no step could say.
    pub answer: Option<f64>,
    /// Of a search: an interval that holds the knee with this probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64, f64)>,
    /// Of a search: how many of how many trials near the answer and not above it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trials: Option<(u32, u32)>,
    /// Whether the smallest step tripped already.
    pub first_trips: bool,
    /// What breaks next: `send/broadcast p95 143ms > 100ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_limit: Option<String>,
    /// Of a search: whether the target fails after an overload what it passed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hysteresis: Option<bool>,
    /// What broke first; `None` where the workload names no stages, or nothing broke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bottleneck: Option<Bottleneck>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// What broke first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bottleneck {
    /// The stages that departed first; more than one if together, none if that cannot be told.
    pub stages: Vec<String>,
    /// `high`, `medium`, `low` or `undetermined`.
    pub confidence: String,
    /// What speaks for it.
    pub evidence: Vec<String>,
    /// What would be needed to know better.
    pub missing: Vec<String>,
}

/// What was analysed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// ULID.
    pub id: String,
    /// The run folder.
    pub folder: String,
    /// `complete`, `interrupted` or `partial`.
    pub state: String,
    /// Name of the workload.
    pub workload: String,
    /// Seed of the schedule.
    pub seed: u64,
    /// Command line of the replay.
    pub command: Vec<String>,
    /// Servers.
    pub target: Vec<String>,
    /// Wall clock at the anchor, epoch ns.
    pub anchor_epoch_ns: i64,
    /// Ops that the schedule, laps and duration called for.
    pub planned_ops: i64,
    /// Ops in the log after the warm-up.
    pub ops: u64,
    /// Ops sent after the warm-up.
    pub sent: u64,
    /// Ops not sent, by reason.
    pub unsent: BTreeMap<String, u64>,
    /// Left out at the start, ns.
    pub warmup_ns: i64,
    /// Length of the windows, ns.
    pub window_ns: i64,
    /// Observed up to here, ns.
    pub observed_ns: i64,
    /// Cores, memory and kernel.
    pub host: String,
    /// What the system granted to the pacer.
    pub granted: String,
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// PASS, TRIP or INCONCLUSIVE.
    pub outcome: Outcome,
    /// One per SLO line.
    pub slos: Vec<SloResult>,
    /// Why it is what it is.
    pub reasons: Vec<String>,
}

/// Three ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// Every line holds, on sound evidence.
    Pass,
    /// A line is breached, on sound evidence.
    Trip,
    /// The evidence does not carry a verdict.
    Inconclusive,
}

/// How a line fared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SloResult {
    /// As written.
    pub line: String,
    /// `met`, `breached` or `undecidable`.
    pub state: LineState,
    /// What was measured, for people.
    pub measured: String,
    /// Why it is undecidable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// State of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineState {
    /// Holds.
    Met,
    /// Does not.
    Breached,
    /// Cannot be told.
    Undecidable,
}

/// A latency distribution with its counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// `send/reply`.
    pub name: String,
    /// Some of its ops waited for an answer, so the target had a say in when they were due.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed_loop: bool,
    /// Answers received, the first copy of each.
    pub count: u64,
    /// In time and no error.
    pub ok: u64,
    /// Observed past the deadline without it.
    pub missing: u64,
    /// After the deadline.
    pub late: u64,
    /// Copies of what had come already.
    pub duplicates: u64,
    /// The target says it had the op already.
    pub repeated: u64,
    /// Not expected: the reply was an error, or the op was not sent.
    pub void: u64,
    /// Observation ended first.
    pub unresolved: u64,
    /// Error answers by class.
    pub errors: BTreeMap<String, u64>,
    /// From the intended time.
    pub response: Percentiles,
    /// From the time sent.
    pub service: Percentiles,
}

/// Percentiles by nearest rank, ns; null where it falls among missing answers, and then `…_over_ns` says what it exceeds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Whether they are exact, or from a histogram of three digits.
    pub exact: bool,
    /// Smallest.
    pub min_ns: Option<i64>,
    /// Median.
    pub p50_ns: Option<i64>,
    /// 90%.
    pub p90_ns: Option<i64>,
    /// 95%.
    pub p95_ns: Option<i64>,
    /// 99%.
    pub p99_ns: Option<i64>,
    /// 99.9%.
    pub p999_ns: Option<i64>,
    /// Largest that came.
    pub max_ns: Option<i64>,
    /// Set where a percentile falls among missing answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_over_ns: Option<i64>,
    /// As above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_over_ns: Option<i64>,
    /// As above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_over_ns: Option<i64>,
    /// As above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_over_ns: Option<i64>,
    /// As above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p999_over_ns: Option<i64>,
    /// The curve: (percentile, ns), from the histogram.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(f64, i64)>,
}

/// Ops of an action that waited for an answer before they were due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gates {
    /// The action.
    pub action: String,
    /// Its gated ops.
    pub ops: u64,
    /// Those whose gate opened.
    pub released: u64,
    /// How far the release came after the op's own time.
    pub slip: Percentiles,
}

/// How late ops were sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lateness {
    /// Its distribution.
    pub percentiles: Percentiles,
    /// What counts as late, ns.
    pub late_ns: i64,
    /// Sends later than that, by cause.
    pub late_by_cause: BTreeMap<String, u64>,
}

/// Operations per second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RateSummary {
    /// Due, over the time in which they were due.
    pub intended_per_sec: f64,
    /// Sent, over the time in which they were due or the time it took, whichever is longer.
    pub achieved_per_sec: f64,
    /// Per window: start, due, sent.
    pub windows: Vec<(i64, u64, u64)>,
}

/// What waits in a consumer: pending and delivered but unacknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backlog {
    /// `STREAM/DURABLE`.
    pub consumer: String,
    /// Most at any sample.
    pub peak: u64,
    /// At the end of sending − at its start.
    pub growth: i64,
    /// Least squares over the time of sending.
    pub slope_per_sec: f64,
    /// From the last send to the first empty sample.
    pub drained_after_ns: Option<i64>,
    /// Most redelivered at any sample.
    pub redelivered: u64,
    /// Samples: time, messages.
    pub points: Vec<(i64, u64)>,
}

/// A series in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Start, ns.
    pub start_ns: i64,
    /// Series.
    pub series: String,
    /// Answers received.
    pub count: u64,
    /// Error answers, late and missing.
    pub errors: u64,
    /// Missing.
    pub missing: u64,
    /// Response time, ns; null where it falls among missing answers or there is none.
    pub p50_ns: Option<i64>,
    /// As above.
    pub p95_ns: Option<i64>,
    /// As above.
    pub p99_ns: Option<i64>,
    /// As above.
    pub max_ns: Option<i64>,
}

/// A series in a bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Bucket.
    pub bucket: String,
    /// Its series.
    pub series: Series,
}

/// What there is to distrust.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Records lost because a buffer was full.
    pub dropped_records: u64,
    /// Messages that carry no id of ours.
    pub foreign: u64,
    /// Answers to ops that are not in the log.
    pub orphans: u64,
    /// By answer: those that came by a key which no op had.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unexpected: BTreeMap<String, u64>,
    /// Sent, but not confirmed before the connection was lost.
    pub unconfirmed: u64,
    /// Connections lost: connection, when, for how long.
    pub gaps: Vec<(u16, i64, i64)>,
    /// What the server complained about.
    pub server_errors: Vec<String>,
    /// First body of each error class.
    pub first_errors: Vec<String>,
    /// Jumps of the wall clock, ns.
    pub clock_steps: Vec<i64>,
    /// Mean and peak CPU by source, cores.
    pub cpu: BTreeMap<String, (f64, f64)>,
    /// Host CPU: time, cores.
    pub host_cpu: Vec<(i64, f64)>,
    /// Largest own memory, bytes.
    pub rss_peak_bytes: u64,
    /// Most records of sends, and of answers, that waited to be logged.
    #[serde(default)]
    pub queued_peak: (u64, u64),
    /// Consumers of the target that were there and vanished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumers_gone: Vec<String>,
    /// Anything else worth knowing.
    pub notes: Vec<String>,
}
