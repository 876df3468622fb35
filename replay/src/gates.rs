//! Ops that wait for an answer, and the answers they wait for: one bounded table that knows neither clock nor wire.

use runlog::Outcome;
use schedule::{Bind, Gate};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Ops whose answers are remembered, at most.
const OPENERS_MAX: usize = 1 << 20;
/// Bytes of answers remembered, at most.
const BYTES_MAX: usize = 256 << 20;

/// An op that waits. Its gate and binds name ops of the run (laps included), and its delay is run time.
#[derive(Debug, Clone, PartialEq)]
pub struct Held<T> {
    /// The op.
    pub op: i64,
    /// When it would be due without the gate, ns.
    pub own_ns: i64,
    /// What it waits for.
    pub gate: Gate,
    /// What it takes from answers.
    pub binds: Vec<Bind>,
    /// Whatever it takes to send it.
    pub item: T,
}

/// What became of an op that waited.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate<T> {
    /// Its gate opened.
    Released {
        /// The op.
        held: Held<T>,
        /// Due now: its own time, or the answer plus the delay, whichever is later, ns.
        intended_ns: i64,
        /// The answer that each bind takes its value from.
        answers: Vec<Arc<[u8]>>,
    },
    /// It will not be sent.
    Failed {
        /// The op.
        held: Held<T>,
        /// Why not.
        outcome: Outcome,
    },
}

/// The table. Times are arguments; what is decided is appended to `fates`.
///
/// ```
/// use replay::gates::{Fate, Gates, Held};
/// use schedule::Gate;
/// let (mut gates, mut fates) = (Gates::default(), Vec::new());
/// gates.remember(0, 1, Some(0));
/// let gate = Gate { op: 0, answer: 0, delay_ns: 5, timeout_ns: 1_000 };
/// gates.hold(Held { op: 1, own_ns: 10, gate, binds: vec![], item: () }, &mut fates);
/// assert!(fates.is_empty());
/// gates.answered(0, 0, true, 70, b"{}", &mut fates);
/// assert!(matches!(fates[0], Fate::Released { intended_ns: 75, .. }));
/// ```
#[derive(Debug)]
pub struct Gates<T> {
    openers: HashMap<i64, Opener>,
    /// Those that wait, and until when, if their wait has begun.
    held: HashMap<i64, (Held<T>, Option<i64>)>,
    /// (deadline, op) of the same.
    deadlines: BTreeSet<(i64, i64)>,
    bytes: usize,
    /// Something was not remembered, for lack of room.
    overflowed: bool,
}

impl<T> Default for Gates<T> {
    fn default() -> Self {
        Gates { openers: HashMap::new(), held: HashMap::new(), deadlines: BTreeSet::new(), bytes: 0, overflowed: false }
    }
}

/// An op that others wait for.
#[derive(Debug)]
struct Opener {
    /// Ops to come or waiting that name it.
    left: u32,
    /// When it is due; unknown while it waits itself.
    intended_ns: Option<i64>,
    /// It will not be sent.
    gone: bool,
    answers: Vec<Heard>,
    waiting: Vec<i64>,
}

/// The first of its answers of a kind.
#[derive(Debug)]
struct Heard {
    answer: u8,
    ok: bool,
    received_ns: i64,
    /// `None` where there was no room for it.
    payload: Option<Arc<[u8]>>,
}

/// How it stands with an op that waits.
enum Standing {
    Opens {
        intended_ns: i64,
        answers: Vec<Arc<[u8]>>,
    },
    Fails(Outcome),
    /// Until this time, if its wait has begun.
    Waits(Option<i64>),
}

impl<T> Gates<T> {
    /// Before op `op` is sent: `opens` later ops name it. `intended_ns` is `None` if it waits itself.
    pub fn remember(&mut self, op: i64, opens: u32, intended_ns: Option<i64>) {
        if self.openers.len() >= OPENERS_MAX {
            self.overflowed = true;
            return;
        }
        self.openers.insert(op, Opener { left: opens, intended_ns, gone: false, answers: Vec::new(), waiting: Vec::new() });
    }

    /// An op that has to wait, in the order of the schedule.
    pub fn hold(&mut self, held: Held<T>, fates: &mut Vec<Fate<T>>) {
        let op = held.op;
        for name in held.names() {
            if let Some(opener) = self.openers.get_mut(&name) {
                opener.waiting.push(op);
            }
        }
        self.held.insert(op, (held, None));
        self.decide([op].into(), fates);
    }

    /// Answer number `answer` of op `op` came; the first of its kind counts.
    pub fn answered(&mut self, op: i64, answer: u8, ok: bool, received_ns: i64, payload: &[u8], fates: &mut Vec<Fate<T>>) {
        let Some(opener) = self.openers.get_mut(&op) else { return };
        if opener.answers.iter().any(|heard| heard.answer == answer) {
            return;
        }
        let room = self.bytes + payload.len() <= BYTES_MAX;
        self.bytes += if room { payload.len() } else { 0 };
        opener.answers.push(Heard { answer, ok, received_ns, payload: room.then(|| payload.into()) });
        let waiting = opener.waiting.clone().into();
        self.decide(waiting, fates);
    }

    /// Op `op` was not sent, for another reason than its own gate.
    pub fn unsent(&mut self, op: i64, fates: &mut Vec<Fate<T>>) {
        if let Some(opener) = self.openers.get_mut(&op) {
            opener.gone = true;
            let waiting = opener.waiting.clone().into();
            self.decide(waiting, fates);
        }
    }

