//! What a run looks like from outside while it goes on: counters and histograms that only grow, read by whoever asks.
//! Nothing here decides anything; the log does.

use crate::decode::Whose;
use crate::shared::UNKEYED;
use runlog::{Outcome, Status};
use schedule::Meta;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Ops whose times are remembered; answers to older ones are counted but not timed.
const RING_OPS: usize = 1 << 18;
/// Upper ends of the histograms' buckets, s.
pub(crate) const BOUNDS_S: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Outcomes of ops, by number.
const OUTCOMES: usize = 8;

/// Counts by [`BOUNDS_S`], and beyond.
#[derive(Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS_S.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    pub fn add(&self, ns: i64) {
        let seconds = ns as f64 / 1e9;
        let bucket = BOUNDS_S.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS_S.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns.max(0) as u64, Relaxed);
    }

    /// Sum in seconds, and pairs of upper end and count; the last end is infinity.
    pub fn read(&self) -> (f64, Vec<(f64, u64)>) {
        let ends = BOUNDS_S.iter().copied().chain([f64::INFINITY]);
        let counts = ends.zip(&self.buckets).map(|(end, count)| (end, count.load(Relaxed)));
        (self.sum_ns.load(Relaxed) as f64 / 1e9, counts.collect())
    }
}

/// The time of an op, until a later one takes its place.
struct Remembered {
    op: AtomicI64,
    intended_ns: AtomicI64,
    action: AtomicU64,
}

/// The latest op with a key, until another key takes its place.
struct Latest {
    key: AtomicI64,
    op: AtomicI64,
}

/// One series.
#[derive(Default)]
pub(crate) struct Series {
    pub response: Histogram,
    /// By [`Status`].
    pub answers: [AtomicU64; 3],
}

/// A consumer of the target, as it was seen last.
#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    pub stream: String,
    pub name: String,
    pub pending: u64,
    pub ack_pending: u64,
    pub redelivered: u64,
}

/// All of it.
pub(crate) struct Live {
    ring: Vec<Remembered>,
    keys: Vec<Latest>,
    answers: usize,
    pub lateness: Histogram,
    /// By action × answer.
    pub series: Vec<Series>,
    /// Not sent, by [`Outcome`].
    pub unsent: [AtomicU64; OUTCOMES],
    /// Errors by action, answer and class.
    pub errors: Mutex<BTreeMap<(usize, u8, String), u64>>,
    pub consumers: Mutex<Vec<Consumer>>,
}

impl Live {
    pub fn new(meta: &Meta) -> Live {
        let vacant = || Remembered { op: AtomicI64::new(-1), intended_ns: AtomicI64::new(0), action: AtomicU64::new(0) };
        let keyed = meta.answers.iter().any(|answer| matches!(answer.whose, schedule::Whose::Fields(_)));
        let pairs = meta.actions.len() * meta.answers.len();
        Live {
            ring: (0..RING_OPS).map(|_| vacant()).collect(),
            keys: (0..if keyed { RING_OPS } else { 0 }).map(|_| Latest { key: AtomicI64::new(UNKEYED), op: AtomicI64::new(-1) }).collect(),
            answers: meta.answers.len(),
            lateness: Histogram::default(),
            series: (0..pairs).map(|_| Series::default()).collect(),
            unsent: Default::default(),
            errors: Mutex::default(),
            consumers: Mutex::default(),
        }
    }

    fn slot(&self, op: i64) -> &Remembered {
        &self.ring[op as usize % RING_OPS]
    }

    /// Where the op of a key is remembered: keys are hashes.
    fn keyed(&self, key: i64) -> Option<&Latest> {
        self.keys.get(key as u64 as usize % RING_OPS)
    }

    /// An op is sent, with its key.
    pub fn sent(&self, (op, key): (i64, i64), action: u16, intended_ns: i64, sent_ns: i64) {
        self.lateness.add(sent_ns - intended_ns);
        let slot = self.slot(op);
        slot.intended_ns.store(intended_ns, Relaxed);
        slot.action.store(action.into(), Relaxed);
        slot.op.store(op, Relaxed);
        if let Some(keyed) = self.keyed(key).filter(|_| key != UNKEYED) {
            keyed.op.store(op, Relaxed);
            keyed.key.store(key, Relaxed);
        }
    }

    /// An op is not sent.
    pub fn unsent(&self, outcome: u8) {
        if outcome != Outcome::Sent as u8 {
            self.unsent[usize::from(outcome) % OUTCOMES].fetch_add(1, Relaxed);
        }
    }

    /// An answer came. Its action is that of its op, if that is still remembered.
    pub fn answered(&self, whose: Whose, answer: u8, status: Status, code: Option<&str>, received_ns: i64) {
        let op = match whose {
            Whose::Op(op) => op,
            Whose::Key(key) => match self.keyed(key) {
                Some(keyed) if keyed.key.load(Relaxed) == key => keyed.op.load(Relaxed),
                _ => return,
            },
        };
        let slot = self.slot(op);
        if slot.op.load(Relaxed) != op {
            return;
        }
        let action = slot.action.load(Relaxed) as usize;
        let Some(series) = self.series.get(action * self.answers + usize::from(answer)) else { return };
        series.answers[status as usize].fetch_add(1, Relaxed);
        series.response.add(received_ns - slot.intended_ns.load(Relaxed));
        if let Some(code) = code {
            *self.errors.lock().expect("no panic while locked").entry((action, answer, code.to_owned())).or_default() += 1;
        }
    }

    /// Index of a series: action and answer.
    pub fn pair(&self, index: usize) -> (usize, u8) {
        (index / self.answers, (index % self.answers) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_by_key_is_that_of_the_latest_op_with_it() {
        let mut meta = Meta::new("m", 1, serde_json::Value::Null);
        let action = serde_json::json!({ "name": "hello", "transport": "nats", "answers": [0], "timeout_ns": 1 });
        meta.actions = vec![serde_json::from_value(action).unwrap()];
        meta.answers = vec![serde_json::from_value(serde_json::json!({ "name": "state", "whose": "fields:/account" })).unwrap()];
        let live = Live::new(&meta);
        live.sent((1, 77), 0, 0, 0);
        live.sent((2, 77), 0, 1_000_000, 1_000_000);
        live.answered(Whose::Key(77), 0, Status::Ok, None, 2_000_000);
        live.answered(Whose::Key(78), 0, Status::Ok, None, 2_000_000);
        assert_eq!(live.series[0].answers[0].load(Relaxed), 1);
        assert!((live.series[0].response.read().0 - 0.001).abs() < 1e-9, "from the second");
    }

    #[test]
    fn a_histogram_counts_what_is_at_or_below_an_end() {
        let histogram = Histogram::default();
        [400_000, 500_000, 500_001, 60_000_000_000].into_iter().for_each(|ns| histogram.add(ns));
        let (sum, buckets) = histogram.read();
        assert_eq!((buckets[0], buckets[1], buckets.last().unwrap().1), ((0.0005, 2), (0.001, 1), 1));
        assert!((sum - 60.001_400_001).abs() < 1e-9);
    }
}
