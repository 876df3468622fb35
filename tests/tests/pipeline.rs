//! From a preset to a summary on a real nats-server, with and without faults.

use analyze::{LineState, Outcome};
use harness::{World, ask, injected, series};
use replay::TempoChoice;
use schedule::Tempo;
use standin::{Config, Fault};

const SEC: i64 = 1_000_000_000;

#[test]
fn every_op_is_answered_once() {
    let world = World::new();
    let (path, meta) = world.compile("medium", 500.0, 2 * SEC);
    let services = world.standin(&meta, Config::default());
    let (report, summary) = world.run(&world.options(&path, "plain"));
    services.stop();
    assert_eq!(report.manifest.totals["sent"], 1_000);
    let may_stay_awake = std::fs::OpenOptions::new().write(true).open("/dev/cpu_dma_latency").is_ok();
    assert_eq!(report.manifest.granted.cpu_dma_latency, may_stay_awake);
    for name in ["send/reply", "send/broadcast"] {
        let s = series(&summary, name);
        assert_eq!((s.count, s.ok, s.missing, s.duplicates, s.unresolved), (1_000, 1_000, 0, 0, 0), "{name}");
        assert!(s.response.p50_ns >= s.service.p50_ns, "response counts from the intended time");
    }
    assert!(summary.backlog.iter().any(|b| b.consumer == "MESSAGES_site-local/message-gatekeeper"), "{:?}", summary.backlog);
    assert_eq!(
        ask(&world.path("plain"), &["missing == 0", "duplicates == 0", "errors == 0"])
            .verdict
            .slos
            .iter()
            .filter(|s| s.state == LineState::Met)
            .count(),
        4
    );
}

#[test]
fn speed_and_rate_change_the_tempo_and_nothing_else() {
    let world = World::new();
    let (path, meta) = world.compile("small", 200.0, 2 * SEC);
    let services = world.standin(&meta, Config::default());
    let span = |name: &str, tempo: TempoChoice| {
        let mut options = world.options(&path, name);
        options.tempo = tempo;
        let (report, summary) = world.run(&options);
        assert_eq!(report.manifest.totals["sent"], 400);
        assert_eq!(series(&summary, "send/reply").ok, 400);
        summary.rate.intended_per_sec
    };
    let plain = span("one", TempoChoice::Tempo(Tempo::default()));
    let twice = span("two", TempoChoice::Tempo(Tempo::parse_speed("2").unwrap()));
    let rate = span("rate", TempoChoice::Rate((800, 1)));
    services.stop();
    assert!((twice / plain - 2.0).abs() < 0.001, "{plain} {twice}");
    assert!((rate / plain - 4.0).abs() < 0.001, "{plain} {rate}");
}

#[test]
fn laps_repeat_the_schedule_with_fresh_ids() {
    let world = World::new();
    let (path, meta) = world.compile("small", 200.0, SEC);
    let services = world.standin(&meta, Config::default());
    let mut options = world.options(&path, "laps");
    options.loops = Some(3);
    options.connections = replay::Connections::Shared(3);
    let (_, summary) = world.run(&options);
    options.run_dir = world.path("duration");
    (options.loops, options.duration_ns) = (None, Some(3 * SEC / 2));
    let (report, _) = world.run(&options);
    services.stop();
    let s = series(&summary, "send/broadcast");
    assert_eq!((s.ok, s.missing, s.duplicates), (600, 0, 0));
    assert_eq!(report.manifest.loops, 2);
    assert!((280..320).contains(&report.manifest.totals["sent"]), "{:?}", report.manifest.totals);
    assert_eq!(report.manifest.totals["sent"], report.manifest.planned_ops);
}

