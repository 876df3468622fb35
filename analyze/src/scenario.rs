//! Scenarios: steps put together, how each run of them ended, and how long it took.

use crate::input::Input;
use crate::tally::Cell;
use arrow::array::Array;
use runlog::{JoinReply, Outcome, Status, StepSent};
use schedule::Meta;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// The runs of a scenario that began in a time.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// Of each run, one sample: from the intended time of its first step to its last answer, or to the one that ended it.
    pub cell: Cell,
    /// By step, and by class.
    pub failed_at: BTreeMap<(usize, String), u64>,
}

/// An op of a scenario.
struct Step {
    /// Scenario and place in it.
    place: (usize, usize),
    opener: Option<i64>,
    intended_ns: i64,
    deadline_ns: i64,
    outcome: u8,
    awaited: bool,
    answer: Option<(i64, u8, Option<String>)>,
}

/// How a run stands, as far as its steps are known.
struct Run {
    scenario: usize,
    began_ns: i64,
    last_ns: i64,
    /// The first step that failed: when it was due, its place, its class, and when that was known.
    failed: Option<(i64, usize, String, Option<i64>)>,
    unresolved: bool,
}

/// By scenario.
///
/// # Errors
/// The folder is damaged.
pub(crate) fn scenarios(input: &Input, due_ns: &Range<i64>) -> Result<Vec<Runs>, runlog::Error> {
    let meta = &input.manifest.schedule;
    let mut found: Vec<Runs> = meta.scenarios.iter().map(|_| Runs::default()).collect();
    if found.is_empty() {
        return Ok(found);
    }
    let steps = steps(input, meta)?;
    let mut runs: HashMap<i64, Run> = HashMap::new();
    for (&op, step) in &steps {
        let root = root(&steps, op);
        let run = runs.entry(root).or_insert(Run { scenario: step.place.0, began_ns: 0, last_ns: 0, failed: None, unresolved: false });
        run.take(step, op == root, input.observed_ns);
    }
    let longest_ns = meta.longest_timeout_ns();
    // In an order of its own, so that the same log gives the same bytes.
    let mut runs: Vec<(i64, Run)> = runs.into_iter().filter(|(_, run)| due_ns.contains(&run.began_ns)).collect();
    runs.sort_unstable_by_key(|(root, _)| *root);
    for (_, run) in runs {
        found[run.scenario].add(run, meta, longest_ns);
    }
    Ok(found)
}

fn steps(input: &Input, meta: &Meta) -> Result<HashMap<i64, Step>, runlog::Error> {
    let mut places = vec![None; meta.actions.len()];
    for (s, scenario) in meta.scenarios.iter().enumerate() {
        for (place, action) in scenario.actions.iter().enumerate() {
            if let Some(known) = places.get_mut(usize::from(*action)) {
                *known = Some((s, place));
            }
        }
    }
    let mut steps: HashMap<i64, Step> = HashMap::new();
    for chunk in &input.sends {
        for c in chunk.read::<StepSent>()? {
            for i in (0..c.op.len()).filter(|&i| input.ops.contains(&c.op.value(i))) {
                let action = usize::from(c.action.value(i));
                let Some(place) = places.get(action).copied().flatten() else { continue };
                let intended_ns = c.intended_ns.value(i);
                let step = Step {
                    place,
                    opener: c.opener.is_valid(i).then(|| c.opener.value(i)),
                    intended_ns,
                    deadline_ns: intended_ns.saturating_add(meta.actions[action].timeout_ns),
                    outcome: c.outcome.value(i),
                    awaited: c.expected.get(i).is_some_and(|text| !text.is_empty()),
                    answer: None,
                };
                steps.insert(c.op.value(i), step);
            }
        }
    }
    for chunk in &input.replies {
        for c in chunk.read::<JoinReply>()? {
            for i in 0..c.op.len() {
                let Some(step) = steps.get_mut(&c.op.value(i)) else { continue };
                let answer = (c.received_ns.value(i), c.status.value(i), c.code.get(i).map(str::to_owned));
                // An error tells more than an answer that is fine.
                if step.answer.is_none() || answer.1 == Status::Error as u8 {
                    step.answer = Some(answer);
                }
            }
        }
    }
    Ok(steps)
}

/// The first step of the run that a step belongs to.
fn root(steps: &HashMap<i64, Step>, op: i64) -> i64 {
    let mut at = op;
    // Ops wait for earlier ones; a log that says otherwise is not followed.
    while let Some(opener) = steps.get(&at).and_then(|step| step.opener).filter(|opener| *opener < at) {
        at = opener;
    }
    at
}

impl Run {
    fn take(&mut self, step: &Step, first: bool, observed_ns: i64) {
        if first {
            self.began_ns = step.intended_ns;
        }
        let failed = match &step.answer {
            // What waited for a step that failed says nothing of its own.
            _ if step.outcome == Outcome::GateFailed as u8 => None,
            _ if step.outcome != Outcome::Sent as u8 => Some((Outcome::name(step.outcome).to_owned(), None)),
            Some((t_ns, status, code)) if *status == Status::Error as u8 => {
                Some((code.clone().unwrap_or_else(|| "error".into()), Some(*t_ns)))
            }
            Some((t_ns, ..)) if *t_ns > step.deadline_ns => Some(("late".into(), Some(*t_ns))),
            Some((t_ns, ..)) => {
                self.last_ns = self.last_ns.max(*t_ns);
                None
            }
            None if !step.awaited => None,
            None if observed_ns < step.deadline_ns => {
                self.unresolved = true;
                None
            }
            None => Some(("missing".into(), None)),
        };
        if let Some((class, known_ns)) = failed
            && self.failed.as_ref().is_none_or(|(due_ns, place, ..)| (step.intended_ns, step.place.1) < (*due_ns, *place))
        {
            self.failed = Some((step.intended_ns, step.place.1, class, known_ns));
        }
    }
}

impl Runs {
    fn add(&mut self, run: Run, meta: &Meta, longest_ns: i64) {
        let Run { scenario, began_ns, last_ns, failed, unresolved } = run;
        match failed {
            Some((_, place, class, known_ns)) => {
                let action = meta.scenarios[scenario].actions[place];
                let step = step_name(meta, scenario, action);
                *self.failed_at.entry((place, class)).or_default() += 1;
                match known_ns {
                    Some(known_ns) => {
                        *self.cell.errors.entry(step.into()).or_default() += 1;
                        self.cell.response.add(known_ns.saturating_sub(began_ns));
                    }
                    None => {
                        self.cell.missing += 1;
                        self.cell.missing_over_ns = longest_ns;
                    }
                }
            }
            None if unresolved => self.cell.unresolved += 1,
            None => {
                self.cell.ok += 1;
                self.cell.response.add(last_ns.saturating_sub(began_ns));
            }
        }
    }
}

/// `search` of the action `swap.search` of the scenario `swap`.
pub(crate) fn step_name(meta: &Meta, scenario: usize, action: u16) -> &str {
    let Some(name) = meta.actions.get(usize::from(action)).map(|action| action.name.as_str()) else { return "" };
    name.strip_prefix(meta.scenarios[scenario].name.as_str()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name)
}
