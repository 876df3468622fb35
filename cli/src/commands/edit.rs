//! Schedules made of schedules.

use super::command_line::command_line;
use crate::args::{Cut, Scale, Several};
use crate::failure::{Exit, Result};
use crate::output::must_not_exist;
use capture::edit::{self, Edited};
use schedule::units::{show_count, show_ns, show_rate};
use serde_json::{Value, json};
use std::path::Path;

pub fn cut(args: &Cut) -> Result<Exit> {
    must_not_exist(&args.output, false)?;
    let asked = edit::Cut {
        time: Some(args.from..args.to.unwrap_or(i64::MAX)),
        actions: args.action.clone(),
        sessions: args.sessions.map(|n| 0..n),
        sample: args.sample,
        seed: args.seed,
    };
    tell(&args.output, &edit::cut(&args.schedule, &args.output, &asked, history())?)
}

pub fn merge(args: &Several) -> Result<Exit> {
    must_not_exist(&args.output, false)?;
    tell(&args.output, &edit::merge(&args.schedules, &args.output, history())?)
}

pub fn concat(args: &Several) -> Result<Exit> {
    must_not_exist(&args.output, false)?;
    tell(&args.output, &edit::concat(&args.schedules, &args.output, history())?)
}

pub fn scale(args: &Scale) -> Result<Exit> {
    must_not_exist(&args.output, false)?;
    let Scale { schedule, output, copies, entity, spread, seed } = args;
    tell(output, &edit::scale(schedule, output, *copies, *entity, *seed, *spread, history())?)
}

/// What the metadata remembers of it.
fn history() -> Value {
    json!({ "command": command_line() })
}

fn tell(output: &Path, edited: &Edited) -> Result<Exit> {
    let meta = &edited.meta;
    let (rows, duration, rate) = (show_count(meta.rows as u64), show_ns(meta.duration_ns), show_rate(meta.nominal_rate_per_sec));
    eprintln!("{}: {rows} ops over {duration}, {rate}", output.display());
    if edited.orphaned > 0 {
        eprintln!("{} ops more are left out: they wait for one that is", show_count(edited.orphaned));
    }
    Ok(Exit::Done)
}
