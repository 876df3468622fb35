//! The join and the percentiles against a slow exact oracle, on random logs cut into segments at random.

mod common;

use analyze::{Question, Summary, analyze};
use common::{Drawn, OBSERVED, TIMEOUT, write};
use proptest::prelude::*;
use schedule::Expect;
use std::collections::{BTreeMap, BTreeSet};

prop_compose! {
    fn drawn(index: i64, stride: i64)(
        jitter in 0i64..900_000, late in proptest::option::weighted(0.9, 0i64..50_000), bucket in proptest::option::of(any::<bool>()),
        expect in (proptest::option::weighted(0.9, Just(1u32)), proptest::option::weighted(0.8, proptest::option::of(1u32..4))),
        replies in proptest::collection::vec((proptest::option::weighted(0.2, 0u8..3), 0i64..2_000_000), 0..3),
        broadcasts in proptest::collection::vec((0u64..4, 0i64..2_000_000), 0..6),
        answered in any::<bool>(),
    ) -> Drawn {
        let intended = index * 1_000_000 + jitter;
        let sent = late.map(|l| intended + l);
        let from = sent.unwrap_or(intended);
        let came = sent.is_some() && answered;
        let expect = expect.0.map(|n| Expect { answer: 0, count: Some(n) }).into_iter()
            .chain(expect.1.map(|count| Expect { answer: 1, count })).collect();
        Drawn {
            op: index * stride, intended, sent, bucket, expect,
            replies: replies.into_iter().filter(|_| came).map(|(e, d)| (e, from + d)).collect(),
            broadcasts: broadcasts.into_iter().filter(|_| came).map(|(r, d)| (r, from + d)).collect(),
        }
    }
}

fn log() -> impl Strategy<Value = Vec<Drawn>> {
    // A stride of 50,000 spreads the ops over several waves.
    (1i64..59, prop_oneof![Just(1i64), Just(7), Just(50_000)])
        .prop_flat_map(|(n, stride)| (0..n).map(|i| drawn(i, stride)).collect::<Vec<_>>())
        .prop_map(|mut ops| {
            // Arrival times are distinct, so that which copy was first is not a matter of taste.
            let mut tick = 0;
            for op in &mut ops {
                op.replies.iter_mut().for_each(|(_, t)| {
                    tick += 1;
                    *t = *t * 1_000 / 1_000 + tick % 7;
                });
                let mut seen = BTreeSet::new();
                op.replies.retain(|(_, t)| seen.insert(*t));
            }
            ops
        })
}

#[derive(Debug, Default, PartialEq)]
struct Expected {
    ok: u64,
    late: u64,
    missing: u64,
    duplicates: u64,
    void: u64,
    unresolved: u64,
    errors: BTreeMap<String, u64>,
    response: Vec<i64>,
    service: Vec<i64>,
}

/// The same counts, one op at a time, with sets and sorts.
fn oracle(ops: &[Drawn], answer: u8, warmup: i64, bucket: Option<bool>) -> Expected {
    let mut out = Expected::default();
    for d in ops.iter().filter(|d| d.intended >= warmup && (bucket.is_none() || d.bucket == bucket)) {
        let expected = d.expect.iter().find(|e| e.answer == answer).map(|e| u64::from(e.count.unwrap_or(1)));
        let mut arrivals: Vec<(u64, i64, Option<u8>)> = if answer == 0 {
            d.replies.iter().map(|(e, t)| (0, *t, *e)).collect()
        } else {
            d.broadcasts.iter().map(|(r, t)| (*r, *t, None)).collect()
        };
        arrivals.sort_by_key(|a| a.1);
        let mut seen = BTreeSet::new();
        let firsts: Vec<_> = arrivals.iter().filter(|a| seen.insert(a.0)).collect();
        out.duplicates += (arrivals.len() - firsts.len()) as u64;
        let failed = d.replies.iter().min_by_key(|(_, t)| *t).is_some_and(|(e, _)| e.is_some());
        let absent = expected.unwrap_or(0).saturating_sub(firsts.len() as u64);
        match () {
            () if d.sent.is_none() || answer == 1 && failed => out.void += absent,
            () if OBSERVED < d.intended + TIMEOUT => out.unresolved += absent,
            () => out.missing += absent,
        }
        for (_, t, error) in firsts {
            out.response.push(t - d.intended);
            out.service.push(t - d.sent.unwrap());
            match error {
                Some(c) => *out.errors.entry(format!("class{c}")).or_default() += 1,
                None if *t > d.intended + TIMEOUT => out.late += 1,
                None => out.ok += 1,
            }
        }
    }
    out.response.sort_unstable();
    out.service.sort_unstable();
    out
}

/// Smallest value that at least q of all are at or below, in whole numbers.
fn exact(sorted: &[i64], missing: u64, per_mille: u64) -> Option<i64> {
    let n = sorted.len() as u64 + missing;
    (1..=n).find(|rank| rank * 1000 >= per_mille * n).and_then(|rank| sorted.get(rank as usize - 1).copied())
}

