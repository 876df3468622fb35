use super::capture::{name, policy, rules, tell};
use crate::args::{Import, ImportFormat};
use crate::failure::{Exit, Result, usage};
use crate::output::must_not_exist;
use capture::import::{self, Mapping, Request};
use capture::{Folder, Redactor};
use schedule::units::{show_count, show_ns};

pub fn run(args: &Import) -> Result<Exit> {
    must_not_exist(&args.output, false)?;
    let bytes = std::fs::read(&args.file).map_err(|e| usage(format!("cannot read {}: {e}", args.file.display())))?;
    let named = |what: String| usage(format!("{}: {what}", args.file.display()));
    let text = || std::str::from_utf8(&bytes).map_err(|_| named("is not UTF-8 text".into()));
    let messages = match args.format {
        ImportFormat::Ndjson => import::ndjson(text()?, &mapping(args)?).map_err(named)?,
        ImportFormat::Csv => import::csv(&bytes, &mapping(args)?).map_err(named)?,
        ImportFormat::Gor => return http(args, import::gor(&bytes).map_err(named)?),
        ImportFormat::Har => return http(args, import::har(text()?).map_err(named)?),
        ImportFormat::Vegeta => {
            let rate = args.rate.ok_or_else(|| usage("vegeta's targets have no times; say --rate"))?;
            return http(args, import::vegeta(text()?, rate).map_err(named)?);
        }
    };
    let redactor = policy(&args.understanding)?.map(Redactor::new);
    let folder = Folder::of(&Folder::beside(&args.output), &args.file.display().to_string(), messages, redactor)?;
    tell(&args.output, &capture::finish(&folder, &rules(&args.understanding)?, &name(&args.output), &args.output)?, &folder.ledger())
}

fn mapping(args: &Import) -> Result<Mapping> {
    let map = args.map.as_deref().ok_or_else(|| usage("say by --map which field is what: time=/ts,subject=/subject,payload=/data"))?;
    let text = if map.contains('=') {
        let pair = |pair: &str| pair.split_once('=').map(|(name, field)| format!("{name} = {field:?}\n"));
        map.split(',').map(pair).collect::<Option<String>>().ok_or_else(|| usage(format!("--map: `{map}` is not NAME=FIELD,NAME=FIELD")))?
    } else {
        std::fs::read_to_string(map).map_err(|e| usage(format!("--map: cannot read {map}: {e}")))?
    };
    Mapping::parse(&text).map_err(|what| usage(format!("--map: {map}: {what}")))
}

fn http(args: &Import, requests: Vec<Request>) -> Result<Exit> {
    let meta = import::write_http(requests, policy(&args.understanding)?, &args.file.display().to_string(), &args.output)?;
    let (rows, duration) = (show_count(meta.rows as u64), show_ns(meta.duration_ns));
    eprintln!("{}: {rows} requests over {duration}; replay does not speak HTTP yet", args.output.display());
    Ok(Exit::Done)
}
