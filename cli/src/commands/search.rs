use super::course::prepare;
use crate::args::SearchArgs;
use crate::failure::{Exit, Result, usage};
use crate::search::{Next, Search};
use replay::TempoChoice;

pub fn run(args: &SearchArgs) -> Result<Exit> {
    if args.to <= args.from {
        return Err(usage(format!("--to {} is not above --from {}", args.to, args.from)));
    }
    if !(0.005..=0.5).contains(&args.resolution) {
        return Err(usage(format!("--resolution {}% is not between 0.5% and 50%", args.resolution * 100.0)));
    }
    let prepared = prepare(&args.course, TempoChoice::Rate(((args.to * 1000.0).round() as i128, 1000)))?;
    let mut search = Search::new(args.from, args.to, args.resolution, args.trials, args.seed);
    prepared.conduct(args.course.quiet, &args.outputs, |prepared, over| {
        if let Some(step) = over {
            search.tried(step.mark.course, step.mark.target, step.offered(), step.verdict.outcome);
        }
        match search.next() {
            Next::Try(course, target) => Some(prepared.rate_step(&args.course, course, target)),
            Next::Done => None,
        }
    })
}
