use crate::clock::Clock;
use crate::connection::Connection;
use crate::decode::Whose;
use crate::live::Live;
use crate::release::Releases;
use runlog::{Checked, Event, EventKind, Expected, Frame, Metric, Phases};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};

/// Counts the signals that asked for the end: the first drains, the second quits.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicU32>);

impl Stop {
    /// Asks once more.
    pub fn ask(&self) -> u32 {
        self.0.fetch_add(1, Relaxed) + 1
    }
    /// How often it was asked.
    pub fn asked(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// How a replay stands; told once a second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Time since the anchor, ns.
    pub t_ns: i64,
    /// Operations due so far.
    pub due: i64,
    /// Operations sent.
    pub sent: i64,
    /// Answers received.
    pub answers: i64,
    /// Answers expected and not yet in.
    pub outstanding: i64,
    /// 99th percentile of lateness over the last second, to a power of two, ns.
    pub late_p99_ns: i64,
    /// Messages pending in the target's consumers.
    pub backlog: i64,
    /// Whether the last op was sent.
    pub draining: bool,
    /// Number of the step under way, from 1; 0 where there are none.
    pub step: u32,
    /// What the step aims at: operations per second, or users.
    pub target: f64,
}

/// Index of no bucket, and of no expected answers.
pub(crate) const NOTHING: u32 = 0;

/// Slip of an op that has no gate.
pub(crate) const UNGATED: i64 = -1;
/// Opener of an op that waits for none.
pub(crate) const UNOPENED: i64 = -1;
/// Key of an op that has none.
pub(crate) const UNKEYED: i64 = i64::MIN;

/// A record of an op on its way to the log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SentRecord {
    pub op: i64,
    pub action: u16,
    pub session: u32,
    pub connection: u16,
    pub intended_ns: i64,
    pub sent_ns: Option<i64>,
    pub bytes: u32,
    pub outcome: u8,
    pub flags: u16,
    pub bucket: u32,
    pub expected: u32,
    /// How long a gate held it; [`UNGATED`] without one.
    pub slip_ns: i64,
    /// [`UNKEYED`] without one.
    pub key: i64,
    /// [`UNOPENED`] without one.
    pub opener: i64,
}

/// A record of an answer on its way to the log.
#[derive(Default)]
pub(crate) struct AnswerRecord {
    pub whose: Whose,
    pub answer: u8,
    pub broadcast: bool,
    pub status: u8,
    pub connection: u16,
    pub received_ns: i64,
    pub bytes: u32,
    pub recipient: u64,
    pub code: Option<Arc<str>>,
    /// Over HTTP and WebSockets: what else there is to tell.
    pub more: Option<Box<More>>,
}

/// What goes with an answer over HTTP or a WebSocket.
#[derive(Default)]
pub(crate) struct More {
    pub phases: Option<Phases>,
    pub checked: Option<Checked>,
    pub frame: Option<Frame>,
    /// There is a frame, and no answer.
    pub no_answer: bool,
}

/// Rare records.
pub(crate) enum Note {
    Event(Event),
    Metric(Metric),
}

#[derive(Default)]
pub(crate) struct Counters {
    pub due: AtomicI64,
    pub sent: AtomicI64,
    pub sent_bytes: AtomicI64,
    pub expected: AtomicI64,
    pub answers: AtomicI64,
    pub foreign: AtomicI64,
    pub dropped: AtomicI64,
    pub backlog: AtomicI64,
    /// Most records that waited for the logger since last looked at.
    pub queued_sends: AtomicI64,
    pub queued_answers: AtomicI64,
    /// Sum of [`answer_hash`] over the answers expected, and over those received: equal when nothing is missing or twice.
    pub expected_hash: AtomicU64,
    pub answers_hash: AtomicU64,
    /// When `backlog` was sampled: `i64::MIN` before the first time, `i64::MAX` where it cannot be.
    pub backlog_ns: AtomicI64,
    /// Everything up to here is in the log.
    pub flushed_ns: AtomicI64,
    /// The step under way, and its target as the bits of an `f64`.
    pub step: AtomicI64,
    pub target: AtomicU64,
    pub last_answer_ns: AtomicI64,
    pub last_sent_ns: AtomicI64,
    late: LateHistogram,
}

