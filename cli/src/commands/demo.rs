use super::replay::{command_line, prepare_dir, send};
use super::{compile, nats};
use crate::args::{Demo, Nats};
use crate::failure::{Exit, Result, could_not_run};
use crate::output;
use analyze::{Question, render};
use fixtures::{Overrides, Population};
use replay::{Options, Plan};
use standin::server::NatsServer;
use standin::{Config, Directory, Standin};

pub fn run(args: &Demo) -> Result<Exit> {
    let store = tempfile::tempdir().map_err(could_not_run)?;
    let server = NatsServer::start(store.path()).map_err(could_not_run)?;
    let run = ulid::Ulid::new().to_string();
    let run_dir = args.runs.join(&run);
    prepare_dir(&run_dir)?;
    let schedule = run_dir.join("schedule.parquet");
    let overrides = Overrides { duration_ns: Some(args.duration), rate_per_sec: args.rate, ..Overrides::default() };
    let meta = compile::compile(&args.preset, &overrides, &schedule)?;
    let nats = nats::options(&local(server.url()), "retempo demo")?;

    let runtime = tokio::runtime::Runtime::new().map_err(could_not_run)?;
    let population = Population::of_schedule(&meta)?;
    let chat = population.chat().ok_or_else(|| could_not_run("the demo runs chat presets"))?;
    let standin = runtime.block_on(async {
        let client = replay::control::connect(&nats).await.map_err(could_not_run)?;
        Standin::start(client, Directory::from_chat(chat), Config::default()).await.map_err(crate::failure::Failure::from)
    })?;
    eprintln!("replaying {} ops of `{}` at {}", meta.rows, meta.name, server.url());
    let options = Options { command: command_line(), ..Options::new(&schedule, &run_dir, &run, nats) };
    let plan = Plan::of(&options)?;
    let sent = send(&options, &plan, false)?;
    runtime.block_on(standin.stop());
    drop(server);

    let summary = analyze::analyze(&run_dir, &Question::default())?;
    output::write(&run_dir.join("summary.json"), render::json(&summary))?;
    output::write(&run_dir.join("report.html"), render::html(&summary)?)?;
    output::print(&render::text(&summary));
    output::print(&format!("\nreport   {0}/report.html\nsummary  {0}/summary.json\nrun      {0}\n", run_dir.display()));
    Ok(if sent.interrupted { Exit::Interrupted } else { Exit::Done })
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
