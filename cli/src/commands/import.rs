use super::capture::{name, policy, rules, tell};
use crate::args::{Import, ImportFormat};
use crate::failure::{Exit, Result, usage};
use crate::output::must_not_exist;
use capture::import::{self, Lacking, Mapping, Request};
use capture::{Folder, HandOn, Ledger, Redactor};
use runlog::Captured;
use schedule::units::{show_count, show_ns};

pub fn run(args: &Import) -> Result<Exit> {
    must_not_exist(&args.output, false)?;
    let named = |what: String| usage(format!("{}: {what}", args.file.display()));
    let bytes = || std::fs::read(&args.file).map_err(|e| named(format!("cannot be read: {e}")));
    let text = || String::from_utf8(bytes()?).map_err(|_| named("is not UTF-8 text".into()));
    match args.format {
        ImportFormat::Ndjson => messages(args, import::ndjson(&text()?, &mapping(args)?).map_err(named)?),
        ImportFormat::Csv => messages(args, import::csv(&bytes()?, &mapping(args)?).map_err(named)?),
        ImportFormat::NatsDump => messages(args, import::nats_dump(&args.file, args.rate).map_err(named)?),
        ImportFormat::Pcap => nats(args, |hand_on| packets(args, hand_on)),
        ImportFormat::Gor => http(args, import::gor(&bytes()?).map_err(named)?),
        ImportFormat::Har => http(args, import::har(&text()?).map_err(named)?),
        ImportFormat::Vegeta => {
            let rate = args.rate.ok_or_else(|| usage("vegeta's targets have no times; say --rate"))?;
            http(args, import::vegeta(&text()?, rate).map_err(named)?)
        }
    }
}

fn messages(args: &Import, messages: Vec<Captured>) -> Result<Exit> {
    nats(args, |hand_on| messages.into_iter().try_for_each(hand_on).map(|()| Ledger::default()))
}

/// By the way of a capture.
fn nats(args: &Import, record: impl FnOnce(&mut HandOn<'_>) -> std::result::Result<Ledger, String>) -> Result<Exit> {
    let rules = rules(&args.understanding)?;
    let redactor = policy(&args.understanding)?.map(Redactor::new);
    let folder = Folder::of(&Folder::beside(&args.output), &args.file.display().to_string(), redactor, record)?;
    // The recording is where it was: what is half done would only be in the way.
    let composed = capture::finish(&folder, &rules, &name(&args.output), &args.output)
        .inspect_err(|_| drop(std::fs::remove_dir_all(folder.path())))?;
    tell(&args.output, &composed, &folder.ledger())
}

fn packets(args: &Import, hand_on: &mut HandOn<'_>) -> std::result::Result<Ledger, String> {
    let wanted = |subject: &[u8]| match args.subject.as_slice() {
        [] => !subject.starts_with(b"$"),
        subjects => {
            let subject = String::from_utf8_lossy(subject);
            subject.starts_with("_INBOX.") || subjects.iter().any(|wanted| schedule::subject::matches(wanted, &subject))
        }
    };
    let mut wanted_only = |message: Captured| if wanted(&message.subject) { hand_on(message) } else { Ok(()) };
    let Lacking { gaps, not_nats, cut_off } = import::pcap(&args.file, args.port, &mut wanted_only)?;
    if !not_nats.is_empty() {
        eprintln!("passed over, since they do not speak NATS (TLS cannot be read): {}", not_nats.join(", "));
    }
    Ok(Ledger { gaps, cut_off, ..Ledger::default() })
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
    eprintln!("{}: {rows} requests over {duration}", args.output.display());
    Ok(Exit::Done)
}
