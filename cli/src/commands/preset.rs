use crate::args::{Preset, PresetCommand};
use crate::failure::{Exit, Result};
use crate::output::print;

pub fn run(args: &Preset) -> Result<Exit> {
    match &args.command {
        PresetCommand::Show { name } => print(&fixtures::preset_source(name)?),
        PresetCommand::List => {
            for (name, _) in fixtures::PRESETS {
                print(&format!("{name:12} {}\n", fixtures::preset(name)?.description));
            }
        }
    }
    Ok(Exit::Done)
}
