//! How much the target takes: ramps and searches against a stand-in of known capacity, and the cases in which a load
//! generator is easily wrong.

mod common;

use common::{retempo, texts};
use harness::World;
use serde_json::Value;
use standin::{Config, StageName};

const SEC: i64 = 1_000_000_000;

/// Runs a line of arguments against the world's server: exit code, the summary, and standard error.
fn ask(world: &World, line: &str) -> (i32, Value, String) {
    ask_with(world, line, &[])
}

/// The same with SLO lines, which have spaces.
fn ask_with(world: &World, line: &str, slo: &[&str]) -> (i32, Value, String) {
    let slo = slo.iter().flat_map(|l| ["--slo", l]);
    let output = retempo(world.dir.path()).args(line.split(' ')).args(["-s", world.server.url(), "--json"]).args(slo).output().unwrap();
    let (code, out, err) = texts(&output);
    (code, serde_json::from_str(&out).unwrap_or(Value::Null), err)
}

/// The same, asked again while the machine is too busy with other things for a verdict.
fn decided(world: &World, line: &str, slo: &[&str]) -> (i32, Value, String) {
    let run = world.path(line.rsplit_once("-o ").unwrap().1.split(' ').next().unwrap());
    // Not a machine of its own: what is a little late does not matter to these conditions.
    let line = &format!("{line} --late-after 20ms");
    for _ in 0..5 {
        let asked = ask_with(world, line, slo);
        // A search tries again by itself.
        if !asked.2.contains("the generator was the limit") || line.starts_with("search") && asked.0 == 0 {
            return asked;
        }
        println!("{}", asked.2);
        std::fs::remove_dir_all(&run).unwrap();
    }
    ask_with(world, line, slo)
}

/// A gatekeeper that takes so many at a time, each for so long: its capacity is known.
fn gatekeeper(concurrency: usize, service: &str) -> Config {
    let mut config = Config::default();
    config.stages[StageName::Gatekeeper as usize] = standin::StageConfig { concurrency, service: service.parse().unwrap() };
    config
}

fn first_reason(summary: &Value) -> &str {
    summary["verdict"]["reasons"][0].as_str().unwrap_or("")
}

