//! Checks count what their series count: a warm-up is left out of both.

#[allow(dead_code, reason = "each test file uses its own part")]
mod common;

use analyze::{Question, analyze};
use common::{Drawn, manifest, write};
use runlog::{Checked, LogWriter, Sealer};
use schedule::Expect;

#[test]
fn answers_across_the_end_of_the_warm_up_count_in_neither() {
    let dir = tempfile::tempdir().unwrap();
    // Op 0 is due in the warm-up and answered after it; op 1 is due after it.
    let ops = [(0, 1_000, 6_000), (1, 5_000, 6_500)].map(|(op, intended, received)| Drawn {
        op,
        intended,
        sent: Some(intended),
        bucket: None,
        expect: vec![Expect { answer: 0, count: Some(1) }],
        replies: vec![(None, received)],
        broadcasts: Vec::new(),
    });
    write(dir.path(), &ops, 10);
    let mut manifest = manifest();
    let answers = &mut manifest.schedule.answers;
    answers[0].checks = serde_json::from_value(serde_json::json!({ "found": "/id exists" })).unwrap();
    answers[1] = serde_json::from_value(serde_json::json!({
        "name": "tick", "kind": "push", "on": ["websocket"], "whose": "socket", "check": { "small": "bytes < 10" },
    }))
    .unwrap();
    manifest.write(dir.path()).unwrap();
    let sealer = Sealer::start();
    let mut checked = LogWriter::create(dir.path(), &sealer);
    // The op that opened a WebSocket was due in the warm-up; of its pushes those count that came after.
    for (op, answer, received_ns, failed) in
        [(0, 0, 6_000, Some("found")), (1, 0, 6_500, None), (0, 1, 4_000, Some("small")), (0, 1, 7_000, Some("small"))]
    {
        checked.push(Checked { op, answer, received_ns, failed: failed.map(Into::into) }).unwrap();
    }
    checked.close().unwrap();
    sealer.finish().unwrap();
    let summary = analyze(dir.path(), &Question { warmup_ns: 5_000, ..Question::default() }).unwrap();
    assert_eq!(summary.series[0].count, 1);
    let counted: Vec<_> = summary.checks.iter().map(|check| (check.name.as_str(), check.passed, check.failed)).collect();
    assert_eq!(counted, [("found", 1, 0), ("small", 0, 1)]);
}