/// Every kind of fault, and the counts that come out are those that went in.
#[test]
fn injected_faults_come_out_with_exactly_the_injected_counts() {
    let world = World::new();
    let (path, meta) = world.compile("medium", 500.0, 3 * SEC);
    let fault = |text: &str| text.parse::<Fault>().unwrap();
    let faults = [
        "drop=2%",
        "error_reply=3%",
        "error_reply=2%:unavailable",
        "late_reply=2%:6s",
        "missing_broadcast=3%",
        "duplicate_broadcast=3%",
        "reorder=2%:200ms",
    ]
    .map(fault)
    .to_vec();
    let services = world.standin(&meta, Config { faults, ledger: Some(world.path("ledger.jsonl")), ..Config::default() });
    let mut options = world.options(&path, "faults");
    // Longer than the timeout, so that late replies are seen to be late.
    options.drain_timeout_ns = Some(8 * SEC);
    let (_, summary) = world.run(&options);
    let ledger = services.stop();
    let n = |kind: &str| injected(&ledger, kind);
    assert!(
        ["drop", "error_reply", "late_reply", "missing_broadcast", "duplicate_broadcast", "reorder"].iter().all(|k| n(k) > 0),
        "{ledger:?}"
    );
    assert_eq!(std::fs::read_to_string(world.path("ledger.jsonl")).unwrap().lines().count(), ledger.len());

    let reply = series(&summary, "send/reply");
    assert_eq!(reply.missing, n("drop"));
    assert_eq!(reply.errors.values().sum::<u64>(), n("error_reply"));
    assert_eq!(reply.errors.keys().collect::<Vec<_>>(), ["internal", "unavailable"]);
    // An error reply may itself be late; it is then an error.
    let late_ok = {
        let ids =
            |kind: &str| ledger.iter().filter(|i| i.fault == kind).map(|i| i.message_id.clone()).collect::<std::collections::HashSet<_>>();
        ids("late_reply").difference(&ids("error_reply")).count() as u64
    };
    assert_eq!(reply.late, late_ok);
    assert_eq!(reply.ok, 1_500 - reply.missing - n("error_reply") - late_ok);

    let broadcast = series(&summary, "send/broadcast");
    assert_eq!(broadcast.missing, n("drop") + n("missing_broadcast"));
    assert_eq!(broadcast.void, n("error_reply"));
    let lost: Vec<u64> = ledger.iter().filter(|i| i.fault == "missing_broadcast").map(|i| i.stream_seq).collect();
    let twice = ledger.iter().filter(|i| i.fault == "duplicate_broadcast" && !lost.contains(&i.stream_seq)).count() as u64;
    assert_eq!(broadcast.duplicates, twice);
    assert_eq!(summary.verdict.outcome, Outcome::Trip);
    assert!(summary.evidence.first_errors[0].contains(": {"), "{:?}", summary.evidence.first_errors);
    // What is missing ranks as slower than everything.
    assert_eq!((reply.response.p99_ns, reply.response.p99_over_ns.is_some()), (None, true));
}

#[test]
fn nothing_behind_the_server_is_a_trip_with_its_causes() {
    let world = World::new();
    let (path, _) = world.compile("small", 100.0, SEC);
    let mut options = world.options(&path, "nobody");
    options.drain_timeout_ns = None;
    let (_, summary) = world.run(&options);
    assert_eq!(summary.verdict.outcome, Outcome::Trip);
    assert!(summary.verdict.reasons.iter().any(|r| r.starts_with("nothing answered")), "{:?}", summary.verdict.reasons);
    assert_eq!(series(&summary, "send/reply").missing, 100);
}

#[test]
fn canonical_injection_is_acknowledged_by_jetstream() {
    let world = World::new();
    let overrides =
        fixtures::Overrides { inject: Some("canonical".into()), rate_per_sec: Some(200.0), duration_ns: Some(SEC), ..Default::default() };
    let (path, meta) = world.compile_workload(&fixtures::preset("small").unwrap().with(&overrides).unwrap());
    let nobody = world.run(&world.options(&path, "no-stream")).1;
    let services = world.standin(&meta, Config::default());
    let (_, summary) = world.run(&world.options(&path, "canonical"));
    services.stop();
    assert_eq!((series(&summary, "send/puback").ok, series(&summary, "send/broadcast").ok), (200, 200));
    // Without the stream the server itself answers: nobody listens.
    assert_eq!(series(&nobody, "send/puback").errors["no_responders"], 200);
    assert_eq!(nobody.verdict.outcome, Outcome::Trip);
}

