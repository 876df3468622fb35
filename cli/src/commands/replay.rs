use super::command_line::command_line;
use super::{analyze as analyzing, http, nats, seed};
use crate::args::{Listening, OnDisconnectArg, Replay, Sight};
use crate::failure::{Exit, Result, could_not_run, usage};
use crate::output;
use fixtures::{Population, Workload};
use replay::{Conduct, Connections, Listener, OnDisconnect, Options, Plan, Progress, Receivers, Report, Stop, TempoChoice, Watch};
use schedule::Tempo;
use schedule::units::{show_bytes, show_count, show_ns, show_rate};
use std::path::PathBuf;

pub fn run(args: &Replay) -> Result<Exit> {
    let tempo = match (&args.speed, args.rate) {
        (Some(speed), _) => TempoChoice::Tempo(Tempo::parse_speed(speed).map_err(usage)?),
        (_, Some(rate)) => TempoChoice::Rate(rate),
        _ => TempoChoice::Tempo(Tempo::default()),
    };
    let question = analyzing::question(&args.judge)?;
    let plan = Plan::new(&args.schedule, &tempo, args.loops, args.duration)?;
    analyze::check_lines(&question, &plan.meta)?;
    let peak = plan.meta.peak_rate_per_sec * plan.tempo.speed();
    if let Some(max) = args.max_rate
        && peak > max
    {
        return Err(usage(format!("the peak of {} is above --max-rate {}; lower --rate or --speed", show_rate(peak), show_rate(max))));
    }
    if args.dry_run {
        return Ok(dry_run(&plan, peak));
    }
    let nats = nats::options(&args.nats, "retempo replay")?;
    let http = http::options(&args.http, &args.nats)?;
    http::confirm(&args.nats, &nats, &http, &plan)?;
    if let Some(uri) = &args.mongo {
        seed::require(uri, &plan.meta, &args.schedule)?;
    }
    let run = ulid::Ulid::new().to_string();
    let run_dir = args.output.clone().unwrap_or_else(|| PathBuf::from("runs").join(&run));
    let options = Options {
        command: command_line(),
        tempo,
        loops: args.loops,
        duration_ns: args.duration,
        connections: connections(args.direct, args.connections),
        write_spacing_ns: args.write_spacing,
        on_disconnect: match args.on_disconnect {
            OnDisconnectArg::Hold => OnDisconnect::Hold,
            OnDisconnectArg::Skip => OnDisconnect::Skip,
        },
        drain_timeout_ns: args.drain_timeout,
        http,
        ..Options::new(&args.schedule, &run_dir, &run, nats)
    };
    let options = sighted(options, &args.sight, &plan)?;
    let options = listening(options, &args.listening, &plan)?;
    prepare_dir(&run_dir)?;
    let report = send(&options, &plan, args.quiet)?;
    output::print(&format!("{}\n", run_dir.display()));
    if question.slo.is_some() {
        let summary = analyze::analyze(&run_dir, &question)?;
        eprint!("{}", analyze::render::text(&summary));
        return Ok(if report.interrupted { Exit::Interrupted } else { summary.verdict.outcome.into() });
    }
    eprintln!("analyse it: retempo analyze {}", run_dir.display());
    Ok(if report.interrupted { Exit::Interrupted } else { Exit::Done })
}

/// How sending went.
pub struct Sent {
    pub interrupted: bool,
}

/// Replays with progress and signals: the first drains, the second quits.
pub fn send(options: &Options, plan: &Plan, quiet: bool) -> Result<Sent> {
    sent(quiet, |stop, progress| replay::replay(options, plan, stop, progress))
}

/// The same in steps.
pub fn send_steps(options: &Options, plan: &Plan, quiet: bool, conduct: &mut Conduct<'_>) -> Result<Sent> {
    sent(quiet, |stop, progress| replay::replay_steps(options, plan, stop, progress, conduct))
}

fn sent(quiet: bool, run: impl FnOnce(&Stop, &mut dyn FnMut(&Progress)) -> std::result::Result<Report, replay::Error>) -> Result<Sent> {
    let stop = Stop::default();
    let asked = stop.clone();
    let handled = ctrlc::set_handler(move || {
        if asked.ask() == 1 {
            eprintln!("\nstopping: waiting for answers; once more to quit");
        }
    });
    handled.map_err(|e| could_not_run(format!("cannot watch for signals: {e}")))?;
    let show = !quiet && output::is_terminal();
    let report = run(&stop, &mut |p: &Progress| {
        if show {
            eprintln!("{}", progress_line(p));
        }
    })?;
    if report.dropped > 0 {
        eprintln!("{} records were lost because a buffer was full; the verdict will say so", report.dropped);
    }
    Ok(Sent { interrupted: stop.asked() > 0 })
}

