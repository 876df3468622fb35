//! Scenarios of several steps against the search gateway: order, gates, binds, checks; what is wrong shows where it was injected.

use analyze::{ScenarioSummary, Summary};
use fixtures::Overrides;
use harness::{compiled, replayed};
use standin::{Service, WebConfig, WebFault, WebStandin};
use std::path::Path;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Six seconds of `multitier` against a gateway with faults.
fn run(dir: &Path, faults: &[&str]) -> (Summary, Ledger) {
    let overrides = Overrides { duration_ns: Some(6_000_000_000), rate_per_sec: Some(100.0), ..Overrides::default() };
    let workload = fixtures::preset("multitier").unwrap().with(&overrides).unwrap();
    let mut options = compiled(dir, &workload);
    let known = schedule::Reader::open(&options.schedule).unwrap().meta().known.clone();
    let runtime = Runtime::new().unwrap();
    let faults = faults.iter().map(|text| text.parse::<WebFault>().unwrap()).collect();
    let config = WebConfig { faults, service: "2ms".parse().unwrap(), workers: known.get("worker").cloned(), ..WebConfig::default() };
    let standin = runtime.block_on(WebStandin::start(Service::Gateway, ([127, 0, 0, 1], 0).into(), config)).unwrap();
    options.http.base_url = Some(standin.url());
    // What is late is waited for, at the end too.
    options.drain_timeout_ns = Some(4_000_000_000);
    let summary = replayed(&options);
    let ledger = Ledger { injected: standin.injected(), served: standin.served(), heard: standin.heard() };
    (summary, ledger)
}

/// What the gateway knows of a run.
struct Ledger {
    injected: Vec<standin::Injected>,
    served: u64,
    heard: Vec<standin::Heard>,
}

impl Ledger {
    fn injected(&self, fault: &str) -> u64 {
        self.injected.iter().filter(|i| i.fault == fault).count() as u64
    }

    /// Whether an earlier search for the same was answered, before that request came, with what it was made of.
    fn knew(&self, later: &standin::Heard, made_of: &dyn Fn(&serde_json::Value) -> bool) -> bool {
        let same = |h: &&standin::Heard| h.route == "search" && h.body["query_text"] == later.body["query_text"];
        self.heard.iter().filter(same).any(|h| h.during.1 <= later.during.0 && made_of(&h.answer))
    }
}

fn scenario<'a>(summary: &'a Summary, name: &str) -> &'a ScenarioSummary {
    summary.scenarios.iter().find(|s| s.name == name).unwrap()
}

/// How many runs failed at a step with a class, over all scenarios.
fn failed(summary: &Summary, step: Option<&str>, class: &str) -> u64 {
    let of_step = summary.scenarios.iter().flat_map(|s| &s.failed_at).filter(|(name, _)| step.is_none_or(|step| step == *name));
    of_step.filter_map(|(_, classes)| classes.get(class)).sum()
}

