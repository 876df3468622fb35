//! What is reported is what happened: against closed forms, known distributions and the stand-in's ledger.

use analyze::{Percentiles, Question, Summary};
use harness::{World, echo_workload, injected, series};
use replay::{Options, Plan, Progress, Stop};
use rustix::process::{Pid, Signal, kill_process};
use standin::{Config, Fault, StageName};
use std::time::{Duration, Instant};

const SEC: i64 = 1_000_000_000;

/// Stops the server with the first progress, which comes after a second, and lets it go on with the next. The summary, and
/// for how long it stood still, s.
fn with_stalled_server(world: &World, options: &Options) -> (Summary, f64) {
    let pid = Pid::from_raw(world.server.pid() as i32).unwrap();
    let plan = Plan::of(options).unwrap();
    let (mut stopped, mut stood) = (None::<Instant>, None::<Duration>);
    replay::replay(options, &plan, &Stop::default(), &mut |_: &Progress| match (stopped, stood) {
        (None, _) => {
            kill_process(pid, Signal::STOP).unwrap();
            stopped = Some(Instant::now());
        }
        (Some(since), None) => {
            kill_process(pid, Signal::CONT).unwrap();
            stood = Some(since.elapsed());
        }
        _ => {}
    })
    .unwrap();
    (analyze::analyze(&options.run_dir, &Question::default()).unwrap(), stood.unwrap().as_secs_f64())
}

/// Of ops due evenly over `total_s`, those within the stall of `stall_s` wait for its end: the slowest share
/// f = stall ÷ total is spread evenly from 0 to the stall, so that Q(q) = stall · (q − (1 − f)) ÷ f above 1 − f.
fn closed_form_s(q: f64, stall_s: f64, total_s: f64) -> f64 {
    let f = stall_s / total_s;
    (stall_s * (q - (1.0 - f)) / f).max(0.0)
}

/// Everything beside the stall is this fast, and the machine this noisy.
const NOISE_S: f64 = 0.15;

fn follows_the_closed_form(response: &Percentiles, stall_s: f64, total_s: f64) {
    let found = [response.p50_ns, response.p90_ns, response.p99_ns, response.p999_ns, response.max_ns];
    for (q, found) in [0.5, 0.9, 0.99, 0.999, 1.0].into_iter().zip(found) {
        let (found, wanted) = (found.unwrap() as f64 / 1e9, closed_form_s(q, stall_s, total_s));
        assert!((found - wanted).abs() < NOISE_S, "q {q}: {found} s, the closed form says {wanted} s");
    }
}

#[test]
fn a_server_that_stands_still_by_core_requests() {
    let world = World::new();
    let _echo = world.echo();
    let (path, _) = world.compile_workload(&echo_workload(1_000, 4));
    let (summary, stall_s) = with_stalled_server(&world, &world.options(&path, "core"));
    let s = series(&summary, "ask/reply");
    assert_eq!((s.count, s.missing, s.unresolved), (4_000, 0, 0));
    follows_the_closed_form(&s.response, stall_s, 4.0);
    // Sending went on; a tool that waits for the answer before it sends on would have timed one op of the whole stall.
    assert!(summary.lateness.percentiles.p99_ns.unwrap() < 100_000_000, "{:?}", summary.lateness);
    assert!(!summary.lateness.late_by_cause.contains_key("socket_full"), "{:?}", summary.lateness);
    assert!(s.service.p99_ns.is_some(), "service time stands beside it");
}

#[test]
fn a_server_that_stands_still_by_jetstream_acknowledgements() {
    let world = World::new();
    world.runtime.block_on(async {
        let context = async_nats::jetstream::new(replay::control::connect(&world.nats()).await.unwrap());
        let config = async_nats::jetstream::stream::Config { name: "S".into(), subjects: vec!["echo.ask".into()], ..Default::default() };
        context.create_stream(config).await.unwrap();
    });
    let (path, _) = world.compile_workload(&echo_workload(500, 4));
    let (summary, stall_s) = with_stalled_server(&world, &world.options(&path, "js"));
    let s = series(&summary, "ask/reply");
    assert_eq!((s.count, s.missing, s.unresolved), (2_000, 0, 0));
    follows_the_closed_form(&s.response, stall_s, 4.0);
}

#[test]
fn a_stage_that_stands_still_shows_in_its_own_series_only() {
    let world = World::new();
    let (path, meta) = world.compile("small", 300.0, 4 * SEC);
    let config = Config { faults: vec!["stall=broadcast-worker:1s:1s".parse().unwrap()], ..Config::default() };
    let services = world.standin(&meta, config);
    let (_, summary) = world.run(&world.options(&path, "stage"));
    services.stop();
    let (reply, broadcast) = (series(&summary, "send/reply"), series(&summary, "send/broadcast"));
    assert_eq!((reply.ok, broadcast.ok), (1_200, 1_200));
    follows_the_closed_form(&broadcast.response, 1.0, 4.0);
    assert!(reply.response.p99_ns.unwrap() < 500_000_000, "{:?}", reply.response);
}

/// By the inequality of Dvoretzky, Kiefer, Wolfowitz and Massart the empirical quantile q of n draws lies between those of
/// q ± sqrt(ln(2/δ) ÷ 2n), but for a chance of δ: one in a million.
fn sampling_error(n: u64) -> f64 {
    ((2.0 / 1e-6f64).ln() / (2.0 * n as f64)).sqrt()
}

/// What the path there and back adds at most.
const PATH_S: f64 = 0.04;

