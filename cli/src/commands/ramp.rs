use super::course::{prepare, targets};
use crate::args::Ramp;
use crate::failure::{Exit, Result, usage};
use analyze::Outcome;
use replay::TempoChoice;
use runlog::{Axis, Course};
use schedule::Tempo;

pub fn run(args: &Ramp) -> Result<Exit> {
    let (axis, steps) = match (&args.steps, &args.users_steps, &args.size_steps) {
        (Some(steps), ..) => (Axis::Rate, targets("--steps", steps)?),
        (_, Some(users), _) => (Axis::Users, targets("--users-steps", users)?),
        (.., Some(sizes)) => (Axis::Size, targets("--size-steps", sizes)?),
        _ => return Err(usage("ramp needs --steps 500,1k,2k, or --users-steps 100,200,500, or --size-steps 50,100,200")),
    };
    let last = steps.last().copied().unwrap_or(0.0);
    let fastest = match axis {
        Axis::Rate => TempoChoice::Rate(((last * 1000.0).round() as i128, 1000)),
        Axis::Users | Axis::Size => TempoChoice::Tempo(Tempo::default()),
    };
    let prepared = prepare(&args.course, fastest)?;
    if axis == Axis::Rate {
        prepared.suffices(&args.course, &steps)?;
    }
    let step = |&target: &f64| match axis {
        Axis::Rate => Ok(prepared.rate_step(&args.course, Course::Ramp, target)),
        Axis::Users => prepared.users_step(&args.course, Course::Ramp, target),
        Axis::Size => prepared.size_step(&args.course, Course::Ramp, target, args.rate),
    };
    let mut left = steps.iter().map(step).collect::<Result<Vec<_>>>()?.into_iter();
    prepared.conduct(args.course.quiet, &args.outputs, |_, over| {
        if args.stop_on_trip && over.is_some_and(|step| step.verdict.outcome == Outcome::Trip) {
            return None;
        }
        left.next()
    })
}
