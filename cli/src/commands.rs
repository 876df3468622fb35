//! One command per file.

mod analyze;
mod capture;
mod check;
mod command_line;
mod compile;
mod course;
mod demo;
mod edit;
mod fidelity;
mod http;
mod import;
mod inspect;
mod nats;
mod preset;
mod ramp;
mod replay;
mod search;
mod seed;
mod slo;
mod standin;
mod standin_web;

use crate::args::{Args, Command};
use crate::failure::{Exit, Result};
use clap::CommandFactory;

/// Runs a command.
pub fn run(command: Command) -> Result<Exit> {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Preset(args) => preset::run(&args),
        Command::Compile(args) => compile::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Seed(args) => seed::seed(&args.fixture),
        Command::Teardown(args) => seed::teardown(&args.fixture),
        Command::Check(args) => check::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Capture(args) => capture::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Cut(args) => edit::cut(&args),
        Command::Merge(args) => edit::merge(&args),
        Command::Concat(args) => edit::concat(&args),
        Command::Scale(args) => edit::scale(&args),
        Command::Fidelity(args) => fidelity::run(&args),
        Command::Ramp(args) => ramp::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Analyze(args) => analyze::run(&args),
        Command::Slo(args) => slo::run(&args),
        Command::Standin(args) => standin::run(&args),
        Command::StandinWeb(args) => standin_web::run(&args),
        Command::Completions(args) => {
            clap_complete::generate(args.shell, &mut Args::command(), "retempo", &mut std::io::stdout());
            Ok(Exit::Done)
        }
    }
}
