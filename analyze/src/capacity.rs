//! What steps come to: how much the target can take, how sure that is, and what breaks next.

use crate::slo::Line;
use crate::summary::{Capacity, LineState, Outcome, Step, Verdict};
use runlog::{Axis, Course};
use schedule::units::{show_count, show_rate};

/// Probability that the interval of a search holds the knee.
const CONFIDENCE: f64 = 0.9;
/// A trial fails or passes for reasons that have nothing to do with its rate this often.
const LAPSE: f64 = 0.02;
/// How gradual the change from pass to trip may be: standard deviations of ln rate.
const SPREADS: [f64; 7] = [0.01, 0.015, 0.025, 0.04, 0.07, 0.12, 0.2];
/// Rates considered.
const GRID: usize = 2_000;
/// Trials this far below the answer are near it.
const NEAR: f64 = 0.9;

/// One step of a search that could be decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Operations per second, or users.
    pub target: f64,
    /// Whether it passed.
    pub passed: bool,
}

/// Where passing turns into tripping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knee {
    /// As likely below as above.
    pub median: f64,
    /// The knee lies between this …
    pub low: f64,
    /// … and this with a probability of 90%.
    pub high: f64,
}

/// The posterior of the knee, by a logistic psychometric function on ln rate with a lapse rate, its slope integrated out
/// (the estimate of QUEST and Ψ: Watson & Pelli 1983, Kontsevich & Tyler 1999). Prior: flat in ln rate from half the
/// smallest to twice the largest target, and over a range of slopes. `None` without a pass, or without a trip.
///
/// ```
/// let trial = |target, passed| analyze::Trial { target, passed };
/// let knee = analyze::knee(&[trial(100.0, true), trial(200.0, true), trial(400.0, false), trial(280.0, true)]).unwrap();
/// assert!(knee.low < knee.median && knee.median < knee.high && knee.median > 200.0 && knee.median < 450.0);
/// ```
pub fn knee(trials: &[Trial]) -> Option<Knee> {
    if trials.iter().all(|t| t.passed) || trials.iter().all(|t| !t.passed) {
        return None;
    }
    let targets = || trials.iter().map(|t| t.target);
    let (from, to) = ((targets().fold(f64::INFINITY, f64::min) / 2.0).ln(), (targets().fold(0.0, f64::max) * 2.0).ln());
    let at = |i: usize| from + (to - from) * i as f64 / (GRID - 1) as f64;
    let likelihood = |knee: f64, spread: f64| {
        let of = |trial: &Trial| {
            let trips = LAPSE / 2.0 + (1.0 - LAPSE) / (1.0 + (-(trial.target.ln() - knee) / spread).exp());
            if trial.passed { (1.0 - trips).ln() } else { trips.ln() }
        };
        trials.iter().map(of).sum::<f64>().exp()
    };
    let posterior: Vec<f64> = (0..GRID).map(|i| SPREADS.iter().map(|spread| likelihood(at(i), *spread)).sum()).collect();
    let total: f64 = posterior.iter().sum();
    let quantile = |q: f64| {
        let mut sum = 0.0;
        let reached = posterior.iter().position(|p| {
            sum += p;
            sum >= q * total
        });
        at(reached.unwrap_or(GRID - 1)).exp()
    };
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Some(Knee { median: quantile(0.5), low: quantile(tail), high: quantile(1.0 - tail) })
}

/// What the steps of a run come to; `None` without steps.
pub(crate) fn capacity(steps: &[Step]) -> Option<Capacity> {
    let first = steps.first()?;
    let axis = first.mark.axis;
    let empty = Capacity {
        axis,
        answer: None,
        interval: None,
        trials: None,
        first_trips: false,
        next_limit: None,
        hysteresis: None,
        bottleneck: None,
        notes: vec![],
    };
    Some(if first.mark.course == Course::Ramp { of_ramp(steps, empty) } else { of_search(steps, empty) })
}

fn tripped(step: &&Step) -> bool {
    step.verdict.outcome == Outcome::Trip
}

