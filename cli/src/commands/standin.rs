use super::{nats, seed};
use crate::args::StandinArgs;
use crate::failure::{Exit, Result, could_not_run, usage};
use crate::output;
use fixtures::{Overrides, Workload};
use standin::{Config, Directory, Standin};
use std::time::Duration;

pub fn run(args: &StandinArgs) -> Result<Exit> {
    let options = nats::options(&args.nats, "retempo standin")?;
    let (directory, workload) = directory(args)?;
    let mut config =
        Config { seed: args.stand.seed, faults: args.fault.clone(), ledger: args.stand.ledger.clone(), ..Config::of(&workload) };
    (config.room_size_max, config.per_member) = (args.max_room_size, Duration::from_nanos(args.per_member as u64));
    config.stale = args.stale.map_or(config.stale, |ns| Duration::from_nanos(ns as u64));
    for (stage, service) in &args.service {
        config.stages[*stage as usize].service = *service;
    }
    for (stage, concurrency) in &args.concurrency {
        config.stages[*stage as usize].concurrency = *concurrency;
    }
    let runtime = tokio::runtime::Runtime::new().map_err(could_not_run)?;
    runtime.block_on(async {
        // The hot path's client gives the clearer sentence when nobody is there.
        wire::connect_any(&options, 0)?;
        let client = replay::control::connect(&options).await.map_err(could_not_run)?;
        let (rooms, users) = directory.size();
        let standin = Standin::start(client, directory, config).await?;
        output::print(&format!("ready: {users} users in {rooms} rooms behind {}\n", options.servers[0]));
        until_it_ends(args.stand.lifetime).await?;
        let injected = standin.injected().len();
        if injected > 0 {
            eprintln!("{injected} faults injected");
        }
        standin.stop().await;
        Ok(Exit::Done)
    })
}

/// Until its time is over, or a signal asks for the end.
pub async fn until_it_ends(lifetime_ns: Option<i64>) -> Result<()> {
    let lifetime = async {
        match lifetime_ns {
            Some(ns) => tokio::time::sleep(Duration::from_nanos(ns as u64)).await,
            None => std::future::pending().await,
        }
    };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(could_not_run)?;
    tokio::select! {
        () = lifetime => {}
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Population, and the workload it is of: from MongoDB, the schedule, or the default preset.
fn directory(args: &StandinArgs) -> Result<(Directory, Workload)> {
    let (population, workload) = match &args.schedule {
        Some(path) => seed::of_schedule(path)?,
        None => seed::of_workload("medium", &Overrides::default())?,
    };
    if let Some(uri) = &args.mongo {
        let stored = seed::in_store(uri, async |store| store.load(&seed::site(&workload)).await)?;
        let mut directory = Directory::from_store(&stored);
        // Messages are not in MongoDB; they follow from the schedule.
        if let Some(chat) = population.chat() {
            directory = directory.said_before(chat);
        }
        return Ok((directory, workload));
    }
    let chat = population.chat().ok_or_else(|| usage("the stand-in serves chat workloads; this one has no [population.chat]"))?;
    Ok((Directory::from_chat(chat), workload))
}
