use super::command_line::command_line;
use super::{http, nats};
use crate::args::Check;
use crate::failure::{Exit, Result, could_not_run};
use crate::output::print;
use analyze::Question;
use replay::{Options, Plan, Progress, Stop};
use schedule::{Bind, Gate, Operation, Reader, Slot, Writer};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Replays a schedule of one op per action into a temporary folder and shows what answered.
pub fn run(args: &Check) -> Result<Exit> {
    let nats = nats::options(&args.nats, "retempo check")?;
    let http = http::options(&args.http, &args.nats)?;
    let temporary = tempfile::tempdir().map_err(could_not_run)?;
    let path = temporary.path().join("check.parquet");
    one_of_each(&args.schedule, &path)?;
    let run_dir = temporary.path().join("run");
    let options = Options { command: command_line(), http, ..Options::new(&path, &run_dir, &ulid::Ulid::new().to_string(), nats) };
    let plan = Plan::of(&options)?;
    http::confirm(&args.nats, &options.nats, &options.http, &plan)?;
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
    // How well a handful of ops was paced says nothing.
    let tripped = summary.verdict.outcome == analyze::Outcome::Trip;
    for reason in summary.verdict.reasons.iter().filter(|_| tripped) {
        eprintln!("{reason}");
    }
    Ok(if tripped { analyze::Outcome::Trip.into() } else { Exit::Done })
}

/// What refers to an earlier op without waiting for it comes so much later, ns.
const LATER_NS: i64 = 500_000_000;

/// The first op of every action, and those that they refer to.
fn one_of_each(schedule: &Path, to: &Path) -> Result<()> {
    let reader = Reader::open(schedule)?;
    let wanted = wanted(&reader)?;
    let mut writer = Writer::create(to)?;
    let mut chosen: Vec<(i64, Operation)> = Vec::new();
    for batch in reader.batches()? {
        chosen.extend(batch?.rows().filter(|row| wanted.contains(&row.op)).map(|row| (row.op, row.to_operation())));
        if chosen.len() == wanted.len() {
            break;
        }
    }
    let number: BTreeMap<i64, i64> = chosen.iter().zip(0..).map(|((old, _), new)| (*old, new)).collect();
    let waited_for = |op: &Operation| names(op).into_iter().filter_map(|old| number.get(&old).copied()).collect::<Vec<i64>>();
    let all: Vec<i64> = chosen.iter().flat_map(|(_, op)| waited_for(op)).collect();
    let mut at_ns = 0;
    for (op, (old, mut operation)) in (0..).zip(chosen) {
        at_ns += if operation.slots.iter().any(|slot| slot.op != old) { LATER_NS } else { 1_000_000 };
        operation.at_ns = at_ns;
        operation.opens = all.iter().filter(|opener| **opener == op).count() as u32;
        operation.slots = operation.slots.into_iter().map(|slot| Slot { op: number[&slot.op], ..slot }).collect();
        operation.gate = operation.gate.map(|gate| Gate { op: number[&gate.op], ..gate });
        operation.binds = operation.binds.into_iter().map(|bind| Bind { op: number[&bind.op], ..bind }).collect();
        writer.push(&operation)?;
    }
    writer.finish(reader.meta().clone(), at_ns + 1_000_000_000)?;
    Ok(())
}

/// Ops that an op waits for, each once.
fn names(op: &Operation) -> BTreeSet<i64> {
    op.gate.iter().map(|gate| gate.op).chain(op.binds.iter().map(|bind| bind.op)).collect()
}

/// Numbers of the first op of every action, and of those that they refer to.
fn wanted(reader: &Reader) -> Result<BTreeSet<i64>> {
    let mut firsts: Vec<Option<i64>> = vec![None; reader.meta().actions.len()];
    let mut refers: HashMap<i64, BTreeSet<i64>> = HashMap::new();
    // By session: the op that opened its WebSocket.
    let mut sockets: HashMap<u32, i64> = HashMap::new();
    for batch in reader.batches()? {
        for row in batch?.rows() {
            firsts[usize::from(row.action)].get_or_insert(row.op);
            let slots = || row.slots().flatten().map(|slot| slot.op).filter(|op| *op != row.op);
            if row.gate().is_some() || slots().next().is_some() {
                refers.insert(row.op, names(&row.to_operation()).into_iter().chain(slots()).collect());
            }
            if reader.meta().actions[usize::from(row.action)].transport == "websocket" {
                match row.target.starts_with("OPEN ") {
                    true => _ = sockets.insert(row.session, row.op),
                    false => refers.entry(row.op).or_default().extend(sockets.get(&row.session)),
                }
            }
        }
        if firsts.iter().all(Option::is_some) {
            break;
        }
    }
    let mut open: Vec<i64> = firsts.into_iter().flatten().collect();
    let mut wanted = BTreeSet::new();
    while let Some(op) = open.pop() {
        if wanted.insert(op) {
            open.extend(refers.get(&op).into_iter().flatten());
        }
    }
    Ok(wanted)
}