fn of_ramp(steps: &[Step], mut capacity: Capacity) -> Capacity {
    let first_trip = steps.iter().find(tripped);
    let below = first_trip.map_or(f64::INFINITY, |trip| trip.mark.target);
    let passed = steps.iter().filter(|s| s.verdict.outcome == Outcome::Pass && s.mark.target < below);
    capacity.answer = passed.map(|s| s.mark.target).reduce(f64::max);
    capacity.first_trips = first_trip.is_some_and(|trip| trip.mark.number == steps[0].mark.number);
    capacity.next_limit = first_trip.and_then(next_limit);
    for step in steps.iter().filter(|s| s.verdict.outcome == Outcome::Inconclusive) {
        let why = step.verdict.reasons.first().map_or("", String::as_str);
        capacity.notes.push(format!("{} could not be decided: {why}", show_target(capacity.axis, step.mark.target)));
    }
    if first_trip.is_none() && capacity.answer.is_some() {
        capacity.notes.push("no step tripped; the limit lies beyond the last".into());
    }
    left_over(steps, &mut capacity);
    capacity
}

fn of_search(steps: &[Step], mut capacity: Capacity) -> Capacity {
    let decided = |s: &&Step| s.verdict.outcome != Outcome::Inconclusive && s.mark.course != Course::Back;
    let trial = |s: &Step| Trial { target: s.offered(), passed: s.verdict.outcome == Outcome::Pass };
    let trials: Vec<Trial> = steps.iter().filter(decided).map(trial).collect();
    // The smallest trip is nearest to the edge.
    let trips = steps.iter().filter(tripped).filter(|s| s.mark.course != Course::Back);
    capacity.next_limit = trips.min_by(|a, b| a.mark.target.total_cmp(&b.mark.target)).and_then(next_limit);
    if let Some(knee) = knee(&trials) {
        let near = |t: &&Trial| t.target <= knee.median && t.target >= NEAR * knee.median;
        let (near, passed) = (trials.iter().filter(near), trials.iter().filter(near).filter(|t| t.passed).count() as u32);
        capacity.trials = Some((passed, near.count() as u32));
        capacity.answer = Some(knee.median);
        capacity.interval = Some((knee.low, knee.high, CONFIDENCE));
    } else if let Some(most) = trials.iter().filter(|t| t.passed).map(|t| t.target).reduce(f64::max) {
        // What ended it may be the generator's limit, which says nothing of the target's.
        let gave_up = steps.last().is_some_and(|s| s.verdict.outcome == Outcome::Inconclusive);
        capacity.answer = (!gave_up).then_some(most);
        capacity.notes.push(format!("nothing tripped up to {}; the limit lies beyond", show_target(capacity.axis, most)));
    } else {
        capacity.first_trips = !trials.is_empty();
    }
    let undecided: Vec<&Step> = steps.iter().filter(|s| s.verdict.outcome == Outcome::Inconclusive).collect();
    if let Some(last) = undecided.last() {
        let why = last.verdict.reasons.first().map_or("", String::as_str);
        capacity.notes.push(format!("{} trials could not be decided, the last because: {why}", undecided.len()));
    }
    // The last is the second chance of one that tripped.
    let back = steps.iter().rfind(|s| s.mark.course == Course::Back && s.verdict.outcome != Outcome::Inconclusive);
    capacity.hysteresis = back.map(|step| tripped(&step));
    if let (Some(true), Some(at)) = (capacity.hysteresis, back.map(|step| step.mark.target)) {
        capacity.notes.push(format!("after an overload the target trips at {}, which passed before", show_target(capacity.axis, at)));
    }
    left_over(steps, &mut capacity);
    capacity
}

/// A step that began on what the one before had left is no fair trial.
fn left_over(steps: &[Step], capacity: &mut Capacity) {
    for step in steps.iter().filter(|s| s.mark.backlog_left > 0) {
        let (left, at) = (show_count(step.mark.backlog_left as u64), show_target(capacity.axis, step.mark.target));
        capacity.notes.push(format!("{left} messages were left in the target's consumers after the step at {at}"));
    }
}

