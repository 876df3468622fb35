use super::seed;
use super::standin::until_it_ends;
use crate::args::StandinWebArgs;
use crate::failure::{Exit, Result, could_not_run};
use crate::output;
use fixtures::Overrides;
use schedule::Reader;
use standin::{WebConfig, WebStandin};
use std::time::Duration;

pub fn run(args: &StandinWebArgs) -> Result<Exit> {
    let workers = match &args.schedule {
        Some(path) => Reader::open(path)?.meta().known.get("worker").cloned(),
        None => seed::of_workload("multitier", &Overrides::default())?.0.tables().get("worker").map(fixtures::Table::plain),
    };
    let config = WebConfig {
        seed: args.stand.seed,
        service: args.service_time,
        faults: args.fault.clone(),
        ledger: args.stand.ledger.clone(),
        rate_limit: args.rate_limit,
        token: args.token.clone(),
        push_every: Duration::from_nanos(args.push_every.max(1) as u64),
        workers,
    };
    let runtime = tokio::runtime::Runtime::new().map_err(could_not_run)?;
    runtime.block_on(async {
        let standin = WebStandin::start(args.service, args.listen, config).await?;
        output::print(&format!("ready at {}\n", standin.url()));
        until_it_ends(args.stand.lifetime).await?;
        let injected = standin.injected().len();
        if injected > 0 {
            eprintln!("{injected} faults injected");
        }
        Ok(Exit::Done)
    })
}