#[test]
fn every_scenario_runs_through_and_no_step_comes_before_what_it_needs() {
    let dir = TempDir::new().unwrap();
    let (summary, ledger) = run(dir.path(), &[]);
    assert!(ledger.injected.is_empty());
    let names: Vec<&str> = summary.scenarios.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        ["cold_search_email", "surge_fill_validate", "profile_swap", "repeat_cache", "sms_validate", "playbook_record_replay"]
    );
    for s in &summary.scenarios {
        assert!(s.runs >= 10 && s.failed == 0 && s.unresolved == 0, "{s:?} {:?}", summary.evidence.first_errors);
        assert!(s.response.p50_ns.unwrap() > 0);
    }
    // By weight, as exactly as it goes.
    let runs: u64 = summary.scenarios.iter().map(|s| s.runs).sum();
    for (s, weight) in summary.scenarios.iter().zip([35, 15, 15, 15, 10, 10]) {
        assert!((s.runs as i64 - (runs * weight / 100) as i64).abs() <= 1, "{} {} of {runs}", s.name, s.runs);
    }
    assert!(summary.checks.iter().all(|c| c.failed == 0 && c.passed > 0), "{:?}", summary.checks);
    let requests: u64 = summary.series.iter().filter(|s| !s.name.starts_with("scenario/")).map(|s| s.count).sum();
    let local: u64 = ["cold_search_email", "surge_fill_validate", "sms_validate"].iter().map(|name| scenario(&summary, name).runs).sum();
    assert_eq!(ledger.served, requests - local, "what is local goes nowhere");
    assert_eq!(summary.run.unsent.len(), 0, "{:?}", summary.run.unsent);
    // Gates: each repetition waits for the one before, so five of them take five times as long as one.
    let repeated = summary.gates.iter().find(|g| g.action == "repeat_cache.search").unwrap();
    assert_eq!((repeated.ops, repeated.released), (4 * scenario(&summary, "repeat_cache").runs, repeated.ops));
    // Binds: nobody excludes, and nobody records, but what an answer said before.
    let ids =
        |answer: &serde_json::Value| answer["results"].as_array().unwrap().iter().map(|r| r["id"].clone()).collect::<serde_json::Value>();
    let swaps: Vec<_> = ledger.heard.iter().filter(|h| h.body["exclude_ids"].as_array().is_some_and(|ids| !ids.is_empty())).collect();
    assert_eq!(swaps.len() as u64, scenario(&summary, "profile_swap").runs);
    assert!(swaps.iter().all(|swap| ledger.knew(swap, &|answer| ids(answer) == swap.body["exclude_ids"])));
    let records: Vec<_> = ledger.heard.iter().filter(|h| h.route == "record").collect();
    assert_eq!(records.len() as u64, scenario(&summary, "playbook_record_replay").runs);
    assert!(records.iter().all(|record| ledger.knew(record, &|answer| answer["results"][0]["id"] == record.body["answer_id"])));
    let tags: std::collections::HashSet<String> = records.iter().map(|record| record.body["tags"].to_string()).collect();
    assert_eq!(tags.len(), records.len(), "a suffix of its own for each run");
    let page = analyze::render::html(&summary).unwrap();
    assert!(page.contains("<h2>Scenarios</h2>") && page.contains("profile_swap") && page.contains("none_comes_back"));
}

#[test]
fn each_fault_shows_in_its_scenario_step_and_check() {
    for (faults, step, class, fault) in [
        (&["error@search=5%:503"][..], None, "injected", "error"),
        (&["error@record=30%:500"][..], Some("record"), "injected", "error"),
        (&["drop@search=3%"][..], None, "closed", "drop"),
        (&["overload=0"][..], Some("record"), "overloaded", "overload"),
        (&["late@search=4%:2500ms"][..], None, "late", "late"),
        // What is due within it is answered 2.2 s to 3.7 s later; the timeout of every step is 2 s.
        (&["stall=4500ms:3700ms"][..], None, "late", "stall"),
    ] {
        let dir = TempDir::new().unwrap();
        let (summary, ledger) = run(dir.path(), faults);
        let injected = ledger.injected(fault);
        assert!(injected > 3, "{faults:?}: {injected}");
        assert_eq!(failed(&summary, step, class), injected, "{faults:?}: {:?}", summary.scenarios);
        let all: u64 = summary.scenarios.iter().map(|s| s.failed).sum();
        assert_eq!(all, injected, "nothing else fails: {faults:?}");
        if step.is_some() {
            assert_eq!(scenario(&summary, "playbook_record_replay").failed, injected);
        }
    }
}

#[test]
fn a_wrong_answer_fails_its_check_and_the_steps_after_it_are_not_sent() {
    let dir = TempDir::new().unwrap();
    let (summary, ledger) = run(dir.path(), &["wrong@search=25%"]);
    let wrong = ledger.injected("wrong");
    let check = |answer: &str, name: &str| summary.checks.iter().find(|c| c.answer == answer && c.name == name).unwrap();
    // Of a search a stranger; of a swap, one that was excluded. A playbook's replay looks at something else.
    let (strangers, back) = (check("found", "known").failed, check("others", "none_comes_back").failed);
    assert!(strangers > 5 && back > 0, "{:?}", summary.checks);
    assert!(strangers + back <= wrong, "{strangers} + {back} of {wrong}");
    assert_eq!(failed(&summary, Some("swap"), "check:none_comes_back"), back);
    assert_eq!(check("others", "known").failed, 0, "who was excluded is known");
    let gate_failed = summary.run.unsent.get("gate_failed").copied().unwrap_or(0);
    assert!(gate_failed > 0, "a failed step ends its scenario: {:?}", summary.run.unsent);
    assert!(summary.evidence.first_errors.iter().any(|e| e.contains("check:none_comes_back: {")), "{:?}", summary.evidence.first_errors);
}
