//! A run in steps: each a stretch of the schedule at one tempo, begun when the one before is drained.

use crate::shared::Shared;
use runlog::{Axis, Course, EventKind, StepMark};
use schedule::{Row, Tempo};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;

/// From the decision for a step to its first op, ns: the loader gets ahead.
const LEAD_NS: i64 = 300_000_000;
/// Longest wait for the target's consumers after a step, ns.
const BACKLOG_NS: i64 = 30_000_000_000;

/// One step to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Part of what.
    pub course: Course,
    /// What the target counts.
    pub axis: Axis,
    /// Operations per second, users, or a size: for the log.
    pub target: f64,
    /// How fast the schedule passes.
    pub tempo: Tempo,
    /// Which ops take part.
    pub only: Only,
    /// At the start, not counted, ns.
    pub warmup_ns: i64,
    /// What counts, ns.
    pub hold_ns: i64,
    /// Afterwards nothing is due for so long, ns.
    pub cooldown_ns: i64,
}

/// Which ops of the schedule a step makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Only {
    /// All of them.
    All,
    /// Of the sessions that are numbered below this.
    Sessions(u32),
    /// Of this bucket.
    Bucket(String),
}

impl Only {
    pub(crate) fn has(&self, row: &Row<'_>) -> bool {
        match self {
            Only::All => true,
            Only::Sessions(end) => row.session < *end,
            Only::Bucket(name) => row.bucket == Some(name.as_str()),
        }
    }
}

/// Decides what comes next: told the step that is over (none before the first), gives the next, or `None` for the end.
pub type Conduct<'a> = dyn FnMut(Option<&StepMark>) -> Option<Step> + 'a;

/// What the loader is to load, and where it begins.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    pub tempo: Tempo,
    pub only: Only,
    /// Run time of the first op, ns.
    pub start_ns: i64,
    /// Nothing is due from here on, ns.
    pub until_ns: i64,
}

/// What the loader says when a stretch is loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loaded {
    pub first_op: i64,
    pub end_op: i64,
    /// Frames handed on or held since the run began.
    pub frames: i64,
    /// The schedule ended within it.
    pub spent: bool,
}

/// The loader's end: takes stretches, says what became of them.
pub(crate) struct Stretches {
    pub next: mpsc::Receiver<Stretch>,
    pub loaded: mpsc::Sender<Loaded>,
}

/// The engine's end: makes one step after the other. Ticked by the loop that also shows progress.
pub(crate) struct Steps<'a, 'b> {
    conduct: &'a mut Conduct<'b>,
    stretches: Option<mpsc::Sender<Stretch>>,
    loaded: mpsc::Receiver<Loaded>,
    number: u32,
    now: Option<Running>,
    /// In the consumers before the first step.
    backlog_before: Option<i64>,
}

/// The step under way.
struct Running {
    step: Step,
    from_ns: i64,
    loaded: Option<Loaded>,
    /// When its answers were in, and it was quiet.
    answered_ns: Option<i64>,
}

impl<'a, 'b> Steps<'a, 'b> {
    pub fn new(conduct: &'a mut Conduct<'b>) -> (Steps<'a, 'b>, Stretches) {
        let ((stretches, next), (loaded_in, loaded)) = (mpsc::channel(), mpsc::channel());
        let steps = Steps { conduct, stretches: Some(stretches), loaded, number: 0, now: None, backlog_before: None };
        (steps, Stretches { next, loaded: loaded_in })
    }

    /// Looks whether the step is over, and then begins the next. `answered` says whether every answer so far is in.
    pub fn tick(&mut self, shared: &Shared, answered: impl Fn() -> bool) {
        if self.stretches.is_none() || shared.stop.asked() > 0 {
            // The loader waits for what will not come.
            self.stretches = None;
            return;
        }
        let backlog = shared.counters.backlog.load(Relaxed);
        let Some(running) = &mut self.now else { return self.begin(shared, None) };
        running.loaded = running.loaded.or_else(|| self.loaded.try_recv().ok());
        let Some(loaded) = running.loaded else { return };
        let now = shared.clock.now_ns();
        let until_ns = running.from_ns + running.step.warmup_ns + running.step.hold_ns;
        if now < until_ns || shared.counters.due.load(Relaxed) < loaded.frames || !answered() {
            return;
        }
        let answered_ns = *running.answered_ns.get_or_insert(now);
        let left = backlog - *self.backlog_before.get_or_insert(0);
        // A sample from before the last answers says nothing about what is left.
        let sampled = shared.counters.backlog_ns.load(Relaxed) > answered_ns || !shared.has_backlog;
        let drained = sampled && left <= 0 || now - answered_ns > BACKLOG_NS;
        if !drained || now < until_ns + running.step.cooldown_ns || shared.counters.flushed_ns.load(Relaxed) < answered_ns {
            return;
        }
        let mark = StepMark {
            number: self.number,
            course: running.step.course,
            axis: running.step.axis,
            target: running.step.target,
            from_ns: running.from_ns,
            hold_from_ns: running.from_ns + running.step.warmup_ns,
            until_ns,
            drained_ns: now,
            first_op: loaded.first_op,
            end_op: loaded.end_op,
            backlog_left: left.max(0),
            spent: loaded.spent,
        };
        let json = serde_json::to_string(&mark).expect("plain data");
        shared.event(EventKind::Step, mark.number.into(), Some(&json));
        self.begin(shared, Some(&mark));
    }

    fn begin(&mut self, shared: &Shared, over: Option<&StepMark>) {
        if over.is_none() && shared.has_backlog && shared.counters.backlog_ns.load(Relaxed) == i64::MIN {
            // What is in the consumers before the first step is not ours.
            return;
        }
        self.backlog_before.get_or_insert(shared.counters.backlog.load(Relaxed));
        let next = (self.conduct)(over);
        let Some(step) = next else {
            self.stretches = None;
            return;
        };
        self.number += 1;
        let from_ns = shared.clock.now_ns() + LEAD_NS;
        let until_ns = from_ns + step.warmup_ns + step.hold_ns;
        let stretch = Stretch { tempo: step.tempo.clone(), only: step.only.clone(), start_ns: from_ns, until_ns };
        shared.counters.step.store(self.number.into(), Relaxed);
        shared.counters.target.store(step.target.to_bits(), Relaxed);
        if self.stretches.as_ref().is_some_and(|stretches| stretches.send(stretch).is_err()) {
            // The loader has ended: the schedule is spent, or unreadable.
            self.stretches = None;
        }
        self.now = Some(Running { step, from_ns, loaded: None, answered_ns: None });
    }
}