    /// Those who have waited for too long by now.
    pub fn expire(&mut self, now_ns: i64, fates: &mut Vec<Fate<T>>) {
        while let Some(&(_, op)) = self.deadlines.first().filter(|(deadline_ns, _)| *deadline_ns <= now_ns) {
            let next = self.settle(op, Standing::Fails(Outcome::GateFailed), fates);
            self.decide(next, fates);
        }
    }

    /// When the first of those who wait will have waited for too long, ns.
    pub fn next_deadline_ns(&self) -> Option<i64> {
        self.deadlines.first().map(|(deadline_ns, _)| *deadline_ns)
    }

    /// How many wait.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How many ops are remembered for the sake of others.
    pub fn remembered(&self) -> usize {
        self.openers.len()
    }

    /// Whether op `op` is.
    pub fn remembers(&self, op: i64) -> bool {
        self.openers.contains_key(&op)
    }

    /// All that wait, in the order of the schedule; none is left.
    pub fn take_all(&mut self) -> Vec<Held<T>> {
        let mut all: Vec<Held<T>> = self.held.drain().map(|(_, (held, _))| held).collect();
        all.sort_by_key(|held| held.op);
        self.deadlines.clear();
        all
    }

    /// Looks at ops that wait, and at those that wait for them in turn.
    fn decide(&mut self, mut ops: VecDeque<i64>, fates: &mut Vec<Fate<T>>) {
        while let Some(op) = ops.pop_front() {
            let Some((held, _)) = self.held.get(&op) else { continue };
            match self.standing(held) {
                Standing::Waits(deadline_ns) => {
                    self.deadlines.extend(deadline_ns.map(|t| (t, op)));
                    self.held.entry(op).and_modify(|(_, known)| *known = deadline_ns);
                }
                decided => ops.extend(self.settle(op, decided, fates)),
            }
        }
    }

    fn standing(&self, held: &Held<T>) -> Standing {
        let mut since_ns = Some(held.own_ns);
        let (mut open_ns, mut answers) = (Some(held.own_ns), Vec::new());
        let binds = held.binds.iter().map(|bind| (bind.op, bind.answer, None));
        for (op, answer, delay_ns) in [(held.gate.op, held.gate.answer, Some(held.gate.delay_ns))].into_iter().chain(binds) {
            let Some(opener) = self.openers.get(&op) else {
                return Standing::Fails(if self.overflowed { Outcome::Overflow } else { Outcome::DependencyNotSent });
            };
            since_ns = since_ns.zip(opener.intended_ns).map(|(a, b)| a.max(b));
            match opener.answers.iter().find(|heard| heard.answer == answer) {
                Some(heard) if !heard.ok => return Standing::Fails(Outcome::GateFailed),
                Some(heard) => {
                    open_ns = open_ns.map(|t| t.max(heard.received_ns.saturating_add(delay_ns.unwrap_or(0))));
                    match &heard.payload {
                        _ if delay_ns.is_some() => {}
                        Some(payload) => answers.push(payload.clone()),
                        None => return Standing::Fails(Outcome::Overflow),
                    }
                }
                None if opener.gone => return Standing::Fails(Outcome::GateFailed),
                None => open_ns = None,
            }
        }
        match open_ns {
            Some(intended_ns) => Standing::Opens { intended_ns, answers },
            None => Standing::Waits(since_ns.map(|t| t.saturating_add(held.gate.timeout_ns))),
        }
    }

    /// Takes a decided op out of the table; those that wait for it are to be looked at.
    fn settle(&mut self, op: i64, standing: Standing, fates: &mut Vec<Fate<T>>) -> VecDeque<i64> {
        let Some((held, deadline_ns)) = self.held.remove(&op) else { return VecDeque::new() };
        deadline_ns.map(|t| self.deadlines.remove(&(t, op)));
        for name in held.names() {
            self.forget(name, op);
        }
        let mut next = VecDeque::new();
        if let Some(opener) = self.openers.get_mut(&op) {
            match standing {
                Standing::Opens { intended_ns, .. } => opener.intended_ns = Some(intended_ns),
                _ => opener.gone = true,
            }
            next.extend(&opener.waiting);
        }
        fates.push(match standing {
            Standing::Opens { intended_ns, answers } => Fate::Released { held, intended_ns, answers },
            Standing::Fails(outcome) => Fate::Failed { held, outcome },
            Standing::Waits(_) => unreachable!("only what is decided is settled"),
        });
        next
    }

    /// `by` needs nothing of `op` any more.
    fn forget(&mut self, op: i64, by: i64) {
        let Some(opener) = self.openers.get_mut(&op) else { return };
        opener.waiting.retain(|waiting| *waiting != by);
        opener.left = opener.left.saturating_sub(1);
        if opener.left == 0 {
            self.bytes -= opener.answers.iter().filter_map(|heard| heard.payload.as_ref()).map(|payload| payload.len()).sum::<usize>();
            self.openers.remove(&op);
        }
    }
}

impl<T> Held<T> {
    /// The ops it waits for, each once.
    fn names(&self) -> Vec<i64> {
        let mut names: Vec<i64> = [self.gate.op].into_iter().chain(self.binds.iter().map(|bind| bind.op)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
