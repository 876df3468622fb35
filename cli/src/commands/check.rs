use super::nats;
use super::replay::command_line;
use crate::args::Check;
use crate::failure::{Exit, Result, could_not_run};
use crate::output::print;
use analyze::Question;
use replay::{Options, Plan, Progress, Stop};
use schedule::{Operation, Reader, Slot, Writer};
use std::path::Path;

/// Replays a schedule of one op per action into a temporary folder and shows what answered.
pub fn run(args: &Check) -> Result<Exit> {
    let nats = nats::options(&args.nats, "retempo check")?;
    nats::confirm_target(&args.nats, &nats)?;
    let temporary = tempfile::tempdir().map_err(could_not_run)?;
    let path = temporary.path().join("check.parquet");
    one_of_each(&args.schedule, &path)?;
    let run_dir = temporary.path().join("run");
    let options = Options { command: command_line(), ..Options::new(&path, &run_dir, &ulid::Ulid::new().to_string(), nats) };
    let plan = Plan::of(&options)?;
    replay::replay(&options, &plan, &Stop::default(), &mut |_: &Progress| {})?;
    let lines = ["missing == 0", "errors == 0"].iter().map(|l| l.parse().expect("ours")).collect();
    let summary = analyze::analyze(&run_dir, &Question { slo: Some(lines), ..Question::default() })?;
    for series in summary.series.iter().filter(|s| !s.name.contains(':')) {
        let time = series.response.p50_ns.map_or_else(String::new, |ns| format!(" after {}", schedule::units::show_ns(ns)));
        let errors: Vec<&str> = series.errors.keys().map(String::as_str).collect();
        let what = match (series.ok, series.missing, errors.is_empty()) {
            (_, _, false) => format!("error {}", errors.join(", ")),
            (_, 1.., _) => "no answer".into(),
            (0, ..) => "not expected".into(),
            _ => "ok".into(),
        };
        print(&format!("{:24} {what}{time}\n", series.name));
    }
    for error in &summary.evidence.first_errors {
        print(&format!("  {error}\n"));
    }
    for reason in summary.verdict.reasons.iter().filter(|_| summary.verdict.outcome != analyze::Outcome::Pass) {
        eprintln!("{reason}");
    }
    Ok(summary.verdict.outcome.into())
}

/// The first op of every action; what refers to an earlier op refers to itself.
fn one_of_each(schedule: &Path, to: &Path) -> Result<()> {
    let reader = Reader::open(schedule)?;
    let mut found: Vec<Option<Operation>> = vec![None; reader.meta().actions.len()];
    for batch in reader.batches()? {
        for row in batch?.rows() {
            let place = &mut found[usize::from(row.action)];
            if place.is_none() {
                *place = Some(row.to_operation());
            }
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    let mut writer = Writer::create(to)?;
    for (op, mut operation) in (0..).zip(found.into_iter().flatten()) {
        operation.at_ns = op * 1_000_000;
        operation.slots = operation.slots.into_iter().map(|slot| Slot { op, ..slot }).collect();
        writer.push(&operation)?;
    }
    writer.finish(reader.meta().clone(), 1_000_000_000)?;
    Ok(())
}
