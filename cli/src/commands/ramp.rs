use super::course::{prepare, targets};
use crate::args::Ramp;
use crate::failure::{Exit, Result, usage};
use analyze::Outcome;
use replay::TempoChoice;
use runlog::{Axis, Course};
use schedule::Tempo;

pub fn run(args: &Ramp) -> Result<Exit> {
    let (axis, steps) = match (&args.steps, &args.users_steps) {
        (Some(steps), _) => (Axis::Rate, targets(steps)?),
        (_, Some(users)) => (Axis::Users, targets(users)?),
        _ => return Err(usage("ramp needs --steps 500,1k,2k, or --users-steps 100,200,500")),
    };
    let last = steps.last().copied().unwrap_or(0.0);
    let fastest = match axis {
        Axis::Rate => TempoChoice::Rate(((last * 1000.0).round() as i128, 1000)),
        Axis::Users => TempoChoice::Tempo(Tempo::default()),
    };
    let prepared = prepare(&args.course, fastest)?;
    if axis == Axis::Users && last > f64::from(prepared.sessions()) {
        return Err(usage(format!(
            "--users-steps: the schedule has {} sessions, and step {last} is beyond; compile it with more users",
            prepared.sessions()
        )));
    }
    if axis == Axis::Rate {
        prepared.suffices(&args.course, &steps)?;
    }
    let mut left = steps.into_iter();
    prepared.conduct(args.course.quiet, &args.outputs, |prepared, over| {
        if args.stop_on_trip && over.is_some_and(|step| step.verdict.outcome == Outcome::Trip) {
            return None;
        }
        left.next().map(|target| prepared.step(&args.course, Course::Ramp, axis, target))
    })
}
