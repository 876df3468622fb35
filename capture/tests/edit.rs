//! Schedules made of schedules keep what belongs together.

use capture::edit::{Cut, concat, cut, merge, scale};
use fixtures::{Overrides, Population, compile, preset};
use schedule::{Meta, Operation, Reader};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const SEC: i64 = 1_000_000_000;

fn compiled(dir: &Path, name: &str, rate: f64) -> PathBuf {
    let overrides = Overrides { rate_per_sec: Some(rate), duration_ns: Some(10 * SEC), ..Overrides::default() };
    let workload = preset(name).unwrap().with(&overrides).unwrap();
    let population = Population::build(&workload, workload.seed, Path::new(".")).unwrap();
    let path = dir.join(format!("{name}.parquet"));
    compile(&workload, &population, &path, &mut |_| {}).unwrap();
    path
}

fn read(path: &Path) -> (Meta, Vec<Operation>) {
    let reader = Reader::open(path).unwrap();
    let meta = reader.meta().clone();
    (meta, reader.batches().unwrap().flat_map(|b| b.unwrap().rows().map(|row| row.to_operation()).collect::<Vec<_>>()).collect())
}

#[test]
fn a_cut_keeps_what_was_asked_for_and_what_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (compiled(dir.path(), "history-small", 200.0), dir.path().join("cut.parquet"));
    let (_, all) = read(&path);
    let asked = Cut { time: Some(2 * SEC..6 * SEC), ..Cut::default() };
    let edited = cut(&path, &out, &asked, json!({ "cut": "2s..6s" })).unwrap();
    let (meta, kept) = read(&out);
    assert_eq!((meta.duration_ns, &meta.history[0]["cut"]), (4 * SEC, &json!("2s..6s")));
    let within = all.iter().filter(|op| (2 * SEC..6 * SEC).contains(&op.at_ns)).count();
    assert!(edited.orphaned > 0, "some waited for what was before");
    assert_eq!(kept.len() as u64 + edited.orphaned, within as u64);
    assert!(kept.iter().all(|op| (0..4 * SEC).contains(&op.at_ns)));
    let mut opened = vec![0; kept.len()];
    for (n, op) in (0i64..).zip(&kept) {
        if let Some(gate) = op.gate {
            assert!(gate.op < n && kept[gate.op as usize].session == op.session);
            opened[gate.op as usize] += 1;
        }
    }
    assert!(kept.iter().zip(opened).all(|(op, n)| op.opens == n), "each says how many wait for it");

    let only = Cut { actions: vec!["history".into()], sample: Some(0.5), seed: 7, ..Cut::default() };
    cut(&path, &out, &only, json!({})).unwrap();
    let (meta, kept) = read(&out);
    assert!(kept.iter().all(|op| meta.actions[usize::from(op.action)].name == "history"));
    let sessions = |ops: &[Operation]| ops.iter().map(|op| op.session).collect::<BTreeSet<_>>();
    let share = sessions(&kept).len() as f64 / sessions(&all).len() as f64;
    assert!((0.25..0.75).contains(&share), "{share}");
    let of_session =
        |ops: &[Operation], session| ops.iter().filter(|op| op.session == session && op.bucket.as_deref() == Some("open")).count();
    assert!(sessions(&kept).into_iter().all(|s| of_session(&kept, s) == of_session(&all, s)), "a session is whole");

    let unknown = Cut { actions: vec!["histroy".into()], ..Cut::default() };
    assert!(cut(&path, &out, &unknown, json!({})).unwrap_err().to_string().contains("has no action `histroy`; there are history"));
    let nothing = Cut { time: Some(99 * SEC..100 * SEC), ..Cut::default() };
    assert!(cut(&path, &out, &nothing, json!({})).unwrap_err().to_string().contains("nothing is left of it"));
}

