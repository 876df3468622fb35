//! What a network does to a run: it ends, its log is honest, and the verdict says what happened.

use analyze::{LineState, Outcome, Question, Summary};
use fixtures::Workload;
use harness::{Proxy, World, echo_workload, echo_workload_of, series};
use replay::{Plan, Progress, Stop};

/// Four seconds of requests through a proxy; `at_second` is told each second of the run.
fn through_a_proxy(world: &World, at_second: impl Fn(&Proxy, usize)) -> Summary {
    replay_through_a_proxy(world, &echo_workload(500, 4), at_second)
}

fn replay_through_a_proxy(world: &World, workload: &Workload, at_second: impl Fn(&Proxy, usize)) -> Summary {
    let _echo = world.echo();
    let proxy = Proxy::start(world.server.url());
    let (path, _) = world.compile_workload(workload);
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
    let met = summary.verdict.slos.iter().all(|slo| slo.state == LineState::Met);
    assert_eq!(met, passes, "{:?}", summary.verdict);
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
    let config = "write_deadline: \"300ms\"\nmax_payload: 32768\n";
    let world = World::configured(config, wire::Options::default());
    // 15 MB a second are more than all buffers on the way hold while nothing is read for two seconds.
    let workload = echo_workload_of(500, 4, r#"{"id":"{new.message}","text":"{text 30000}"}"#);
    let summary = replay_through_a_proxy(&world, &workload, |proxy, second| proxy.hold(second == 1 || second == 2));
    let s = series(&summary, "ask/reply");
    assert_eq!((summary.run.ops, s.missing), (2_000, 0), "{s:?}");
    assert!(!summary.evidence.gaps.is_empty(), "the server gave the connection up: {:?}", summary.evidence);
    assert!(s.unresolved > 0, "{s:?}");
    assert_ne!(summary.verdict.outcome, Outcome::Pass);
}
