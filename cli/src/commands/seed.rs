use super::compile;
use crate::args::Fixture;
use crate::failure::{Exit, Result, could_not_run, usage};
use crate::output;
use fixtures::mongo::Store;
use fixtures::{Overrides, Population, Workload};
use schedule::units::show_count;
use schedule::{Meta, Reader};
use std::path::Path;

pub fn seed(args: &Fixture) -> Result<Exit> {
    let (population, workload) = fixture(args)?;
    let total = population.chat().map_or(0, |c| c.users.len() + c.rooms.len() + c.memberships.len());
    let bar = output::bar(total as u64, "seeding");
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let written = run(async {
        let store = Store::connect(&args.mongo).await?;
        store.seed(&population, &workload.name, &site(&workload), now_ms, &mut |done| bar.set_position(done)).await
    })?;
    bar.finish_and_clear();
    match written {
        None => eprintln!("{} is there already (fingerprint {})", workload.name, population.fingerprint()),
        Some(w) => {
            let (users, rooms, subscriptions) = (show_count(w.users), show_count(w.rooms), show_count(w.subscriptions));
            eprintln!(
                "{}: {users} users, {rooms} rooms, {subscriptions} subscriptions (fingerprint {})",
                workload.name,
                population.fingerprint()
            );
        }
    }
    Ok(Exit::Done)
}

pub fn teardown(args: &Fixture) -> Result<Exit> {
    let (population, workload) = fixture(args)?;
    let removed = run(async { Store::connect(&args.mongo).await?.teardown(population.fingerprint()).await })?;
    let (users, rooms, subscriptions) = (show_count(removed.users), show_count(removed.rooms), show_count(removed.subscriptions));
    eprintln!("{}: removed {users} users, {rooms} rooms, {subscriptions} subscriptions", workload.name);
    Ok(Exit::Done)
}

/// Refuses a store that does not hold the population of a schedule.
pub fn require(uri: &str, meta: &Meta, schedule: &Path) -> Result<()> {
    if run(async { Store::connect(uri).await?.holds(&meta.fingerprint).await })? {
        return Ok(());
    }
    let fingerprint = &meta.fingerprint[..meta.fingerprint.len().min(12)];
    let path = schedule.display();
    Err(usage(format!(
        "the store does not hold the population of {path} (fingerprint {fingerprint}…); seed it: retempo seed {path} --mongo URI"
    )))
}

fn run<T>(work: impl Future<Output = std::result::Result<T, fixtures::Error>>) -> Result<T> {
    Ok(tokio::runtime::Runtime::new().map_err(could_not_run)?.block_on(work)?)
}

fn fixture(args: &Fixture) -> Result<(Population, Workload)> {
    let path = Path::new(&args.fixture);
    let overrides = Overrides { seed: args.seed, users: args.users, ..Overrides::default() };
    if path.is_file() && path.extension().is_none_or(|e| e != "toml") {
        if overrides != Overrides::default() {
            return Err(usage("--seed and --users are for a workload or preset; a schedule has them already"));
        }
        return of_schedule(path);
    }
    of_workload(&args.fixture, &overrides)
}

/// Population and workload that a schedule was compiled from.
pub fn of_schedule(path: &Path) -> Result<(Population, Workload)> {
    let reader = Reader::open(path)?;
    let population = Population::of_schedule(reader.meta())?;
    let workload = serde_json::from_value(reader.meta().workload.clone()).map_err(|e| usage(format!("{}: {e}", path.display())))?;
    Ok((population, workload))
}

/// Population and workload by file or name.
pub fn of_workload(name: &str, overrides: &Overrides) -> Result<(Population, Workload)> {
    let (workload, base) = compile::load(name)?;
    let workload = workload.with(overrides)?;
    Ok((Population::build(&workload, workload.seed, &base)?, workload))
}

/// Site id of a workload.
pub fn site(workload: &Workload) -> String {
    workload.vars.get("site").cloned().unwrap_or_else(|| "site-local".into())
}
