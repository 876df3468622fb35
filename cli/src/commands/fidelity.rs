use crate::args::FidelityArgs;
use crate::failure::{Exit, Result};
use crate::output;
use analyze::Limits;

pub fn run(args: &FidelityArgs) -> Result<Exit> {
    let found = analyze::fidelity(&args.original, &args.copy, Limits { gap_ns: args.gap, drift_ns: args.drift })?;
    if let Some(path) = &args.chart {
        output::write(path, found.chart().svg()?)?;
    }
    if args.json {
        output::print(&(serde_json::to_string_pretty(&found).expect("plain data") + "\n"));
    } else {
        output::print(&found.text());
    }
    Ok(if found.is_faithful() { Exit::Done } else { Exit::Trip })
}