/// With what is looked at while it runs. What is watched must be there; a Prometheus may come later.
pub fn sighted(options: Options, sight: &Sight, plan: &Plan) -> Result<Options> {
    let found = |watch: &Watch| watch.clone().found().map_err(|e| usage(format!("--watch: {e}")));
    let watches = sight.watch.iter().map(found).collect::<Result<Vec<_>>>()?;
    let mut parts: Vec<String> = plan.meta.stages.iter().flat_map(|stage| stage.parts.clone()).collect();
    parts.retain(|part| sight.watch.iter().all(|watch| watch.name != *part));
    let promql = sight.prometheus.as_ref().map(|url| replay::Promql::new(url, &parts, &sight.prometheus_query));
    let nats_monitoring = sight.nats_monitoring.clone();
    Ok(Options { watches, promql, nats_monitoring, metrics_addr: sight.metrics_addr, ..options })
}

/// With users who receive, if they are asked for.
pub fn listening(options: Options, listening: &Listening, plan: &Plan) -> Result<Options> {
    let Some(own) = listening.receivers else { return Ok(options) };
    let named = |what: String| usage(format!("--receivers: {}: {what}", options.schedule.display()));
    let population = Population::of_schedule(&plan.meta).map_err(|e| named(e.to_string()))?;
    let workload: Workload = serde_json::from_value(plan.meta.workload.clone()).map_err(|e| named(e.to_string()))?;
    let (listeners, copies) = fixtures::receivers(&workload, &population, own, listening.receiver_pool).map_err(named)?;
    let listeners = listeners.into_iter().map(|(name, subjects)| Listener { name, subjects }).collect();
    Ok(Options { receivers: Some(Receivers { listeners, copies }.into()), ..options })
}

/// How sessions are spread, as typed.
pub fn connections(direct: bool, shared: u16) -> Connections {
    if direct { Connections::Direct } else { Connections::Shared(shared) }
}

fn progress_line(p: &Progress) -> String {
    let phase = match (p.draining, p.step) {
        (true, _) => "draining".to_owned(),
        (false, 0) => "sending ".to_owned(),
        (false, step) => format!("step {step:<3}"),
    };
    format!(
        "{phase} {:>7}  due {:>9}  sent {:>9}  answers {:>9}  outstanding {:>7}  late p99 <{:>7}  backlog {:>6}",
        show_ns(p.t_ns - p.t_ns % 1_000_000),
        show_count(p.due as u64),
        show_count(p.sent as u64),
        show_count(p.answers as u64),
        show_count(p.outstanding as u64),
        show_ns(p.late_p99_ns),
        show_count(p.backlog as u64),
    )
}

fn dry_run(plan: &Plan, peak: f64) -> Exit {
    let mut text = format!(
        "{} ops over {}: {} (peak {}), {} laps of {}\n{} a lap, largest payload {}\n",
        show_count(plan.ops as u64),
        show_ns(plan.span_ns),
        show_rate(plan.rate_per_sec),
        show_rate(peak),
        plan.loops,
        show_ns(plan.tempo.run_ns(plan.meta.duration_ns)),
        show_bytes(plan.lap_bytes),
        show_bytes(plan.max_payload_bytes as u64),
    );
    for (action, n) in plan.meta.actions.iter().zip(&plan.ops_by_action) {
        text += &format!("{:20} {:>12} a lap\n", action.name, show_count(*n));
    }
    output::print(&text);
    Exit::Done
}

/// The run folder is made, and found writable, before anything is sent.
pub fn prepare_dir(dir: &std::path::Path) -> Result<()> {
    if dir.join(runlog::MANIFEST).exists() {
        return Err(usage(format!("{} is a run already; nothing recorded is overwritten: choose another folder with -o", dir.display())));
    }
    if dir.is_file() {
        return Err(usage(format!("{} is a file; a run needs a folder: choose another with -o", dir.display())));
    }
    let probe = dir.join(".probe");
    let writable = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&probe, "")).and_then(|()| std::fs::remove_file(&probe));
    writable.map_err(|e| usage(format!("cannot write the run folder {}: {e}; choose another with -o", dir.display())))
}
