use crate::samples::Samples;
use runlog::Flags;
use schedule::Meta;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.response.count() + self.missing + self.void + self.unresolved + self.duplicates == 0
    }

    /// An empty one with room for as many values.
    pub(crate) fn of_same_size(&self) -> Cell {
        Cell { response: self.response.of_same_size(), service: self.service.of_same_size(), ..Cell::default() }
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

/// First, median or last copy of a fan-out; what pushes have beside; a whole scenario.
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
    /// From one push to the next over the same WebSocket.
    Gap,
    /// From the time at which the target made a push to its receipt.
    Staleness,
    /// Runs of a scenario: the action is a number above those of all actions.
    Scenario,
}

/// Which distribution: (action, answer, copy).
pub type SeriesKey = (u16, u8, Copy);

/// Cells by number instead of by key: the tables of one schedule are small.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub actions: usize,
    pub answers: usize,
}

impl Layout {
    /// Of the tables of a schedule.
    pub fn of(schedule: &Meta) -> Layout {
        Layout { actions: schedule.actions.len(), answers: schedule.answers.len() }
    }

    /// Number of (action, answer).
    pub fn len(self) -> usize {
        self.actions * self.answers
    }

    /// Number of a pair; the action and the answer are in the tables.
    pub fn at(self, action: u16, answer: u8) -> usize {
        usize::from(action) * self.answers + usize::from(answer)
    }

    /// What number `i` stands for.
    pub fn pair(self, i: usize) -> (u16, u8) {
        ((i / self.answers) as u16, (i % self.answers) as u8)
    }

    pub fn cells(self) -> Vec<Cell> {
        vec![Cell::default(); self.len()]
    }
}

/// Cells by window length, ns, and index.
pub(crate) type Windows = BTreeMap<(i64, i64), Vec<Cell>>;

/// First, median and last copies of fan-outs.
pub(crate) type Copies = [Cell; 3];

/// Intended and achieved ops of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// Due in the window.
    pub intended: u64,
    /// Sent in the window.
    pub sent: u64,
}

/// What a range of ops counts. Cells are by number of [`Layout`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub windows: Windows,
    /// Whole run, of fan-outs.
    pub copies: Vec<Copies>,
    /// Whole run, by bucket.
    pub buckets: BTreeMap<Arc<str>, Vec<Cell>>,
    /// sent − intended.
    pub lateness: Samples,
    pub counts: Counts,
}

impl Tally {
    pub fn new(layout: Layout) -> Tally {
        Tally { copies: vec![Copies::default(); layout.len()], ..Tally::default() }
    }
}

/// What a range of ops counts, of whatever action.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Intended and sent per display window.
    pub rates: BTreeMap<i64, Rate>,
    /// Ops.
    pub ops: u64,
    /// Ops not sent, by outcome.
    pub unsent: BTreeMap<u8, u64>,
    /// Ops that were sent.
    pub sent: u64,
    /// Sent, but not confirmed before the connection was lost.
    pub unconfirmed: u64,
    /// Sends later than a millisecond, by cause.
    pub late_by_cause: BTreeMap<&'static str, u64>,
    /// The latest send of those that were late by our own fault, ns.
    pub own_late_max_ns: i64,
    /// Answers to ops that are not in the log, or of another action.
    pub orphans: u64,
    /// Latest time at which an op was due, ns.
    pub last_intended_ns: i64,
    /// The same without gated ops: no later op is due before it, ns.
    pub passed_ns: i64,
    /// Ops that had to wait for an answer.
    pub gated: u64,
    /// First and last sent time, ns.
    pub sent_span: Option<(i64, i64)>,
}

impl Counts {
    /// Adds all that another counted.
    pub fn merge(&mut self, other: Counts) {
        for (window, rate) in other.rates {
            let mine = self.rates.entry(window).or_default();
            mine.intended += rate.intended;
            mine.sent += rate.sent;
        }
        other.unsent.into_iter().for_each(|(outcome, n)| *self.unsent.entry(outcome).or_default() += n);
        other.late_by_cause.into_iter().for_each(|(cause, n)| *self.late_by_cause.entry(cause).or_default() += n);
        self.own_late_max_ns = self.own_late_max_ns.max(other.own_late_max_ns);
        self.ops += other.ops;
        self.sent += other.sent;
        self.unconfirmed += other.unconfirmed;
        self.orphans += other.orphans;
        self.last_intended_ns = self.last_intended_ns.max(other.last_intended_ns);
        self.passed_ns = self.passed_ns.max(other.passed_ns);
        self.gated += other.gated;
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

/// Adds the cells of a window to those it has.
pub(crate) fn merge_window(windows: &mut Windows, key: (i64, i64), cells: Vec<Cell>) {
    match windows.entry(key) {
        Entry::Vacant(entry) => drop(entry.insert(cells)),
        Entry::Occupied(mut entry) => merge_cells(entry.get_mut(), cells),
    }
}

/// Adds cells to those of the same number.
pub(crate) fn merge_cells(into: &mut [Cell], from: Vec<Cell>) {
    into.iter_mut().zip(from).for_each(|(mine, theirs)| mine.merge(theirs));
}

/// Causes that are ours, not the target's.
pub const OWN_CAUSES: [&str; 2] = ["woke_late", "loader_late"];

/// The first cause that applies.
pub fn cause(flags: u16) -> &'static str {
    [
        (Flags::DISCONNECTED, "disconnected"),
        (Flags::SOCKET_FULL, "socket_full"),
        (Flags::NO_CONNECTION, "no_connection"),
        (Flags::LOADER_LATE, "loader_late"),
        (Flags::WOKE_LATE, "woke_late"),
    ]
    .into_iter()
    .find_map(|(flag, name)| (flags & flag != 0).then_some(name))
    .unwrap_or("unknown")
}