fn check(series: Option<&analyze::Series>, expected: &Expected) -> Result<(), TestCaseError> {
    let Some(s) = series else {
        prop_assert_eq!(expected, &Expected::default());
        return Ok(());
    };
    let found = (s.ok, s.late, s.missing, s.duplicates, s.void, s.unresolved, s.count, &s.errors);
    let wanted = (expected.ok, expected.late, expected.missing, expected.duplicates, expected.void, expected.unresolved);
    prop_assert_eq!(found, (wanted.0, wanted.1, wanted.2, wanted.3, wanted.4, wanted.5, expected.response.len() as u64, &expected.errors));
    for (p, sorted) in [(&s.response, &expected.response), (&s.service, &expected.service)] {
        let at = |per_mille| exact(sorted, expected.missing, per_mille);
        prop_assert_eq!((p.p50_ns, p.p90_ns, p.p95_ns, p.p99_ns, p.p999_ns), (at(500), at(900), at(950), at(990), at(999)));
        prop_assert_eq!(p.max_ns, sorted.last().copied());
        let over = expected.missing > 0 && at(999).is_none() && !(sorted.is_empty() && expected.missing == 0);
        prop_assert_eq!(p.p999_over_ns, over.then(|| TIMEOUT.max(sorted.last().copied().unwrap_or(0))));
    }
    Ok(())
}

fn find<'a>(summary: &'a Summary, name: &str) -> Option<&'a analyze::Series> {
    summary.series.iter().find(|s| s.name == name)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn equals_the_oracle(ops in log(), cut in 1usize..20, warmup in prop_oneof![Just(0i64), 0i64..30_000_000]) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &ops, cut);
        let summary = analyze(dir.path(), &Question { warmup_ns: warmup, window_ns: Some(5_000_000), ..Question::default() }).unwrap();
        for (answer, name) in [(0, "send/reply"), (1, "send/broadcast")] {
            let expected = oracle(&ops, answer, warmup, None);
            check(find(&summary, name), &expected)?;
            for (bucket, label) in [(true, "big"), (false, "small")] {
                let found = summary.buckets.iter().find(|b| b.bucket == label && b.series.name == name).map(|b| &b.series);
                check(found, &oracle(&ops, answer, warmup, Some(bucket)))?;
            }
            let in_windows: u64 = summary.windows.iter().filter(|w| w.series == name).map(|w| w.count).sum();
            prop_assert_eq!(in_windows, expected.response.len() as u64);
            let missing: u64 = summary.windows.iter().filter(|w| w.series == name).map(|w| w.missing).sum();
            prop_assert_eq!(missing, expected.missing);
        }
        let counted = ops.iter().filter(|d| d.intended >= warmup).count() as u64;
        prop_assert_eq!((summary.run.ops, summary.run.sent + summary.run.unsent.values().sum::<u64>()), (counted, counted));
    }
}

#[test]
fn every_renderer_takes_a_run_without_a_single_answer() {
    let dir = tempfile::tempdir().unwrap();
    let op = Drawn { op: 0, intended: 0, sent: None, bucket: None, expect: vec![], replies: vec![], broadcasts: vec![] };
    write(dir.path(), &[op], 1);
    let summary = analyze(dir.path(), &Question::default()).unwrap();
    assert!(analyze::render::text(&summary).contains("VERDICT"));
    assert_eq!(serde_json::from_str::<Summary>(&analyze::render::json(&summary)).unwrap(), summary);
    assert_eq!(analyze::render::csv(&summary).len(), 5);
    assert!(analyze::render::html(&summary).unwrap().contains("<h1>"));
    assert!(analyze::render::charts(&summary).iter().all(|c| c.png().unwrap().starts_with(b"\x89PNG")));
}

/// What was due in the last millisecond is never seen to be missing: a line by windows must not pass on it.
#[test]
fn windows_that_nobody_watched_do_not_pass() {
    let dir = tempfile::tempdir().unwrap();
    let op = |i: i64| {
        let intended = if i < 50 { i * 1_000 } else { OBSERVED - 500_000 + i };
        let replies = if i < 50 { vec![(None, intended + 10)] } else { vec![] };
        let expect = vec![schedule::Expect { answer: 0, count: Some(1) }];
        Drawn { op: i, intended, sent: Some(intended), bucket: None, expect, replies, broadcasts: vec![] }
    };
    write(dir.path(), &(0..100).map(op).collect::<Vec<_>>(), 10);
    for line in ["missing == 0 every 10ms", "errors < 1% every 10ms", "send/reply p50 < 1ms every 10ms"] {
        let question = Question { slo: Some(vec![line.parse().unwrap()]), ..Question::default() };
        let slo = &analyze(dir.path(), &question).unwrap().verdict.slos[0];
        assert_eq!(slo.state, analyze::LineState::Undecidable, "{slo:?}");
    }
}

#[test]
fn a_copy_that_names_its_recipient_may_be_an_error() {
    use runlog::{Broadcast, LogWriter, Sealer, Status};
    let dir = tempfile::tempdir().unwrap();
    let expect = vec![schedule::Expect { answer: 1, count: Some(2) }];
    write(dir.path(), &[Drawn { op: 0, intended: 0, sent: Some(0), bucket: None, expect, replies: vec![], broadcasts: vec![] }], 1);
    let sealer = Sealer::start();
    let mut log = LogWriter::<Broadcast>::create(dir.path(), &sealer);
    for (recipient, status) in [(1, Status::Ok), (2, Status::Error)] {
        let code = (status == Status::Error).then(|| "refused".into());
        // Both came in one read: they share a time stamp.
        log.push(Broadcast { op: 0, answer: 1, received_ns: 9, connection: 1, status: status as u8, code, bytes: 1, recipient }).unwrap();
    }
    log.close().unwrap();
    sealer.finish().unwrap();
    let summary = analyze(dir.path(), &Question::default()).unwrap();
    let series = find(&summary, "send/broadcast").unwrap();
    assert_eq!((series.ok, series.errors["refused"], series.missing), (1, 1, 0));
}
