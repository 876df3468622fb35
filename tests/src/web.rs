use analyze::{Question, Summary};
use fixtures::{Population, Workload};
use replay::{Options, Plan, Progress, Stop};
use std::path::Path;

/// Compiles a workload into a folder, to be replayed over HTTP and WebSockets into another in it.
///
/// # Panics
/// If it does not compile.
pub fn compiled(dir: &Path, workload: &Workload) -> Options {
    let population = Population::build(workload, 42, dir).expect("a population");
    let path = dir.join(format!("{}.parquet", workload.name));
    fixtures::compile(workload, &population, &path, &mut |_| {}).expect("it compiles");
    Options::new(&path, &dir.join(&workload.name), "01TESTRUN0000000000000000W", wire::Options::default())
}

/// Replays, loses no record, and analyses.
///
/// # Panics
/// If that does not go.
pub fn replayed(options: &Options) -> Summary {
    replayed_with(options, &mut |_| {})
}

/// The same, with something to do at each report of the progress.
///
/// # Panics
/// As [`replayed`].
pub fn replayed_with(options: &Options, progress: &mut dyn FnMut(&Progress)) -> Summary {
    let plan = Plan::of(options).expect("a plan");
    let report = replay::replay(options, &plan, &Stop::default(), progress).expect("it runs");
    assert_eq!(report.dropped, 0, "every record is logged");
    analyze::analyze(&options.run_dir, &Question::default()).expect("it is analysed")
}