#[test]
fn schedules_are_woven_into_one() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (compiled(dir.path(), "realistic", 100.0), compiled(dir.path(), "history-small", 50.0));
    let ((meta_a, ops_a), (meta_b, ops_b)) = (read(&a), read(&b));
    let out = dir.path().join("both.parquet");
    merge(&[a.clone(), b.clone()], &out, json!({ "merge": 2 })).unwrap();
    let (meta, ops) = read(&out);
    assert_eq!((ops.len(), meta.duration_ns, meta.name.as_str()), (ops_a.len() + ops_b.len(), 10 * SEC, "both"));
    assert!(ops.is_sorted_by_key(|op| op.at_ns));
    let name = |meta: &Meta, op: &Operation| meta.actions[usize::from(op.action)].name.clone();
    let answers =
        |meta: &Meta, op: &Operation| op.expect.iter().map(|e| meta.answers[usize::from(e.answer)].name.clone()).collect::<Vec<_>>();
    let of = |wanted: &Meta| ops.iter().filter(|op| wanted.actions.iter().any(|a| a.name == name(&meta, op))).collect::<Vec<_>>();
    for (was_meta, was) in [(&meta_a, &ops_a), (&meta_b, &ops_b)] {
        let is = of(was_meta);
        assert_eq!(is.len(), was.len());
        for (is, was) in is.iter().zip(was) {
            assert_eq!((&is.target, &is.payload, is.at_ns), (&was.target, &was.payload, was.at_ns));
            assert_eq!((name(&meta, is), answers(&meta, is)), (name(was_meta, was), answers(was_meta, was)));
            let own = |op: &Operation, ops: &[Operation]| op.slots.iter().map(|s| ops[s.op as usize].target.clone()).collect::<Vec<_>>();
            assert_eq!(own(is, &ops), own(was, was_of(was_meta, &meta_a, &ops_a, &ops_b)), "ids are of the same ops");
        }
    }
    assert!(meta.fingerprint.is_empty(), "it is of two populations");

    concat(&[a.clone(), a.clone()], &out, json!({})).unwrap();
    let (twice, ops) = read(&out);
    assert_eq!((ops.len(), twice.duration_ns, &twice.fingerprint), (2 * ops_a.len(), 20 * SEC, &meta_a.fingerprint));
    assert_eq!(ops[ops_a.len()].at_ns, ops_a[0].at_ns + 10 * SEC);
}

fn was_of<'a>(meta: &Meta, meta_a: &Meta, a: &'a [Operation], b: &'a [Operation]) -> &'a [Operation] {
    if meta.name == meta_a.name { a } else { b }
}

#[test]
fn copies_are_other_users() {
    let dir = tempfile::tempdir().unwrap();
    let path = compiled(dir.path(), "small", 100.0);
    let (_, one) = read(&path);
    let out = dir.path().join("three.parquet");
    scale(&path, &out, 3, Some(2), 42, SEC, json!({})).unwrap();
    let (meta, three) = read(&out);
    assert_eq!(three.len(), 3 * one.len());
    let accounts = |ops: &[Operation]| ops.iter().map(|op| op.target.split('.').nth(2).unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(accounts(&three).len(), 3 * accounts(&one).len());
    assert!(three.iter().map(|op| op.session).max() > one.iter().map(|op| op.session).max());
    assert!((0i64..).zip(&three).all(|(n, op)| op.slots.iter().all(|slot| slot.op == n)), "each makes its own ids");
    assert!(meta.duration_ns >= 10 * SEC && meta.duration_ns < 11 * SEC);
    let presence = preset("presence-capacity").unwrap().with(&Overrides { users: Some(5), ..Overrides::default() }).unwrap();
    let population = Population::build(&presence, 1, Path::new(".")).unwrap();
    let keyed = dir.path().join("keyed.parquet");
    compile(&presence, &population, &keyed, &mut |_| {}).unwrap();
    assert!(scale(&keyed, &out, 2, None, 1, 0, json!({})).unwrap_err().to_string().contains("found by a key"));
}
