use crate::args::{Preset, PresetCommand};
use crate::failure::{Exit, Result};
use crate::output::print;

pub fn run(args: &Preset) -> Result<Exit> {
    match &args.command {
        PresetCommand::Show { name } => print(&fixtures::preset_source(name)?),
        PresetCommand::List => {
            for preset in fixtures::PRESETS {
                print(&format!("{:21} {}\n", preset.name, preset.description));
            }
        }
    }
    Ok(Exit::Done)
}
