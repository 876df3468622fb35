use super::compile;
use crate::args::Fixture;
use crate::failure::{Exit, Result, could_not_run, usage};
use crate::output;
use fixtures::mongo::{Store, Written};
use fixtures::{Overrides, Population, Workload};
use schedule::units::show_count;
use schedule::{Meta, Reader};
use std::path::Path;

pub fn seed(args: &Fixture) -> Result<Exit> {
    let (population, workload) = fixture(args)?;
    must_be_built_in(args)?;
    let total = population.chat().map_or(0, |c| c.users.len() + c.rooms.len() + c.memberships.len());
    let bar = output::bar(total as u64, "seeding");
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let (written, messages) = in_store(&args.mongo, async |store| {
        let written = store.seed(&population, &workload.name, &site(&workload), now_ms, &mut |done| bar.set_position(done)).await?;
        let at_ms = store.seeded_at_ms(population.fingerprint()).await?.unwrap_or(now_ms);
        Ok((written, cassandra(args, &population, &site(&workload), at_ms, false).await?))
    })?;
    bar.finish_and_clear();
    match written {
        None => eprintln!("{} is there already (fingerprint {})", workload.name, population.fingerprint()),
        Some(written) => eprintln!("{}: {} (fingerprint {})", workload.name, words(&written), population.fingerprint()),
    }
    if let Some(rows) = messages {
        eprintln!("{} rows of messages in Cassandra", show_count(rows));
    }
    Ok(Exit::Done)
}

pub fn teardown(args: &Fixture) -> Result<Exit> {
    let (population, workload) = fixture(args)?;
    must_be_built_in(args)?;
    let removed = in_store(&args.mongo, async |store| {
        if let Some(at_ms) = store.seeded_at_ms(population.fingerprint()).await? {
            cassandra(args, &population, &site(&workload), at_ms, true).await?;
        }
        store.teardown(population.fingerprint()).await
    })?;
    eprintln!("{}: removed {}", workload.name, words(&removed));
    Ok(Exit::Done)
}

fn words(written: &Written) -> String {
    let (users, rooms, subscriptions) = (show_count(written.users), show_count(written.rooms), show_count(written.subscriptions));
    let threads = if written.threads > 0 { format!(", {} threads", show_count(written.threads)) } else { String::new() };
    format!("{users} users, {rooms} rooms, {subscriptions} subscriptions{threads}")
}

fn must_be_built_in(args: &Fixture) -> Result<()> {
    match args.cassandra.is_empty() || cfg!(feature = "cassandra") {
        true => Ok(()),
        false => Err(usage("--cassandra: this retempo was built without it; build one with cargo install --path cli --features cassandra")),
    }
}

/// Writes the messages of before, or removes them; how many rows were written, if there is a Cassandra.
#[cfg(feature = "cassandra")]
async fn cassandra(
    args: &Fixture,
    population: &Population,
    site: &str,
    at_ms: i64,
    remove: bool,
) -> std::result::Result<Option<u64>, fixtures::Error> {
    let (Some(chat), false) = (population.chat(), args.cassandra.is_empty()) else { return Ok(None) };
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let (user, password) = (var("CASSANDRA_USERNAME"), var("CASSANDRA_PASSWORD"));
    let login = (!user.is_empty()).then_some((user.as_str(), password.as_str()));
    let mut store = fixtures::cassandra::Store::connect(&args.cassandra, &args.keyspace, login).await?;
    let target = fixtures::cassandra::Target { site: site.to_owned(), at_ms, bucket_hours: args.bucket_hours };
    if remove {
        return store.teardown(chat, &target).await.map(|()| None);
    }
    store.seed(chat, &target, &mut |_| {}).await.map(Some)
}

#[cfg(not(feature = "cassandra"))]
async fn cassandra(_: &Fixture, _: &Population, _: &str, _: i64, _: bool) -> std::result::Result<Option<u64>, fixtures::Error> {
    Ok(None)
}

/// Refuses a store that does not hold the population of a schedule.
pub fn require(uri: &str, meta: &Meta, schedule: &Path) -> Result<()> {
    if in_store(uri, async |store| store.holds(&meta.fingerprint).await)? {
        return Ok(());
    }
    let fingerprint = &meta.fingerprint[..meta.fingerprint.len().min(12)];
    let path = schedule.display();
    Err(usage(format!(
        "the store does not hold the population of {path} (fingerprint {fingerprint}…); seed it: retempo seed {path} --mongo URI"
    )))
}

/// Does something in the store at a URI, and leaves it.
pub fn in_store<T>(uri: &str, work: impl AsyncFnOnce(&Store) -> std::result::Result<T, fixtures::Error>) -> Result<T> {
    let runtime = tokio::runtime::Runtime::new().map_err(could_not_run)?;
    let done = runtime.block_on(async {
        let store = Store::connect(uri).await?;
        let done = work(&store).await;
        store.close().await;
        done
    });
    Ok(done?)
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
