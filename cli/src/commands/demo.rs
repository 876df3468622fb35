use super::command_line::command_line;
use super::replay::{Sent, prepare_dir, send};
use super::{compile, nats};
use crate::args::{Demo, Nats};
use crate::failure::{Exit, Result, could_not_run};
use crate::output;
use analyze::{Question, render};
use fixtures::{Overrides, Population};
use replay::{Options, Plan};
use schedule::Meta;
use standin::server::NatsServer;
use standin::{Config, Directory, Service, Standin, WebConfig, WebStandin};
use std::path::Path;
use tokio::runtime::Runtime;

pub fn run(args: &Demo) -> Result<Exit> {
    let run = ulid::Ulid::new().to_string();
    let run_dir = args.runs.join(&run);
    prepare_dir(&run_dir)?;
    let path = run_dir.join("schedule.parquet");
    let overrides = Overrides { duration_ns: Some(args.duration), rate_per_sec: args.rate, ..Overrides::default() };
    let meta = compile::compile(&args.preset, &overrides, &path)?;
    let runtime = tokio::runtime::Runtime::new().map_err(could_not_run)?;
    let over_nats = meta.actions.iter().any(|action| action.transport == "nats");
    let demonstrate = if over_nats { over_nats_server } else { over_http };
    let sent = demonstrate(&runtime, &meta, &Options::new(&path, &run_dir, &run, wire::Options::default()))?;
    report(args, &run_dir, sent.interrupted)
}

/// Against the chat services on a server of its own.
fn over_nats_server(runtime: &Runtime, meta: &Meta, options: &Options) -> Result<Sent> {
    let store = tempfile::tempdir().map_err(could_not_run)?;
    let server = NatsServer::start(store.path()).map_err(could_not_run)?;
    let nats = nats::options(&local(server.url()), "retempo demo")?;
    let population = Population::of_schedule(meta)?;
    let chat = population.chat().ok_or_else(|| could_not_run("over NATS, the demo runs chat presets"))?;
    let standin = runtime.block_on(async {
        let client = replay::control::connect(&nats).await.map_err(could_not_run)?;
        Standin::start(client, Directory::from_chat(chat), Config::default()).await.map_err(crate::failure::Failure::from)
    })?;
    let sent = replayed(meta, server.url(), Options { nats, ..options.clone() });
    runtime.block_on(standin.stop());
    sent
}

/// Against the search gateway, if there is somebody to be found; else against the market service.
fn over_http(runtime: &Runtime, meta: &Meta, options: &Options) -> Result<Sent> {
    let config = WebConfig { workers: meta.known.get("worker").cloned(), ..WebConfig::default() };
    let service = if config.workers.is_some() { Service::Gateway } else { Service::Market };
    let standin = runtime.block_on(WebStandin::start(service, ([127, 0, 0, 1], 0).into(), config))?;
    let mut options = options.clone();
    options.http.base_url = Some(standin.url());
    replayed(meta, &standin.url(), options)
}

fn replayed(meta: &Meta, server: &str, options: Options) -> Result<Sent> {
    eprintln!("replaying {} ops of `{}` at {server}", meta.rows, meta.name);
    let options = Options { command: command_line(), ..options };
    let plan = Plan::of(&options)?;
    send(&options, &plan, false)
}

fn report(args: &Demo, run_dir: &Path, interrupted: bool) -> Result<Exit> {
    let summary = analyze::analyze(run_dir, &Question::default())?;
    output::write(&run_dir.join("summary.json"), render::json(&summary))?;
    output::write(&run_dir.join("report.html"), render::html(&summary)?)?;
    output::print(&render::text(&summary));
    output::print(&format!("\nreport   {0}/report.html\nsummary  {0}/summary.json\nrun      {0}\n", run_dir.display()));
    Ok(match interrupted {
        true => Exit::Interrupted,
        false if args.verdict => summary.verdict.outcome.into(),
        false => Exit::Done,
    })
}

/// The server flags for a server without authentication.
fn local(url: &str) -> Nats {
    Nats {
        server: vec![url.to_owned()],
        creds: None,
        nkey: None,
        user: None,
        password: None,
        token: None,
        tls: false,
        tls_ca: None,
        tls_cert: None,
        tls_key: None,
        yes: false,
    }
}
