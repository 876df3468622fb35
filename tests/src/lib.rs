//! What end-to-end tests need: real servers on free ports, the stand-in in-process, a run from start to summary.
//!
//! A server that is not installed is an error that names the command, never a skipped test.
#![forbid(unsafe_code)]

mod echo;
mod mongod;
mod prometheus;
mod proxy;
mod site;
mod stall;
mod web;

pub use echo::{Echo, echo_workload, echo_workload_of};
pub use mongod::Mongod;
pub use prometheus::{Prometheus, free_port};
pub use proxy::Proxy;
pub use site::Site;
pub use stall::Stall;
pub use standin::server::NatsServer;
pub use web::{compiled, replayed, replayed_with};

use analyze::{Line, Question, Summary};
use fixtures::{Overrides, Population, Workload, preset};
use replay::{Options, Plan, Progress, Report, Stop};
use schedule::Meta;
use standin::{Config, Directory, Injected, Standin};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A nats-server with JetStream, a folder for everything, and a runtime for the services.
pub struct World {
    /// Temporary folder.
    pub dir: TempDir,
    /// The server.
    pub server: NatsServer,
    /// How to connect, but for the address.
    pub nats: wire::Options,
    /// For the stand-in and for asking the server.
    pub runtime: Runtime,
}

impl Default for World {
    fn default() -> Self {
        World::new()
    }
}

impl World {
    /// Starts a server.
    ///
    /// # Panics
    /// With the command that installs it, if it is not there.
    pub fn new() -> World {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let server = NatsServer::start(&dir.path().join("jetstream")).unwrap_or_else(|e| panic!("{e}"));
        World { dir, server, nats: wire::Options::default(), runtime: Runtime::new().expect("a runtime") }
    }

    /// Starts a server with this configuration file; `nats` says how to connect.
    ///
    /// # Panics
    /// If it does not start.
    pub fn configured(config: &str, nats: wire::Options) -> World {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("nats.conf");
        std::fs::write(&path, config).expect("it is writable");
        let server = NatsServer::start_with(&["-c".into(), path.display().to_string()]).unwrap_or_else(|e| panic!("{e}"));
        World { dir, server, nats, runtime: Runtime::new().expect("a runtime") }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Connection options for the server.
    pub fn nats(&self) -> wire::Options {
        wire::Options { servers: vec![self.server.url().parse().expect("ours")], ..self.nats.clone() }
    }

    /// Compiles a preset for so many ops per second and ns.
    pub fn compile(&self, name: &str, rate_per_sec: f64, duration_ns: i64) -> (PathBuf, Meta) {
        let overrides = Overrides { rate_per_sec: Some(rate_per_sec), duration_ns: Some(duration_ns), ..Overrides::default() };
        self.compile_workload(&preset(name).expect("a preset").with(&overrides).expect("it fits"))
    }

    /// Compiles a workload.
    pub fn compile_workload(&self, workload: &Workload) -> (PathBuf, Meta) {
        let population = Population::build(workload, workload.seed, Path::new(".")).expect("a population");
        let path = self.path(&format!("{}.parquet", workload.name));
        let meta = fixtures::compile(workload, &population, &path, &mut |_| {}).expect("it compiles");
        (path, meta)
    }

    /// Starts the stand-in for a schedule.
    pub fn standin(&self, meta: &Meta, config: Config) -> Services<'_> {
        let population = Population::of_schedule(meta).expect("a population");
        let directory = Directory::from_chat(population.chat().expect("a chat workload"));
        self.standin_with(directory, config)
    }

    /// Starts the stand-in for a directory.
    pub fn standin_with(&self, directory: Directory, config: Config) -> Services<'_> {
        let standin = self.runtime.block_on(async {
            let client = replay::control::connect(&self.nats()).await.expect("the server is up");
            Standin::start(client, directory, config).await.expect("JetStream is on")
        });
        Services { standin: Some(standin), runtime: &self.runtime }
    }

    /// Options that send a schedule once, as it is, into run folder `name`.
    pub fn options(&self, schedule: &Path, name: &str) -> Options {
        let run = format!("01TESTRUN{:0>17}", name.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), ""));
        Options { command: vec!["test".into()], ..Options::new(schedule, &self.path(name), &run, self.nats()) }
    }

    /// Replays and analyses.
    pub fn run(&self, options: &Options) -> (Report, Summary) {
        let plan = Plan::of(options).expect("a plan");
        let report = replay::replay(options, &plan, &Stop::default(), &mut |_: &Progress| {}).expect("it runs");
        let summary = analyze::analyze(&options.run_dir, &Question::default()).expect("it is analysed");
        (report, summary)
    }
}

/// Asks the run in `dir` these lines.
///
/// # Panics
/// If a line cannot be read.
pub fn ask(dir: &Path, lines: &[&str]) -> Summary {
    let lines: Vec<Line> = lines.iter().map(|l| l.parse().expect("a line")).collect();
    analyze::analyze(dir, &Question { slo: Some(lines), ..Question::default() }).expect("it is analysed")
}

/// The series of this name.
///
/// # Panics
/// If there is none.
pub fn series<'a>(summary: &'a Summary, name: &str) -> &'a analyze::Series {
    summary.series.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no series {name} in {:?}", summary.series))
}

/// A running stand-in.
pub struct Services<'a> {
    standin: Option<Standin>,
    runtime: &'a Runtime,
}

impl Services<'_> {
    /// Stops it and tells what it injected.
    pub fn stop(mut self) -> Vec<Injected> {
        let standin = self.standin.take().expect("only stopped once");
        let injected = standin.injected();
        self.runtime.block_on(standin.stop());
        injected
    }
}

/// How often a fault was injected.
pub fn injected(all: &[Injected], fault: &str) -> u64 {
    all.iter().filter(|i| i.fault == fault).count() as u64
}