#[test]
fn a_ramp_names_its_answer_and_what_breaks_next() {
    let world = World::new();
    let (_, meta) = world.compile("medium", 200.0, 4 * SEC);
    let services = world.standin(&meta, gatekeeper(20, "40ms"));
    let line = "ramp medium.parquet --steps 150,300,1k,2k --warmup 500ms --hold 2s --cooldown 0s --csv csv --html r.html -o ramp";
    let slo = ["send/reply p95 < 500ms", "errors < 1%"];
    let (code, summary, err) = decided(&world, line, &slo);
    services.stop();
    assert_eq!(code, 0, "{err}");
    let capacity = &summary["capacity"];
    assert_eq!((capacity["answer"].as_f64(), capacity["first_trips"].as_bool()), (Some(300.0), Some(false)), "{err}");
    let limit = capacity["next_limit"].as_str().unwrap();
    assert!(limit.starts_with("send/reply p95 ") && limit.ends_with(" > 500ms"), "{limit}");
    let outcomes: Vec<&str> = summary["steps"].as_array().unwrap().iter().map(|s| s["verdict"]["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["PASS", "PASS", "TRIP"], "it ends with the first that trips");
    // Each step is a window of one run, and the run can be asked again.
    let (_, again, _) = texts_of(&world, &["analyze", "ramp", "--json", "--late-after", "20ms", "--slo", slo[0], "--slo", slo[1]]);
    assert_eq!(again["capacity"], summary["capacity"]);
    assert_eq!(again["steps"], summary["steps"]);
    let csv = std::fs::read_to_string(world.path("csv/steps.csv")).unwrap();
    assert!(csv.lines().nth(1).unwrap().starts_with("1,150,PASS,"), "{csv}");
    let page = std::fs::read_to_string(world.path("r.html")).unwrap();
    assert!(page.contains("<h2>Steps</h2>") && page.contains("a point for each step"));
    let text = analyze::render::text(&serde_json::from_value(summary).unwrap());
    assert!(text.contains("ANSWER: max rate = 300/s\nNext limit: send/reply p95 "), "{text}");
}

fn texts_of(world: &World, args: &[&str]) -> (i32, Value, String) {
    let (code, out, err) = texts(&retempo(world.dir.path()).args(args).output().unwrap());
    (code, serde_json::from_str(&out).unwrap_or(Value::Null), err)
}

/// Concurrency ÷ service time is what it can take; the bound lies close above the service time, so that the knee is there.
fn searched(concurrency: usize, service_ms: u64, seed: u64) {
    let world = World::new();
    // Evenly spaced, so that nothing waits below the capacity, and everything above it.
    let overrides = fixtures::Overrides {
        rate_per_sec: Some(200.0),
        duration_ns: Some(10 * SEC),
        process: Some(fixtures::Process::Uniform),
        ..Default::default()
    };
    let (_, meta) = world.compile_workload(&fixtures::preset("medium").unwrap().with(&overrides).unwrap());
    let services = world.standin(&meta, gatekeeper(concurrency, &format!("{service_ms}ms")));
    let line =
        format!("search medium.parquet --from 100 --to 8k --warmup 1s --hold 3s --cooldown 0s --seed {seed} --slo-file slo.toml -o search");
    std::fs::write(world.path("slo.toml"), format!("slo = [\"send/reply p95 < {}ms\"]", service_ms + 60)).unwrap();
    let (code, summary, err) = decided(&world, &line, &[]);
    services.stop();
    assert_eq!(code, 0, "{err}");
    let known = concurrency as f64 / service_ms as f64 * 1000.0;
    let capacity = &summary["capacity"];
    let answer = capacity["answer"].as_f64().unwrap();
    println!("{known}/s by construction: {answer} found, {} seed {seed}", capacity["interval"]);
    assert!((answer / known - 1.0).abs() <= 0.07, "{answer} against {known}\n{err}");
    let interval: Vec<f64> = capacity["interval"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    assert!(interval[0] <= answer && answer <= interval[1] && interval[1] / interval[0] < 1.2, "{interval:?}\n{err}");
    assert!(capacity["next_limit"].as_str().unwrap().starts_with("send/reply p95 "), "{capacity}");
    assert_ne!(capacity["hysteresis"], Value::Bool(true), "{err}");
}

#[test]
fn a_search_finds_a_known_capacity() {
    // Mostly they wait, so they may do it together.
    std::thread::scope(|scope| {
        let all = [(50, 100, 1), (30, 150, 2), (96, 120, 3)].map(|(n, ms, seed)| scope.spawn(move || searched(n, ms, seed)));
        all.into_iter().for_each(|search| search.join().unwrap());
    });
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn three_searches_of_each_setting_find_a_known_capacity() {
    for seed in 1..=3 {
        std::thread::scope(|scope| {
            let all = [(50, 100), (30, 150), (96, 120)].map(|(n, ms)| scope.spawn(move || searched(n, ms, seed)));
            all.into_iter().for_each(|search| search.join().unwrap());
        });
    }
}

#[test]
fn a_dead_pipeline_trips_at_once() {
    let world = World::new();
    world.compile("small", 50.0, 2 * SEC);
    let (code, summary, err) = ask_with(&world, "ramp small.parquet --steps 50,100 --warmup 0s --hold 1s -o dead", &["missing == 0"]);
    assert_eq!(code, 3, "{err}");
    assert!(first_reason(&summary).starts_with("the first step trips already"), "{summary}");
    assert_eq!(summary["steps"].as_array().unwrap().len(), 1);
    let told = summary["steps"][0]["verdict"]["reasons"].to_string();
    assert!(told.contains("nothing answered"), "{told}");
}

#[test]
fn error_replies_only_are_no_capacity() {
    let world = World::new();
    let (_, meta) = world.compile("small", 50.0, 2 * SEC);
    let services = world.standin(&meta, Config { faults: vec!["error_reply=100%:unavailable".parse().unwrap()], ..Config::default() });
    let (code, summary, _) = ask_with(&world, "ramp small.parquet --steps 50,100 --warmup 0s --hold 1s -o errors", &["errors < 0.1%"]);
    services.stop();
    assert_eq!(code, 3);
    let limit = summary["capacity"]["next_limit"].as_str().unwrap();
    assert!(limit.starts_with("errors 100.000% (") && limit.ends_with(" > 0.1%"), "{limit}");
    assert!(summary["steps"][0]["series"][0]["errors"]["unavailable"].as_u64().unwrap() > 40, "{summary}");
}

/// A stand-in whose broadcast worker stands still in the first second of every run.
fn late_riser() -> Config {
    Config { faults: vec!["stall=broadcast-worker:0s:1200ms".parse().unwrap()], ..Config::default() }
}

#[test]
fn what_goes_wrong_in_the_warm_up_is_not_counted() {
    for (warmup, expected) in [("2s", 0), ("0s", 3)] {
        let world = World::new();
        let (_, meta) = world.compile("small", 200.0, 4 * SEC);
        let services = world.standin(&meta, late_riser());
        let line = format!("ramp small.parquet --steps 200 --warmup {warmup} --hold 2s -o warm");
        let (code, _, err) = decided(&world, &line, &["send/broadcast p95 < 400ms", "missing == 0"]);
        services.stop();
        assert_eq!(code, expected, "{err}");
    }
}

#[test]
fn a_consumer_that_stands_still_in_a_hold_trips_by_its_backlog() {
    let world = World::new();
    let (_, meta) = world.compile("small", 300.0, 4 * SEC);
    let services = world.standin(&meta, Config { faults: vec!["stall=broadcast-worker:1s:3s".parse().unwrap()], ..Config::default() });
    let (code, summary, err) =
        ask_with(&world, "ramp small.parquet --steps 300 --warmup 0s --hold 4s -o paused", &["backlog growth < 100"]);
    services.stop();
    assert_eq!(code, 3, "{err}");
    let limit = summary["capacity"]["next_limit"].as_str().unwrap();
    assert!(limit.starts_with("backlog growth ") && limit.contains("broadcast-worker"), "{limit}");
}

#[test]
fn a_consumer_that_is_deleted_trips_and_a_healthy_drain_does_not() {
    let world = World::new();
    let (path, meta) = world.compile("small", 200.0, 4 * SEC);
    let services = world.standin(&meta, Config::default());
    let jetstream = async |name: &str| {
        let client = replay::control::connect(&world.nats()).await.unwrap();
        let stream = async_nats::jetstream::new(client).get_stream("MESSAGES_CANONICAL_site-local").await.unwrap();
        stream.delete_consumer(name).await.unwrap();
    };
    let healthy = world.run(&world.options(&path, "healthy")).1;
    assert!(healthy.evidence.consumers_gone.is_empty(), "{:?}", healthy.evidence);
    let options = world.options(&path, "deleted");
    let plan = replay::Plan::of(&options).unwrap();
    let mut seconds = 0;
    replay::replay(&options, &plan, &replay::Stop::default(), &mut |_| {
        seconds += 1;
        if seconds == 2 {
            // Nothing that answers is lost by it, but the system is not what it was.
            world.runtime.block_on(jetstream("notification-worker"));
        }
    })
    .unwrap();
    services.stop();
    let summary = analyze::analyze(&options.run_dir, &analyze::Question::default()).unwrap();
    assert_eq!(summary.verdict.outcome, analyze::Outcome::Trip, "{:?}", summary.verdict);
    assert!(summary.verdict.reasons[0].contains("MESSAGES_CANONICAL_site-local/notification-worker"), "{:?}", summary.verdict);
}

#[test]
fn replies_lost_at_the_end_of_a_hold_are_missing() {
    let world = World::new();
    let (path, meta) = world.compile("small", 100.0, 6 * SEC);
    let mut services = Some(world.standin(&meta, Config::default()));
    let options = world.options(&path, "end");
    let plan = replay::Plan::of(&options).unwrap();
    let mut seconds = 0;
    let step = |_: Option<&runlog::StepMark>| {
        seconds += 1;
        (seconds == 1).then(|| replay::Step {
            course: runlog::Course::Ramp,
            axis: runlog::Axis::Rate,
            target: 100.0,
            tempo: schedule::Tempo::default(),
            only: replay::Only::All,
            warmup_ns: 0,
            hold_ns: 6 * SEC,
            cooldown_ns: 0,
        })
    };
    let mut stop_standin = |p: &replay::Progress| {
        if p.sent >= 150 {
            services.take().map(harness::Services::stop);
        }
    };
    let mut step = step;
    replay::replay_steps(&options, &plan, &replay::Stop::default(), &mut stop_standin, &mut step).unwrap();
    let summary = analyze::analyze(&options.run_dir, &analyze::Question::default()).unwrap();
    let reply = summary.steps[0].series.iter().find(|s| s.name == "send/reply").unwrap();
    assert!(reply.missing > 0 && reply.ok > 100, "{reply:?}");
    assert_eq!(summary.steps[0].verdict.outcome, analyze::Outcome::Trip);
}

/// The bottleneck that a ramp finds with these stages slowed to 200 a second.
fn bottleneck(slowed: &[StageName], asked: &str) -> (Value, String) {
    let world = World::new();
    let (_, meta) = world.compile("small", 100.0, 4 * SEC);
    let mut config = Config::default();
    for stage in slowed {
        config.stages[*stage as usize] = standin::StageConfig { concurrency: 10, service: "50ms".parse().unwrap() };
    }
    let services = world.standin(&meta, config);
    let line = format!("ramp small.parquet --steps 100,400 --warmup 500ms --hold 3s --cooldown 0s -o edge{asked}");
    let (code, summary, err) = decided(&world, &line, &["send/broadcast p95 < 300ms", "send/reply p95 < 300ms", "backlog growth < 100"]);
    services.stop();
    assert_eq!(code, 0, "{err}");
    (summary["capacity"]["bottleneck"].clone(), err)
}

#[test]
fn the_stage_that_was_slowed_is_named() {
    use StageName::{BroadcastWorker, Gatekeeper, MessageWorker, NotificationWorker};
    let all = [Gatekeeper, MessageWorker, BroadcastWorker, NotificationWorker];
    for stage in all {
        let (found, err) = bottleneck(&[stage], "");
        assert_eq!(found["stages"], serde_json::json!([stage.durable()]), "{found}\n{err}");
        assert_eq!(found["confidence"], "high", "{found}");
    }
}

#[test]
fn two_stages_that_were_slowed_are_both_named_or_neither() {
    use StageName::{BroadcastWorker, Gatekeeper, MessageWorker};
    // Side by side, and one behind the other, where the first hides what the second could take.
    for slowed in [[MessageWorker, BroadcastWorker], [Gatekeeper, BroadcastWorker], [Gatekeeper, MessageWorker]] {
        let (found, err) = bottleneck(&slowed, "");
        let both = serde_json::json!(slowed.map(StageName::durable));
        assert!(found["stages"] == both || found["confidence"] == "undetermined", "{found}\n{err}");
    }
}

#[test]
fn a_part_whose_cpu_rises_no_more_speaks_against_its_stage() {
    let prometheus = harness::Prometheus::scraping("127.0.0.1:1");
    let asked = format!(" --prometheus {} --prometheus-query cassandra=vector(0.9)", prometheus.url());
    let (found, err) = bottleneck(&[StageName::MessageWorker], &asked);
    assert_eq!(found["stages"], serde_json::json!(["message-worker"]), "{err}");
    assert!(found["evidence"].to_string().contains("CPU of cassandra flat from 100/s on"), "{found}");
}

#[test]
fn the_monitoring_port_tells_backlogs_too() {
    let (dir, port) = (tempfile::tempdir().unwrap(), harness::free_port());
    let config = format!("jetstream {{ store_dir: \"{}\" }}\nhttp: 127.0.0.1:{port}", dir.path().display());
    let world = World::configured(&config, wire::Options::default());
    let url = format!("http://127.0.0.1:{port}");
    let (_, meta) = world.compile("small", 200.0, 3 * SEC);
    let services = world.standin(&meta, Config { faults: vec!["stall=broadcast-worker:0s:2s".parse().unwrap()], ..Config::default() });
    let line = format!("ramp small.parquet --steps 200 --warmup 0s --hold 3s --nats-monitoring {url} -o asked");
    let (_, asked, err) = ask_with(&world, &line, &["backlog peak < 1"]);
    let line = "ramp small.parquet --steps 200 --warmup 0s --hold 1s --nats-monitoring http://127.0.0.1:1 -o unasked";
    let (_, unasked, _) = ask_with(&world, line, &["backlog peak < 1"]);
    services.stop();
    let consumers: Vec<&str> = asked["backlog"].as_array().unwrap().iter().map(|b| b["consumer"].as_str().unwrap()).collect();
    assert_eq!(consumers.len(), 4, "{consumers:?} {err}");
    let stalled = asked["backlog"].as_array().unwrap().iter().find(|b| b["consumer"].as_str().unwrap().ends_with("/broadcast-worker"));
    assert!(stalled.unwrap()["peak"].as_u64().unwrap() > 100, "{}", asked["backlog"]);
    assert!(unasked["verdict"]["reasons"].to_string().contains("no backlog was sampled"), "{}", unasked["verdict"]);
    assert!(
        unasked["evidence"]["notes"].to_string().contains("http://127.0.0.1:1: Connection refused"),
        "{}",
        unasked["evidence"]["notes"]
    );
}

#[test]
fn a_prometheus_tells_the_cpu_of_the_target_and_its_absence_ends_no_run() {
    let world = World::new();
    let (_, meta) = world.compile("small", 100.0, 4 * SEC);
    let services = world.standin(&meta, Config::default());
    let prometheus = harness::Prometheus::scraping("127.0.0.1:1");
    let query = format!("--prometheus {} --prometheus-query mongodb=vector(0.5)", prometheus.url());
    let line = format!("ramp small.parquet --steps 100 --warmup 0s --hold 2s -o asked {query}");
    let (_, asked, err) = ask_with(&world, &line, &["missing == 0"]);
    assert_eq!(asked["steps"][0]["cpu"]["watch:mongodb"][0], 0.5, "{err}");
    let line = "ramp small.parquet --steps 100 --warmup 0s --hold 2s --prometheus http://127.0.0.1:1 -o unasked";
    let (code, unasked, err) = decided(&world, line, &["missing == 0"]);
    services.stop();
    assert_eq!(code, 0, "{err}");
    let notes = unasked["evidence"]["notes"].to_string();
    assert!(notes.contains("no CPU of the target from Prometheus: http://127.0.0.1:1"), "{notes}");
}

#[test]
fn what_cannot_be_a_step_is_told_before_anything_is_sent() {
    let world = World::new();
    world.compile("small", 100.0, 2 * SEC);
    for (line, told) in [
        ("ramp small.parquet --steps 500,200", "--steps: step `200` is not above the one before it (500); steps ascend"),
        ("ramp small.parquet --steps 500,500", "steps ascend"),
        ("ramp small.parquet --steps 0,100", "--steps: step `0`"),
        ("ramp small.parquet --steps 100,-5", "--steps: step `-5`"),
        ("ramp small.parquet --steps 100,2kk", "--steps: step `2kk`"),
        ("ramp small.parquet", "ramp needs --steps 500,1k,2k, or --users-steps 100,200,500, or --size-steps 50,100,200"),
        ("ramp small.parquet --users-steps 5,50000", "the schedule has 10 sessions, and step 50000 is beyond"),
        ("ramp small.parquet --steps 100 --slo-preset mesages", "there is no SLO preset `mesages`; there are messages, history"),
        ("ramp small.parquet --steps 100 --slo-file nowhere.toml", "nowhere.toml: "),
        ("ramp small.parquet --steps 100 --prometheus 127.0.0.1", "is not an address; write http://HOST:PORT"),
        ("ramp small.parquet --steps 100 --watch mongod=4194305", "--watch: there is no process 4194305 (mongod)"),
        ("search small.parquet --from 500 --to 100", "--to 100 is not above --from 500"),
        ("search small.parquet --resolution 90%", "--resolution 90% is not between 0.5% and 50%"),
    ] {
        let (code, _, err) = ask(&world, line);
        assert_eq!(code, 2, "{line}: {err}");
        assert!(err.contains(told), "{line}: {err}");
    }
    let (code, _, err) = ask_with(&world, "ramp small.parquet --steps 100", &["sand/reply p95 < 1s"]);
    assert_eq!(code, 2);
    assert!(err.contains("the run has no such series; there are send/"), "{err}");
    assert!(!world.path("runs").exists(), "no run was begun");
}

#[test]
fn a_schedule_that_cannot_be_sent_twice_is_enough_for_its_steps_or_refused() {
    let world = World::new();
    let overrides = fixtures::Overrides { rate_per_sec: Some(50.0), duration_ns: Some(4 * SEC), ..Default::default() };
    let (_, meta) = world.compile_workload(&fixtures::preset("members-medium").unwrap().with(&overrides).unwrap());
    // Nobody is added twice: each attempt begins with rooms as they were.
    let attempt = |n: u32| {
        let services = world.standin(&meta, Config::default());
        let line = format!("ramp members-medium.parquet --warmup 0s --hold 1s --steps 40,80 --late-after 20ms -o members-{n}");
        let asked = ask_with(&world, &line, &["missing == 0"]);
        services.stop();
        asked
    };
    let decided = (0..5).map(attempt).find(|(_, _, err)| !err.contains("the generator was the limit"));
    let (code, summary, err) = decided.expect("a machine that is not busy all the time");
    let services = world.standin(&meta, Config::default());
    let (refused, _, why) = ask(&world, "ramp members-medium.parquet --warmup 0s --hold 3s --steps 40,80 -o refused");
    services.stop();
    assert_eq!((code, summary["capacity"]["answer"].as_f64()), (0, Some(80.0)), "{err}");
    let ops: u64 = summary["steps"].as_array().unwrap().iter().map(|s| s["mark"]["end_op"].as_u64().unwrap()).max().unwrap();
    assert!((100..140).contains(&ops), "each step goes on where the one before ended: {ops}");
    assert_eq!(refused, 2);
    assert!(why.contains("these steps need 360 ops and the schedule has 200, which cannot be sent twice"), "{why}");
}

#[test]
fn a_ramp_over_users_answers_in_users() {
    let world = World::new();
    let overrides = fixtures::Overrides { users: Some(60), duration_ns: Some(6 * SEC), ..Default::default() };
    let mut daily = fixtures::preset("daily-light").unwrap().with(&overrides).unwrap();
    daily.arrivals.compress = Some(300.0);
    let (_, meta) = world.compile_workload(&daily.with(&Default::default()).unwrap());
    let services = world.standin(&meta, Config::default());
    let line = "ramp daily-light.parquet --warmup 0s --hold 2s --users-steps 20,40 -o users";
    let (code, summary, err) = decided(&world, line, &["missing == 0"]);
    services.stop();
    assert_eq!(code, 0, "{err}");
    assert_eq!(summary["verdict"]["reasons"][0], "N = 40 users", "{}", summary["verdict"]);
    let (code, _, why) = texts_of(&world, &["fidelity", "daily-light.parquet", "users"]);
    assert_eq!(code, 2);
    assert!(why.contains("users is a run in steps; compare a run at one tempo"), "{why}");
}

#[test]
fn a_ramp_over_sizes_sends_to_rooms_of_one_size_at_a_time() {
    let world = World::new();
    let overrides = fixtures::Overrides { rate_per_sec: Some(60.0), duration_ns: Some(4 * SEC), ..Default::default() };
    let (_, meta) = world.compile_workload(&fixtures::preset("botroom-small").unwrap().with(&overrides).unwrap());
    let services = world.standin(&meta, Config::default());
    let line = "ramp botroom-small.parquet --size-steps 50,100 --rate 80 --warmup 0s --hold 2s -o sizes";
    let (code, summary, err) = decided(&world, line, &["missing == 0"]);
    let (refused, _, why) = ask(&world, "ramp botroom-small.parquet --size-steps 50,70 -o refused");
    services.stop();
    assert_eq!((code, summary["capacity"]["answer"].as_f64()), (0, Some(100.0)), "{err}");
    assert_eq!(summary["verdict"]["reasons"][0], "largest = size 100", "{}", summary["verdict"]);
    let buckets: Vec<&str> = summary["buckets"].as_array().unwrap().iter().map(|b| b["bucket"].as_str().unwrap()).collect();
    assert!(buckets.contains(&"50 members") && buckets.contains(&"100 members") && !buckets.contains(&"200 members"), "{buckets:?}");
    let rate = summary["steps"][1]["rate_per_sec"][0].as_f64().unwrap();
    assert!((60.0..100.0).contains(&rate), "{rate}");
    assert_eq!(refused, 2);
    assert!(
        why.contains("--size-steps: no bucket of the schedule begins with 70; there are 50 members, 100 members, 200 members"),
        "{why}"
    );
}

#[test]
fn a_ramp_of_messages_injected_behind_the_gatekeeper() {
    let world = World::new();
    let overrides = fixtures::Overrides {
        inject: Some("canonical".into()),
        rate_per_sec: Some(100.0),
        duration_ns: Some(2 * SEC),
        ..Default::default()
    };
    let (_, meta) = world.compile_workload(&fixtures::preset("small").unwrap().with(&overrides).unwrap());
    let services = world.standin(&meta, Config::default());
    let line = "ramp small.parquet --steps 100,150 --warmup 0s --hold 2s -o canonical";
    let (code, summary, err) = decided(&world, line, &["send/puback p50 < 1s", "missing == 0"]);
    services.stop();
    assert_eq!((code, summary["capacity"]["answer"].as_f64()), (0, Some(150.0)), "{err}");
}