/// A machine that is busy with other things adds more at times, so it is asked again; never does anything come out shorter.
fn follows(service: &str, quantile_s: impl Fn(f64) -> f64) {
    let beyond: Vec<String> = (0..5).map_while(|_| beyond(service, &quantile_s)).collect();
    assert!(beyond.len() < 5, "{beyond:#?}");
}

/// What came out longer than it should.
fn beyond(service: &str, quantile_s: impl Fn(f64) -> f64) -> Option<String> {
    let world = World::new();
    let (path, meta) = world.compile("small", 400.0, 5 * SEC);
    let mut config = Config::default();
    config.stages[StageName::Gatekeeper as usize].service = service.parse().unwrap();
    let services = world.standin(&meta, config);
    let (_, summary) = world.run(&world.options(&path, "known"));
    services.stop();
    let s = series(&summary, "send/reply");
    assert_eq!((s.ok, s.missing), (2_000, 0));
    let e = sampling_error(s.count);
    [(0.5, s.response.p50_ns), (0.9, s.response.p90_ns), (0.95, s.response.p95_ns)].into_iter().find_map(|(q, found)| {
        let found = found.unwrap() as f64 / 1e9;
        let (low, high) = (quantile_s((q - e).max(0.0)), quantile_s((q + e).min(0.999)) + PATH_S);
        assert!(low <= found, "{service}: q {q} is {found} s, and should be at least {low}");
        (found > high).then(|| format!("{service}: q {q} is {found} s, and should be at most {high}"))
    })
}

#[test]
fn constant_service_times_come_out() {
    follows("80ms", |_| 0.08);
}

#[test]
fn exponential_service_times_come_out() {
    follows("exp:60ms", |q| -0.06 * (1.0 - q).ln());
}

#[test]
fn bimodal_service_times_come_out() {
    follows("bimodal:10ms:200ms:30%", |q| if q < 0.7 { 0.01 } else { 0.2 });
}

/// Faults together, at probabilities drawn from a seed: every counter is the ledger's.
fn counts_equal_the_ledger(seed: u64) {
    let world = World::new();
    let (path, meta) = world.compile("medium", 300.0, 3 * SEC);
    let mut rng = fixtures::Rng::new(seed, "faults");
    let kinds = ["drop", "error_reply", "missing_broadcast", "duplicate_broadcast"];
    let mut faults: Vec<Fault> = Vec::new();
    for kind in kinds {
        if rng.chance(0.75) {
            faults.push(format!("{kind}={}%", rng.within(1, 30)).parse().unwrap());
        }
    }
    let services = world.standin(&meta, Config { faults: faults.clone(), seed, ..Config::default() });
    let (_, summary) = world.run(&world.options(&path, "mixed"));
    let ledger = services.stop();
    let n = |kind: &str| injected(&ledger, kind);
    let (reply, broadcast) = (series(&summary, "send/reply"), series(&summary, "send/broadcast"));
    assert_eq!(reply.missing, n("drop"), "{faults:?}");
    assert_eq!(reply.errors.values().sum::<u64>(), n("error_reply"), "{faults:?}");
    assert_eq!(reply.ok, 900 - n("drop") - n("error_reply"), "{faults:?}");
    assert_eq!(broadcast.missing, n("drop") + n("missing_broadcast"), "{faults:?}");
    assert_eq!(broadcast.void, n("error_reply"), "{faults:?}");
    let lost: Vec<u64> = ledger.iter().filter(|i| i.fault == "missing_broadcast").map(|i| i.stream_seq).collect();
    let twice = ledger.iter().filter(|i| i.fault == "duplicate_broadcast" && !lost.contains(&i.stream_seq)).count() as u64;
    assert_eq!(broadcast.duplicates, twice, "{faults:?}");
}

#[test]
fn counts_equal_the_ledger_in_combination_1() {
    counts_equal_the_ledger(1);
}

#[test]
fn counts_equal_the_ledger_in_combination_2() {
    counts_equal_the_ledger(2);
}

#[test]
fn counts_equal_the_ledger_in_combination_3() {
    counts_equal_the_ledger(3);
}

#[test]
fn foreign_answers_are_counted_and_not_taken_for_ours() {
    let world = World::new();
    let (path, meta) = world.compile("small", 200.0, 2 * SEC);
    let services = world.standin(&meta, Config::default());
    let foreign = world.runtime.block_on(async { replay::control::connect(&world.nats()).await.unwrap() });
    let options = world.options(&path, "foreign");
    let mut sent = 0u64;
    let plan = Plan::of(&options).unwrap();
    replay::replay(&options, &plan, &Stop::default(), &mut |_: &Progress| {
        world.runtime.block_on(async {
            for _ in 0..25 {
                // Another run's request id, and a body that no rule of ours takes for an id.
                let subject = "chat.user.user-1.response.018f6f0e-5b7a-7c31-9d52-0c4f1b2a9e77";
                foreign.publish(subject, "{}".into()).await.unwrap();
            }
            foreign.flush().await.unwrap();
        });
        sent += 25;
    })
    .unwrap();
    services.stop();
    let summary = analyze::analyze(&options.run_dir, &Question::default()).unwrap();
    assert!(sent >= 25);
    // Those of the last second may arrive after the end.
    assert!((sent - 25..=sent).contains(&summary.evidence.foreign), "{} of {sent}", summary.evidence.foreign);
    assert_eq!((series(&summary, "send/reply").ok, summary.evidence.orphans), (400, 0));
}
