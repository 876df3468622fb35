//! The command line: what may be typed, and one call into a library for each command.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod failure;
mod output;
mod search;

use clap::Parser;
use failure::{Exit, Failure};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match commands::run(args.command) {
        Ok(exit) => exit.into(),
        Err(Failure { exit, message }) => {
            eprintln!("retempo: {message}");
            exit.into()
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
