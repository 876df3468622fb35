//! Answers that carry no id of ours are joined by their key: the latest op with it that was sent before.

#[allow(dead_code, reason = "each test file uses its own part")]
mod common;

use analyze::{Question, analyze};
use runlog::{Keyed, LogWriter, Outcome, Sealer, Sent, Status};
use schedule::{Expect, Whose};

const KEYS: [(i64, i64, Option<i64>); 5] = [
    // Op, key, when it was sent.
    (0, 100, Some(1_000)),
    (1, 200, Some(2_000)),
    (2, 100, Some(3_000_000)),
    (3, 300, None),
    (4, 400, Some(4_000)),
];

#[test]
fn a_key_finds_the_latest_op_that_was_sent_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = common::manifest();
    manifest.schedule.answers[1].whose = Whose::Fields(vec!["/a".into()]);
    manifest.write(dir.path()).unwrap();
    let sealer = Sealer::start();
    let (mut sends, mut keyed) = (LogWriter::create(dir.path(), &sealer), LogWriter::create(dir.path(), &sealer));
    for (op, key, sent_ns) in KEYS {
        let row = Sent {
            op,
            action: 0,
            bucket: None,
            session: 0,
            connection: 0,
            intended_ns: sent_ns.unwrap_or(5_000),
            sent_ns,
            bytes: 1,
            outcome: if sent_ns.is_some() { Outcome::Sent } else { Outcome::GateFailed } as u8,
            flags: 0,
            expected: vec![Expect { answer: 1, count: Some(1) }].into(),
            slip_ns: None,
            key: Some(key),
            opener: None,
        };
        sends.push(row).unwrap();
    }
    // To op 0 in time and once more, to op 2 in time, to op 1 late; one before its op was sent, one of an op that never was,
    // one of nobody.
    for (key, received_ns) in [(100, 1_500), (100, 2_500), (100, 3_000_700), (200, 1_500_000), (400, 3_999), (300, 9_000), (999, 9_000)] {
        let status = Status::Ok as u8;
        keyed.push(Keyed { key, answer: 1, received_ns, connection: 1, status, code: None, bytes: 1, recipient: 0 }).unwrap();
    }
    sends.close().unwrap();
    keyed.close().unwrap();
    sealer.finish().unwrap();
    let summary = analyze(dir.path(), &Question::default()).unwrap();
    let s = &summary.series[0];
    assert_eq!((s.name.as_str(), s.ok, s.late, s.duplicates, s.missing, s.void), ("send/broadcast", 2, 1, 1, 1, 1));
    assert_eq!(s.service.min_ns, Some(500));
    assert_eq!(summary.evidence.unexpected.iter().collect::<Vec<_>>(), [(&"broadcast".to_owned(), &3)]);
    // What came in the warm-up is not counted: one of the three came before the others.
    let warmed = analyze(dir.path(), &Question { warmup_ns: 5_000, ..Question::default() }).unwrap();
    assert_eq!(warmed.evidence.unexpected["broadcast"], 2);
}
