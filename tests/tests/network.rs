//! What a network does to a run: it ends, its log is honest, and the verdict says what happened.

use analyze::{Outcome, Question, Summary};
use harness::{Proxy, World, echo_workload, series};
use replay::{Plan, Progress, Stop};

/// Four seconds of requests through a proxy; `at_second` is told each second of the run.
fn through_a_proxy(world: &World, at_second: impl Fn(&Proxy, usize)) -> Summary {
    let _echo = world.echo();
    let proxy = Proxy::start(world.server.url());
    let (path, _) = world.compile_workload(&echo_workload(500, 4));
    let mut options = world.options(&path, "proxied");
    options.nats.servers = vec![proxy.url().parse().unwrap()];
    let plan = Plan::of(&options).unwrap();
    let mut seconds = 0;
    let report = replay::replay(&options, &plan, &Stop::default(), &mut |_: &Progress| {
        seconds += 1;
        at_second(&proxy, seconds);
    });
    assert_eq!(report.unwrap().dropped, 0);
    analyze::analyze(&options.run_dir, &Question::default()).unwrap()
}

/// Every op is accounted for, nothing is called missing that may have come unseen, and the loss is told.
fn is_honest_about_a_loss(summary: &Summary) {
    let s = series(summary, "ask/reply");
    assert_eq!((summary.run.ops, summary.run.sent + summary.run.unsent.values().sum::<u64>()), (2_000, 2_000));
    assert_eq!((s.missing, s.ok + s.late + s.unresolved + s.void + s.errors.values().sum::<u64>()), (0, 2_000), "{s:?}");
    assert!(s.ok > 500, "{s:?}");
    assert!(!summary.evidence.gaps.is_empty());
    assert!(summary.verdict.reasons.iter().any(|r| r.contains("connections were lost")), "{:?}", summary.verdict.reasons);
    // The lines tolerate what they say: fewer than 0.1% errors, and unresolved answers up to 0.1%.
    let bad = s.late + s.errors.values().sum::<u64>() + summary.run.unsent.values().sum::<u64>();
    let passes = bad * 1_000 < 2_000 - s.unresolved && s.unresolved * 1_000 <= 2_000;
    assert_eq!(summary.verdict.outcome == Outcome::Pass, passes, "{:?}", summary.verdict);
}

#[test]
fn a_connection_cut_in_the_middle_of_a_frame() {
    let summary = through_a_proxy(&World::new(), |proxy, second| {
        if second == 2 {
            proxy.cut_mid_frame(1);
        }
    });
    let s = series(&summary, "ask/reply");
    assert_eq!((summary.run.sent, s.missing, s.duplicates), (2_000, 0, 0));
    assert_eq!(summary.evidence.gaps.len(), 1);
    assert!(s.ok + s.unresolved == 2_000 && s.ok > 1_500, "{s:?}");
}

#[test]
fn a_port_that_is_blocked_for_a_second() {
    let summary = through_a_proxy(&World::new(), |proxy, second| proxy.block(second == 2));
    is_honest_about_a_loss(&summary);
    assert!(summary.lateness.late_by_cause.contains_key("disconnected"), "{:?}", summary.lateness);
}

#[test]
fn a_port_that_stays_blocked() {
    let summary = through_a_proxy(&World::new(), |proxy, second| proxy.block(second >= 2));
    is_honest_about_a_loss(&summary);
    // What was due later waited until the drain gave up, and is in the log as not sent.
    assert!(summary.run.unsent.values().sum::<u64>() > 0, "{:?}", summary.run);
}

#[test]
fn a_receiver_that_is_too_slow_for_the_server() {
    let config = "write_deadline: \"500ms\"\nmax_pending: 65536\nmax_payload: 32768\n";
    let world = World::configured(config, wire::Options::default());
    let summary = through_a_proxy(&world, |proxy, second| proxy.hold(second == 1 || second == 2));
    let s = series(&summary, "ask/reply");
    assert_eq!(summary.run.ops, 2_000);
    // Either the buffers on the way held everything back, or the server gave the connection up; nothing is simply missing.
    assert_eq!(s.missing, 0, "{s:?}");
    let told = !summary.evidence.gaps.is_empty() || s.response.max_ns.unwrap() > 800_000_000;
    assert!(told, "{:?} {s:?}", summary.evidence);
}
