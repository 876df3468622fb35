//! The gates of a run: ops that wait become frames for the pacer when the answer comes that they wait for.

use crate::bind::{bind, replace};
use crate::decode::Whose;
use crate::encoder::Encoder;
use crate::gates::{Fate, Gates, Held};
use crate::loader::Frame;
use runlog::Outcome;
use schedule::{Bind, Gate, Operation};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, mpsc};

/// Keys of ops no longer remembered are forgotten when there are more than this of them.
const KEYS_MIN: usize = 1024;

/// An op that waits, not yet a frame.
pub(crate) struct Waiting {
    pub row: Operation,
    pub lap: i64,
    pub frame: Frame,
}

/// What the pacer gets of an op that waited.
pub(crate) struct Release {
    /// With its intended time; if it is refused, its own.
    pub frame: Frame,
    pub bytes: Vec<u8>,
    /// Beyond its own time, ns.
    pub slip_ns: i64,
    /// Why it is not sent.
    pub refused: Option<Outcome>,
}

/// Shared by the loader, who brings ops that wait, the receiver, who brings answers, and the pacer, who sends.
pub(crate) struct Releases {
    encoder: Arc<Encoder>,
    state: Mutex<State>,
}

struct State {
    gates: Gates<Waiting>,
    /// Of the ops remembered, and some that were.
    keys: HashMap<i64, i64>,
    out: mpsc::Sender<Release>,
    /// Wakes the pacer.
    wake: Option<Box<dyn Fn() + Send>>,
}

impl Releases {
    pub fn new(encoder: Arc<Encoder>) -> (Releases, mpsc::Receiver<Release>) {
        let (out, released) = mpsc::channel();
        let state = State { gates: Gates::default(), keys: HashMap::new(), out, wake: None };
        (Releases { encoder, state: Mutex::new(state) }, released)
    }

    /// `wake` is called when something is released.
    pub fn wake_by(&self, wake: impl Fn() + Send + 'static) {
        self.state.lock().expect("no panic while locked").wake = Some(Box::new(wake));
    }

    /// Before op `op` is sent: `opens` later ops name it.
    /// Answers with `key` are its.
    pub fn remember(&self, op: i64, opens: u32, intended_ns: Option<i64>, key: Option<i64>) {
        let mut state = self.state.lock().expect("no panic while locked");
        state.gates.remember(op, opens, intended_ns);
        state.keys.extend(key.map(|key| (key, op)));
        if state.keys.len() > 2 * state.gates.remembered() + KEYS_MIN {
            let State { gates, keys, .. } = &mut *state;
            keys.retain(|_, op| gates.remembers(*op));
        }
    }

    /// An op of lap `waiting.lap` waits; `delay_ns` is the gate's delay in run time.
    pub fn hold(&self, waiting: Waiting, gate: Gate, delay_ns: i64) {
        let of_run = |op| self.encoder.op(op, waiting.lap);
        let gate = Gate { op: of_run(gate.op), delay_ns, ..gate };
        let binds = waiting.row.binds.iter().map(|bind| Bind { op: of_run(bind.op), ..bind.clone() }).collect();
        let held = Held { op: waiting.frame.op, own_ns: waiting.frame.intended_ns, gate, binds, item: waiting };
        self.decide(|gates, fates| gates.hold(held, fates));
    }

    /// An answer came.
    pub fn answered(&self, whose: Whose, answer: u8, ok: bool, received_ns: i64, payload: &[u8]) {
        let op = match whose {
            Whose::Op(op) => Some(op),
            Whose::Key(key) => self.state.lock().expect("no panic while locked").keys.get(&key).copied(),
        };
        if let Some(op) = op {
            self.decide(|gates, fates| gates.answered(op, answer, ok, received_ns, payload, fates));
        }
    }

    /// An op was not sent.
    pub fn unsent(&self, op: i64) {
        self.decide(|gates, fates| gates.unsent(op, fates));
    }

    /// Time goes on.
    pub fn expire(&self, now_ns: i64) {
        self.decide(|gates, fates| gates.expire(now_ns, fates));
    }

    /// How many wait. What was released before is with the pacer's receiver already.
    pub fn held(&self) -> usize {
        self.state.lock().expect("no panic while locked").gates.held()
    }

    /// All that wait, for good.
    pub fn take_all(&self) -> Vec<Frame> {
        let waiting = self.state.lock().expect("no panic while locked").gates.take_all();
        waiting.into_iter().map(|held| held.item.frame).collect()
    }

