use crate::samples::Samples;
use runlog::Flags;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is counted of a series, a window or a bucket. A value with `add` and `merge`.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// Answers that came in time and are no error.
    pub ok: u64,
    /// Error answers by class.
    pub errors: BTreeMap<Arc<str>, u64>,
    /// Answers after their deadline.
    pub late: u64,
    /// Answers that did not come although observed past the deadline.
    pub missing: u64,
    /// Copies of an answer that had already come.
    pub duplicates: u64,
    /// Answers by which the target says that it had the op already.
    pub repeated: u64,
    /// Not expected, because the reply was an error or the op was not sent.
    pub void: u64,
    /// Observation ended first.
    pub unresolved: u64,
    /// Largest timeout of an answer counted as missing, ns.
    pub missing_over_ns: i64,
    /// received − intended.
    pub response: Samples,
    /// received − sent.
    pub service: Samples,
}

impl Cell {
    /// Adds all that another counted.
    pub fn merge(&mut self, other: Cell) {
        self.ok += other.ok;
        for (class, n) in other.errors {
            *self.errors.entry(class).or_default() += n;
        }
        self.late += other.late;
        self.missing += other.missing;
        self.duplicates += other.duplicates;
        self.repeated += other.repeated;
        self.void += other.void;
        self.unresolved += other.unresolved;
        self.missing_over_ns = self.missing_over_ns.max(other.missing_over_ns);
        self.response.merge(other.response);
        self.service.merge(other.service);
    }

    /// Answers with an error status.
    pub fn error_answers(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Everything that was not good: error answers, late and missing ones.
    pub fn bad(&self) -> u64 {
        self.error_answers() + self.late + self.missing
    }

    /// Answers that came or should have come.
    pub fn due(&self) -> u64 {
        self.response.count() + self.missing
    }
}

/// First, median or last copy of a fan-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Copy {
    /// Every copy is a sample.
    Each,
    /// The first of an op to arrive.
    First,
    /// The middle one.
    Median,
    /// The last one.
    Last,
}

/// Which distribution: (action, answer, copy).
pub type SeriesKey = (u16, u8, Copy);

/// Intended and achieved ops of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// Due in the window.
    pub intended: u64,
    /// Sent in the window.
    pub sent: u64,
}

/// What an analysis counts.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Whole run.
    pub series: BTreeMap<SeriesKey, Cell>,
    /// By window length, index and series.
    pub windows: BTreeMap<(i64, i64, SeriesKey), Cell>,
    /// By bucket.
    pub buckets: BTreeMap<(SeriesKey, Arc<str>), Cell>,
    /// Intended and sent per display window.
    pub rates: BTreeMap<i64, Rate>,
    /// Ops by action.
    pub ops: BTreeMap<u16, u64>,
    /// Ops not sent, by outcome.
    pub unsent: BTreeMap<u8, u64>,
    /// Ops that were sent.
    pub sent: u64,
    /// Sent, but not confirmed before the connection was lost.
    pub unconfirmed: u64,
    /// sent − intended.
    pub lateness: Samples,
    /// Sends later than a millisecond, by cause.
    pub late_by_cause: BTreeMap<&'static str, u64>,
    /// Answers to ops that are not in the log.
    pub orphans: u64,
    /// Latest time at which an op was due, ns.
    pub last_intended_ns: i64,
    /// First and last sent time, ns.
    pub sent_span: Option<(i64, i64)>,
}

impl Tally {
    /// Adds all that another counted.
    pub fn merge(&mut self, other: Tally) {
        merge_cells(&mut self.series, other.series);
        merge_cells(&mut self.windows, other.windows);
        merge_cells(&mut self.buckets, other.buckets);
        for (window, rate) in other.rates {
            let mine = self.rates.entry(window).or_default();
            mine.intended += rate.intended;
            mine.sent += rate.sent;
        }
        other.ops.into_iter().for_each(|(action, n)| *self.ops.entry(action).or_default() += n);
        other.unsent.into_iter().for_each(|(outcome, n)| *self.unsent.entry(outcome).or_default() += n);
        other.late_by_cause.into_iter().for_each(|(cause, n)| *self.late_by_cause.entry(cause).or_default() += n);
        self.sent += other.sent;
        self.unconfirmed += other.unconfirmed;
        self.lateness.merge(other.lateness);
        self.orphans += other.orphans;
        self.last_intended_ns = self.last_intended_ns.max(other.last_intended_ns);
        self.sent_span = match (self.sent_span, other.sent_span) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }

    /// Ops not sent.
    pub fn unsent_ops(&self) -> u64 {
        self.unsent.values().sum()
    }
}

fn merge_cells<K: Ord>(into: &mut BTreeMap<K, Cell>, from: BTreeMap<K, Cell>) {
    for (key, cell) in from {
        match into.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(cell)),
            std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().merge(cell),
        }
    }
}

/// Sends later than this are counted by cause, ns.
pub const LATE_NS: i64 = 1_000_000;

/// The first cause that applies.
pub fn cause(flags: u16) -> &'static str {
    [
        (Flags::DISCONNECTED, "disconnected"),
        (Flags::SOCKET_FULL, "socket_full"),
        (Flags::LOADER_LATE, "loader_late"),
        (Flags::WOKE_LATE, "woke_late"),
    ]
    .into_iter()
    .find_map(|(flag, name)| (flags & flag != 0).then_some(name))
    .unwrap_or("unknown")
}