/// What tripped first in a step, as `send/broadcast p95 143ms > 100ms`.
fn next_limit(step: &Step) -> Option<String> {
    let breached = step.verdict.slos.iter().find(|slo| slo.state == LineState::Breached)?;
    let line: Result<Line, _> = breached.line.parse();
    Some(line.map_or_else(|_| format!("{}: {}", breached.line, breached.measured), |line| line.breach(&breached.measured)))
}

/// A target in words: `2,340/s`, `100 users`, `size 200`.
pub fn show_target(axis: Axis, target: f64) -> String {
    match axis {
        Axis::Rate => show_rate(round(target)),
        Axis::Users => format!("{} users", show_count(target.round() as u64)),
        Axis::Size => format!("size {}", show_count(target.round() as u64)),
    }
}

/// To three digits: more were never measured.
fn round(value: f64) -> f64 {
    if value <= 0.0 {
        return value;
    }
    let unit = 10f64.powf(value.log10().floor() - 2.0);
    (value / unit).round() * unit
}

impl Capacity {
    /// `max rate = 2,340/s, between 2,260/s and 2,410/s (90%), 5 of 6 trials`.
    pub fn answer_words(&self) -> String {
        let what = match self.axis {
            Axis::Rate => "max rate",
            Axis::Users => "N",
            Axis::Size => "largest",
        };
        let Some(answer) = self.answer else { return "undetermined".into() };
        let mut words = format!("{what} = {}", show_target(self.axis, answer));
        if let Some((low, high, confidence)) = self.interval {
            words += &format!(", between {} and {} ({}%)", show_target(self.axis, low), show_target(self.axis, high), confidence * 100.0);
        }
        if let Some((passed, of)) = self.trials {
            words += &format!(", {passed} of {of} trials");
        }
        words
    }

    /// PASS with an answer, TRIP if the first step trips, INCONCLUSIVE otherwise.
    pub(crate) fn verdict(&self) -> Verdict {
        let outcome = match (self.answer, self.first_trips) {
            (Some(_), _) => Outcome::Pass,
            (None, true) => Outcome::Trip,
            (None, false) => Outcome::Inconclusive,
        };
        let mut reasons = vec![match outcome {
            Outcome::Trip => "the first step trips already; begin lower".to_owned(),
            _ => self.answer_words(),
        }];
        reasons.extend(self.next_limit.iter().map(|limit| format!("next limit: {limit}")));
        reasons.extend(self.bottleneck.iter().map(|bottleneck| format!("bottleneck: {}", bottleneck.words())));
        reasons.extend(self.notes.iter().cloned());
        Verdict { outcome, slos: Vec::new(), reasons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_trials_narrow_the_interval() {
        let trial = |target: f64| Trial { target, passed: target <= 1_000.0 };
        let few: Vec<Trial> = [500.0, 1_000.0, 2_000.0].map(trial).to_vec();
        let more: Vec<Trial> = [500.0, 1_000.0, 2_000.0, 1_400.0, 1_200.0, 1_100.0, 1_050.0, 970.0, 1_020.0].map(trial).to_vec();
        let (few, more) = (knee(&few).unwrap(), knee(&more).unwrap());
        assert!(more.high / more.low < 0.7 * few.high / few.low, "{few:?} {more:?}");
        assert!(more.low < 1_000.0 && 1_000.0 < more.high && (more.median / 1_010.0 - 1.0).abs() < 0.03, "{more:?}");
        assert_eq!(knee(&[trial(500.0)]), None);
    }

    #[test]
    fn numbers_are_rounded_to_what_was_measured() {
        let words = Capacity {
            axis: Axis::Rate,
            answer: Some(2_338.7),
            interval: Some((2_261.2, 2_409.0, 0.9)),
            trials: Some((5, 6)),
            first_trips: false,
            next_limit: None,
            hysteresis: None,
            bottleneck: None,
            notes: vec![],
        };
        assert_eq!(words.answer_words(), "max rate = 2,340/s, between 2,260/s and 2,410/s (90%), 5 of 6 trials");
        assert_eq!(
            Capacity { axis: Axis::Users, answer: Some(10_000.0), interval: None, trials: None, ..words }.answer_words(),
            "N = 10,000 users"
        );
    }
}