    fn decide(&self, change: impl FnOnce(&mut Gates<Waiting>, &mut Vec<Fate<Waiting>>)) {
        let mut state = self.state.lock().expect("no panic while locked");
        let mut fates = Vec::new();
        change(&mut state.gates, &mut fates);
        if fates.is_empty() {
            return;
        }
        let mut fates = VecDeque::from(fates);
        while let Some(fate) = fates.pop_front() {
            let release = self.release(fate);
            if release.refused == Some(Outcome::BindFailed) {
                // The table took it for sent; those that wait for it must not.
                let mut more = Vec::new();
                state.gates.unsent(release.frame.op, &mut more);
                fates.extend(more);
            }
            // Nobody takes it once the pacer is gone.
            let _ = state.out.send(release);
        }
        if let Some(wake) = &state.wake {
            wake();
        }
    }

    fn release(&self, fate: Fate<Waiting>) -> Release {
        match fate {
            Fate::Failed { held, outcome } => Release { frame: held.item.frame, bytes: Vec::new(), slip_ns: 0, refused: Some(outcome) },
            Fate::Released { held, intended_ns, answers } => {
                let Waiting { mut row, lap, mut frame } = held.item;
                frame.intended_ns = intended_ns;
                // What is bound has a width of its own from then on, so ids and times come first.
                self.fill(&mut row, lap, intended_ns);
                let refused = bind(&mut row, &held.binds, &answers).err().map(|_| Outcome::BindFailed);
                let bytes = self.encode(&row, &mut frame);
                Release { frame, bytes, slip_ns: intended_ns - held.own_ns, refused }
            }
        }
    }

    /// Writes ids and times where no value of an answer goes.
    fn fill(&self, row: &mut Operation, lap: i64, intended_ns: i64) {
        for (i, slot) in (0u8..).zip(row.slots.clone()) {
            if row.binds.iter().all(|bind| bind.slot != i) {
                let mut text = vec![0; usize::from(slot.width)];
                self.encoder.fill(slot, lap, intended_ns, &mut text);
                let text = String::from_utf8(text).expect("ids and times are ASCII");
                replace(row, &slot, &text).expect("the reader checks that slots lie within their parts");
            }
        }
    }

    fn encode(&self, row: &Operation, frame: &mut Frame) -> Vec<u8> {
        let (mut bytes, mut inbox) = (Vec::new(), Vec::new());
        self.encoder.inbox(frame.connection, frame.action, frame.op, &mut inbox);
        let reply = (!inbox.is_empty()).then_some(inbox.as_slice());
        let headers: Vec<(&str, &str)> = row.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut at = wire::Offsets::default();
        self.encoder.encode(&mut bytes, &row.target, reply, headers.into_iter(), &row.payload, &mut at);
        (frame.end, frame.too_large) = (bytes.len(), self.encoder.too_large(&row.payload));
        bytes
    }
}

/// What was released and is not yet sent, by intended time.
pub(crate) struct Released {
    from: Option<mpsc::Receiver<Release>>,
    due: BTreeMap<(i64, i64), Release>,
    refused: Vec<Release>,
}

impl Released {
    /// `None` where nothing ever waits.
    pub fn new(from: Option<mpsc::Receiver<Release>>) -> Released {
        Released { from, due: BTreeMap::new(), refused: Vec::new() }
    }

    /// The next that is due, or is not to be sent at all.
    pub fn next(&mut self, now_ns: i64) -> Option<Release> {
        self.refill();
        if let Some(refused) = self.refused.pop() {
            return Some(refused);
        }
        let first = self.due.first_entry().filter(|entry| entry.key().0 <= now_ns);
        first.map(|entry| entry.remove())
    }

    /// When the next will be due, ns.
    pub fn next_ns(&self) -> Option<i64> {
        self.due.keys().next().map(|(intended_ns, _)| *intended_ns)
    }

    /// Whether none is left, as far as one can know.
    pub fn is_empty(&mut self) -> bool {
        self.refill();
        self.refused.is_empty() && self.due.is_empty()
    }

    /// Whether anything ever waits.
    pub fn expected(&self) -> bool {
        self.from.is_some()
    }

    fn refill(&mut self) {
        for release in self.from.iter().flat_map(mpsc::Receiver::try_iter) {
            match release.refused {
                Some(_) => self.refused.push(release),
                None => _ = self.due.insert((release.frame.intended_ns, release.frame.op), release),
            }
        }
    }
}