/// A number per (op or key, answer) whose sums tell multisets apart without remembering them (SplitMix64's finalizer).
pub(crate) fn answer_hash(op: i64, answer: u8) -> u64 {
    let mut x = ((op as u64) << 8 | u64::from(answer)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Lateness by power of two; read and cleared once a second.
pub(crate) struct LateHistogram([AtomicU64; 64]);

impl Default for LateHistogram {
    fn default() -> Self {
        LateHistogram(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    pub fn new() -> Counters {
        Counters { backlog_ns: i64::MIN.into(), ..Counters::default() }
    }

    pub fn late(&self, ns: i64) {
        self.late.0[(64 - ns.max(1).leading_zeros()) as usize % 64].fetch_add(1, Relaxed);
    }

    fn take_late_p99_ns(&self) -> i64 {
        let counts: Vec<u64> = self.late.0.iter().map(|c| c.swap(0, Relaxed)).collect();
        let rank = counts.iter().sum::<u64>() * 99 / 100;
        let mut seen = 0;
        let bucket = counts.iter().position(|&c| {
            seen += c;
            seen > rank
        });
        bucket.map_or(0, |b| 1i64 << b)
    }
}

/// What the threads of a replay share.
pub(crate) struct Shared {
    /// Distinct buckets; records hold indices, because threads that count the owners of one text wait for each other.
    pub buckets: boxcar::Vec<Arc<str>>,
    /// Distinct lists of expected answers.
    pub expected: boxcar::Vec<Expected>,
    pub clock: Clock,
    pub stop: Stop,
    pub connections: Vec<Connection>,
    pub counters: Counters,
    pub notes: mpsc::SyncSender<Note>,
    /// What is told while the run goes on, if anybody wants to know.
    pub live: Option<Live>,
    /// Whether the target's consumers are watched.
    pub has_backlog: bool,
    /// By answer: whether it is joined by a key.
    pub keyed: Vec<bool>,
    /// Where ops wait for answers, if any does.
    pub releases: Option<Releases>,
    /// The pacer has nothing more to send.
    pub sending_done: AtomicBool,
    /// Threads should end.
    pub finish: AtomicBool,
    /// They have: the logger may close.
    pub logged: AtomicBool,
    /// The first thing that went wrong in a thread.
    pub failure: Mutex<Option<crate::Error>>,
}

impl Shared {
    /// Of a run without gates, backlogs and scrapers.
    pub fn new(clock: Clock, stop: Stop, connections: Vec<Connection>, notes: mpsc::SyncSender<Note>) -> Shared {
        Shared {
            buckets: boxcar::vec![Arc::from("")],
            expected: boxcar::vec![Expected::from([])],
            clock,
            stop,
            connections,
            counters: Counters::new(),
            notes,
            live: None,
            has_backlog: false,
            keyed: Vec::new(),
            releases: None,
            sending_done: false.into(),
            finish: false.into(),
            logged: false.into(),
            failure: Mutex::new(None),
        }
    }

    /// Logs a rare record; counted when the queue is full.
    pub fn note(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            self.counters.dropped.fetch_add(1, Relaxed);
        }
    }

    pub fn event(&self, kind: EventKind, value: i64, text: Option<&str>) {
        self.note(Note::Event(Event::new(self.clock.now_ns(), kind, value, text)));
    }

    pub fn metric(&self, t_ns: i64, source: &str, metric: &str, value: f64) {
        self.note(Note::Metric(Metric { t_ns, source: source.into(), metric: metric.into(), value }));
    }

    pub fn finished(&self) -> bool {
        self.finish.load(Relaxed)
    }

    pub fn fail(&self, error: crate::Error) {
        self.failure.lock().expect("no panic while locked").get_or_insert(error);
        self.stop.ask();
    }

    pub fn progress(&self) -> Progress {
        let c = &self.counters;
        Progress {
            t_ns: self.clock.now_ns(),
            due: c.due.load(Relaxed),
            sent: c.sent.load(Relaxed),
            answers: c.answers.load(Relaxed),
            outstanding: (c.expected.load(Relaxed) - c.answers.load(Relaxed)).max(0),
            late_p99_ns: c.take_late_p99_ns(),
            backlog: c.backlog.load(Relaxed),
            draining: self.sending_done.load(Relaxed),
            step: c.step.load(Relaxed) as u32,
            target: f64::from_bits(c.target.load(Relaxed)),
        }
    }
}
