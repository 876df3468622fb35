//! REST against the market service: whatever goes wrong there is in the report under its own name, as often as the ledger says.

use analyze::Summary;
use fixtures::{Overrides, Workload};
use harness::compiled;
use standin::{Service, WebConfig, WebStandin};
use std::path::Path;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Five seconds of `market-rest`, and how often each fault was injected.
fn run(dir: &Path, config: WebConfig, headers: &[(&str, &str)]) -> (Summary, impl Fn(&str) -> u64 + use<>) {
    run_for(5, dir, config, headers)
}

fn run_for(seconds: i64, dir: &Path, config: WebConfig, headers: &[(&str, &str)]) -> (Summary, impl Fn(&str) -> u64 + use<>) {
    let overrides = Overrides { duration_ns: Some(seconds * 1_000_000_000), ..Overrides::default() };
    let workload = fixtures::preset("market-rest").unwrap().with(&overrides).unwrap();
    let runtime = Runtime::new().unwrap();
    against(dir, &runtime, &workload, config, headers)
}

fn against(
    dir: &Path,
    runtime: &Runtime,
    workload: &Workload,
    config: WebConfig,
    headers: &[(&str, &str)],
) -> (Summary, impl Fn(&str) -> u64 + use<>) {
    let standin = runtime.block_on(WebStandin::start(Service::Market, ([127, 0, 0, 1], 0).into(), config)).unwrap();
    let mut options = compiled(dir, workload);
    options.http.base_url = Some(standin.url());
    // What is late is waited for, at the end too.
    options.drain_timeout_ns = Some(4_000_000_000);
    options.http.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let summary = harness::replayed(&options);
    let injected = standin.injected();
    let count = move |fault: &str| injected.iter().filter(|i| i.fault == fault).count() as u64;
    (summary, count)
}

fn with(fault: &str) -> WebConfig {
    WebConfig { faults: vec![fault.parse().unwrap()], ..WebConfig::default() }
}

/// Errors of a class, over all series.
fn errors(summary: &Summary, class: &str) -> u64 {
    summary.series.iter().filter_map(|s| s.errors.get(class)).sum()
}

#[test]
fn every_preset_of_the_market_is_answered() {
    for name in ["market-stream", "foreign-flow", "market-rest", "market-burst", "market-smoke", "reconnect-storm"] {
        let dir = TempDir::new().unwrap();
        let mut workload = fixtures::preset(name).unwrap();
        workload.arrivals.duration_ns = 7_000_000_000;
        if let (Some(chat), Some(life)) = (&mut workload.population.chat, &mut workload.life) {
            (chat.users, life.within_ns) = (chat.users.min(60), 1_000_000_000);
            // The course of minutes in seconds, in the same order.
            for (event, at) in life.events.iter_mut().zip([2, 2, 3, 4]) {
                (event.at_ns, event.over_ns) = (at * 1_000_000_000, event.over_ns / 20);
            }
        }
        answered(dir.path(), &workload);
    }
}

/// Replays a workload; everything is answered, and no WebSocket is left open.
fn answered(dir: &Path, workload: &Workload) -> Summary {
    let (name, runtime) = (&workload.name, Runtime::new().unwrap());
    let (summary, _) = against(dir, &runtime, workload, WebConfig::default(), &[]);
    assert_eq!(summary.run.unsent.len(), 0, "{name}: {:?}", summary.run.unsent);
    for s in &summary.series {
        assert_eq!((s.missing, s.duplicates, s.unresolved, s.errors.len()), (0, 0, 0, 0), "{name}: {s:?}");
        assert!(s.count > 0, "{name}: {}", s.name);
    }
    if let Some(sockets) = &summary.sockets {
        assert!(sockets.opened > 0 && sockets.at_end == 0, "{name}: {sockets:?}");
    }
    summary
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn bursts_and_storms_take_their_whole_course() {
    for (name, opened, peak) in [("reconnect-storm", 3 * 500, 500), ("market-burst", 400, 400)] {
        let dir = TempDir::new().unwrap();
        let sockets = answered(dir.path(), &fixtures::preset(name).unwrap()).sockets.unwrap();
        let near = |found: u64, wanted: u64| found.abs_diff(wanted) <= wanted / 10;
        assert!(near(sockets.opened, opened) && near(sockets.peak, peak), "{name}: {sockets:?}");
    }
}

#[test]
fn every_fault_has_its_own_name_and_the_ledger_s_count() {
    for (fault, name, class) in
        [("error=5%:503", "error", "injected"), ("drop=3%", "drop", "closed"), ("error@indices=30%:500", "error", "injected")]
    {
        let dir = TempDir::new().unwrap();
        let (summary, injected) = run(dir.path(), with(fault), &[]);
        assert!(injected(name) > 3, "{fault}");
        assert_eq!(errors(&summary, class), injected(name), "{fault}: {:?}", summary.series);
        let bad: u64 = summary.series.iter().map(|s| s.errors.values().sum::<u64>() + s.missing + s.late).sum();
        assert_eq!(bad, injected(name), "and nothing else: {fault}");
        if fault.contains("indices") {
            assert_eq!(summary.series.iter().find(|s| s.name == "indices/response").unwrap().errors["injected"], injected(name));
        }
    }
}

#[test]
fn what_comes_too_late_is_late() {
    let dir = TempDir::new().unwrap();
    let (summary, injected) = run(dir.path(), with("late=5%:2500ms"), &[]);
    let late: u64 = summary.series.iter().map(|s| s.late).sum();
    assert!(injected("late") > 3);
    assert_eq!(late, injected("late"), "{:?}", summary.series);
}

#[test]
fn who_asks_while_everything_stands_still_is_late_and_nobody_else() {
    let dir = TempDir::new().unwrap();
    // What is due within it is answered 2.1 s to 3.6 s later; its timeout is 2 s.
    let (summary, injected) = run_for(3, dir.path(), with("stall=1500ms:3600ms"), &[]);
    let (all, late) = summary.series.iter().fold((0, 0), |(all, late), s| (all + s.count, late + s.late));
    assert!(injected("stall") > 30 && injected("stall") < all);
    assert_eq!(late, injected("stall"), "{:?}", summary.series);
    let bad: u64 = summary.series.iter().map(|s| s.errors.values().sum::<u64>() + s.missing).sum();
    assert_eq!(bad, 0, "{:?}", summary.series);
}

#[test]
fn who_asks_too_often_or_without_a_token_is_told_so() {
    let dir = TempDir::new().unwrap();
    let (summary, injected) = run(dir.path(), WebConfig { rate_limit: Some(60), ..WebConfig::default() }, &[]);
    assert!(injected("rate_limit") > 100);
    assert_eq!(errors(&summary, "too_many_requests"), injected("rate_limit"));
    let all: u64 = summary.series.iter().map(|s| s.count).sum();
    for (headers, refused) in [(&[][..], all), (&[("Authorization", "Bearer secret")][..], 0)] {
        let dir = TempDir::new().unwrap();
        let (summary, _) = run(dir.path(), WebConfig { token: Some("secret".into()), ..WebConfig::default() }, headers);
        assert_eq!(errors(&summary, "unauthenticated"), refused);
    }
}