#[test]
fn threads_mentions_and_dms_of_realistic_are_answered() {
    let world = World::new();
    let (path, meta) = world.compile("realistic", 100.0, 14 * SEC);
    let services = world.standin(&meta, Config::default());
    let mut options = world.options(&path, "realistic");
    options.tempo = TempoChoice::Tempo(Tempo::parse_speed("4").unwrap());
    let (_, summary) = world.run(&options);
    services.stop();
    let total: u64 = ["send/reply", "thread_reply/reply"].iter().map(|n| series(&summary, n).ok).sum();
    assert_eq!(total, 1_400, "{:?}", summary.evidence.first_errors);
    assert_eq!(summary.series.iter().map(|s| s.missing).sum::<u64>(), 0);
    assert!(series(&summary, "thread_reply/broadcast").count >= series(&summary, "thread_reply/reply").count);
    let dm = summary.buckets.iter().find(|b| b.bucket == "dm" && b.series.name == "send/broadcast").map_or(0, |b| b.series.count);
    assert!(dm.is_multiple_of(2), "two copies of each");
    let judged = ask(
        &world.path("realistic"),
        &["send/broadcast{dm} answered < 1", "send/broadcast{dm} missing == 0", "send/reply{dn} errors < 1%"],
    );
    let states: Vec<LineState> = judged.verdict.slos[..3].iter().map(|slo| slo.state).collect();
    assert_eq!(states, [LineState::Breached, LineState::Met, LineState::Undecidable], "{:?}", judged.verdict);
    assert_eq!(judged.verdict.slos[2].why.as_deref(), Some("the run has no bucket `dn`; there are channel, dm"));
}

#[test]
fn the_same_run_is_asked_again_without_a_replay() {
    let world = World::new();
    let (path, meta) = world.compile("small", 300.0, 2 * SEC);
    let services = world.standin(&meta, Config::default());
    world.run(&world.options(&path, "again"));
    services.stop();
    let dir = world.path("again");
    let question = |warmup_ns, window_ns| analyze::Question { warmup_ns, window_ns, ..Default::default() };
    let half = analyze::analyze(&dir, &question(SEC, None)).unwrap();
    assert!((250..350).contains(&half.run.ops), "{}", half.run.ops);
    let fine = analyze::analyze(&dir, &question(0, Some(SEC / 4))).unwrap();
    assert_eq!(fine.windows.iter().filter(|w| w.series == "send/reply").map(|w| w.count).sum::<u64>(), 600);
    assert_eq!(ask(&dir, &["answered < 5"]).verdict.outcome, Outcome::Trip);
    assert_eq!(ask(&dir, &["send/reply p99.9 < 10s"]).verdict.outcome, Outcome::Inconclusive, "600 samples cannot tell p99.9");
    assert_eq!(ask(&dir, &["send/reply p50 < 10s every 1s"]).verdict.slos[0].state, LineState::Met);
}

#[test]
fn where_no_answer_is_expected_none_is_missed() {
    let world = World::new();
    let text = "name = \"flood\"\n[[action]]\nname = \"publish\"\ntarget = \"flood.a\"\npayload = \"hi\"\n[arrivals]\nrate = 2000\nduration = \"1s\"\n";
    let (path, _) = world.compile_workload(&fixtures::Workload::parse(text, "flood.toml").unwrap());
    let (report, _) = world.run(&world.options(&path, "flood"));
    assert_eq!(report.manifest.totals["sent"], 2_000);
    let summary = ask(&world.path("flood"), &["missing == 0"]);
    assert_eq!(summary.verdict.slos.len(), 1);
    assert!(!summary.verdict.reasons.iter().any(|r| r.starts_with("nothing answered")), "{:?}", summary.verdict.reasons);
}

#[test]
fn service_times_and_stalls_of_a_stage_show_in_its_series() {
    let world = World::new();
    let (path, meta) = world.compile("small", 200.0, 3 * SEC);
    let mut config = Config { faults: vec!["stall=broadcast-worker:1s:1s".parse().unwrap()], ..Config::default() };
    config.stages[standin::StageName::Gatekeeper as usize].service = "20ms".parse().unwrap();
    let services = world.standin(&meta, config);
    let (_, summary) = world.run(&world.options(&path, "slow"));
    let ledger = services.stop();
    let (reply, broadcast) = (series(&summary, "send/reply"), series(&summary, "send/broadcast"));
    assert_eq!((reply.ok, broadcast.ok), (600, 600));
    assert!(reply.service.min_ns.unwrap() >= 20_000_000, "{:?}", reply.service);
    // The first message behind the stall waited nearly all of it.
    assert!(broadcast.response.max_ns.unwrap() > 800_000_000, "{:?}", broadcast.response);
    assert!(broadcast.response.p50_ns.unwrap() < 800_000_000, "{:?}", broadcast.response);
    assert!(injected(&ledger, "stall") > 0);
    assert!(summary.backlog.iter().any(|b| b.consumer.ends_with("/broadcast-worker") && b.peak > 50), "{:?}", summary.backlog);
}
