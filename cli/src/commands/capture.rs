use super::{compile, nats};
use crate::args::{Capture, CaptureCommand, CaptureJetstream, CaptureNats, Understanding};
use crate::failure::{Exit, Result, could_not_run, usage};
use crate::output;
use capture::nats::Control;
use capture::{Composed, Folder, Ledger, Policy, Rules};
use schedule::units::{show_count, show_ns};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub fn run(args: &Capture) -> Result<Exit> {
    match &args.command {
        CaptureCommand::Nats(args) => live(args),
        CaptureCommand::Jetstream(args) => stored(args),
    }
}

fn live(args: &CaptureNats) -> Result<Exit> {
    output::must_not_exist(&args.output, false)?;
    let rules = rules(&args.understanding)?;
    if args.finish {
        let folder = Folder::open(&Folder::beside(&args.output))?;
        return tell(&args.output, &capture::finish(&folder, &rules, &name(&args.output), &args.output)?, &folder.ledger());
    }
    let inboxes = (!args.no_inboxes && !args.subjects.iter().any(|s| s == ">")).then(|| "_INBOX.>".to_owned());
    let options = capture::nats::Options {
        nats: nats::options(&args.nats, "retempo capture")?,
        subjects: args.subjects.iter().cloned().chain(inboxes).collect(),
        duration: args.duration.map(|ns| Duration::from_nanos(ns as u64)),
        max_messages: args.max_messages,
        redact: policy(&args.understanding)?,
        waiting_bytes: capture::nats::BYTES_WAITING,
    };
    let control = Control::default();
    let asked = control.clone();
    ctrlc::set_handler(move || asked.stop()).map_err(|e| could_not_run(format!("cannot watch for signals: {e}")))?;
    let told = control.clone();
    // Ends by itself when the subscriptions are confirmed, and with the process when they never are.
    std::thread::spawn(move || {
        told.wait_ready();
        eprintln!("listening; Ctrl-C ends it");
    });
    let folder = capture::nats::listen(&options, &Folder::beside(&args.output), &control)?;
    tell(&args.output, &capture::finish(&folder, &rules, &name(&args.output), &args.output)?, &folder.ledger())
}

fn stored(args: &CaptureJetstream) -> Result<Exit> {
    output::must_not_exist(&args.output, false)?;
    let rules = rules(&args.understanding)?;
    let nats = nats::options(&args.nats, "retempo capture")?;
    // The hot path's client gives the clearer sentence when nobody is there.
    wire::connect_any(&nats, 0)?;
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i64);
    let options = capture::jetstream::Options {
        stream: args.stream.clone(),
        filter: args.filter.clone(),
        from_sequence: args.from_sequence,
        from_ns: args.last.map(|last| now_ns - last),
        max_messages: args.max_messages,
        redact: policy(&args.understanding)?,
    };
    let runtime = tokio::runtime::Runtime::new().map_err(could_not_run)?;
    let folder = runtime.block_on(async {
        let client = replay::control::connect(&nats).await.map_err(could_not_run)?;
        Ok::<_, crate::failure::Failure>(capture::jetstream::read(&client, &options, &Folder::beside(&args.output)).await?)
    })?;
    tell(&args.output, &capture::finish(&folder, &rules, &name(&args.output), &args.output)?, &folder.ledger())
}

/// What must not be recorded.
pub fn policy(args: &Understanding) -> Result<Option<Policy>> {
    let Some(file) = args.redact.as_deref() else { return Ok(Some(Policy::default())) };
    if file == "off" {
        return Ok(None);
    }
    let text = std::fs::read_to_string(file).map_err(|e| usage(format!("--redact: cannot read {file}: {e}")))?;
    let policy = Policy::parse(&text, |name| std::env::var(name).ok()).map_err(|what| usage(format!("--redact: {file}: {what}")))?;
    Ok(Some(policy))
}

/// What was typed, and what a workload says of answers.
pub fn rules(args: &Understanding) -> Result<Rules> {
    let workload = args.rules.as_deref().map(compile::load).transpose()?.map(|(workload, _)| workload);
    let mut rules = Rules {
        actions: args.action.clone(),
        session: args.session.clone(),
        ids: args.id.clone(),
        timeout_ns: args.timeout,
        ..Rules::default()
    };
    if let Some(workload) = workload {
        rules.streams = workload.streams.iter().map(|stream| workload.expand(stream)).collect();
        rules.answers = workload.answers.clone();
    }
    Ok(rules)
}

/// A schedule is named after its file.
pub fn name(output: &Path) -> String {
    output.file_stem().map_or_else(|| "capture".into(), |stem| stem.to_string_lossy().into_owned())
}

pub fn tell(output: &Path, composed: &Composed, ledger: &Ledger) -> Result<Exit> {
    let Composed { meta, answers, foreign, slots, binds } = composed;
    eprintln!(
        "{}: {} ops over {}, {} answers; {} ids and times fresh, {} values from answers",
        output.display(),
        show_count(meta.rows as u64),
        show_ns(meta.duration_ns),
        show_count(*answers),
        show_count(*slots),
        show_count(*binds)
    );
    if *foreign > 0 {
        eprintln!("{} answers belong to no op that was heard", show_count(*foreign));
    }
    if !ledger.redacted.0.is_empty() {
        let redacted: Vec<String> = ledger.redacted.0.iter().map(|(what, n)| format!("{} {what}", show_count(*n))).collect();
        eprintln!("redacted: {}", redacted.join(", "));
    }
    if ledger.dropped > 0 {
        eprintln!(
            "{} messages were dropped because writing did not keep up; a verdict on a replay will say so",
            show_count(ledger.dropped)
        );
    }
    if !ledger.gaps.is_empty() {
        let total = ledger.gaps.iter().map(|(from_ns, to_ns)| to_ns.saturating_sub(*from_ns)).fold(0, i64::saturating_add);
        let (n, total) = (show_count(ledger.gaps.len() as u64), show_ns(total));
        eprintln!("something was not heard: {n} gaps, {total} in all; a verdict on a replay will say so");
    }
    if ledger.cut_off {
        eprintln!("it was cut off: up to a second of its end is lacking");
    }
    Ok(Exit::Done)
}
