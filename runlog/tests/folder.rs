//! The run folder: what is logged is read back, however the process ended.
use runlog::*;
use schedule::Expect;
use std::path::Path;

fn sent(op: i64) -> Sent {
    Sent {
        op,
        action: 1,
        bucket: (op % 3 == 0).then(|| "big".into()),
        session: 7,
        connection: 0,
        intended_ns: op * 1_000,
        sent_ns: (op % 5 != 0).then_some(op * 1_000 + 30),
        bytes: 128,
        outcome: Outcome::Sent as u8,
        flags: Flags::WOKE_LATE,
        expected: [Expect { answer: 0, count: Some(1) }, Expect { answer: 1, count: None }].into(),
        slip_ns: (op % 7 == 0).then_some(op),
        key: None,
        opener: None,
    }
}

fn read(dir: &Path) -> Vec<Sent> {
    let mut rows = Vec::new();
    for chunk in chunks::<Sent>(dir).unwrap() {
        for columns in chunk.read::<Sent>().unwrap() {
            rows.extend((0..arrow::array::Array::len(&columns.op)).map(|i| columns.row(i)));
        }
    }
    rows
}

#[test]
fn closed_segments_are_parquet_with_op_ranges() {
    let dir = tempfile::tempdir().unwrap();
    let sealer = Sealer::start();
    let mut log = LogWriter::<Sent>::create(dir.path(), &sealer);
    let rows = 1_200_000;
    for op in 0..rows {
        log.push(sent(op)).unwrap();
    }
    log.close().unwrap();
    sealer.finish().unwrap();
    let names: Vec<String> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|n| n.ends_with(".parquet")), "{names:?}");
    let chunks = chunks::<Sent>(dir.path()).unwrap();
    assert!(chunks.iter().all(|c| c.rows <= ROW_GROUP_ROWS && c.max_op - c.min_op + 1 == c.rows as i64));
    assert_eq!(chunks.iter().map(|c| c.rows as i64).sum::<i64>(), rows);
    assert_eq!(chunks[3].read::<Sent>().unwrap()[0].row(5), sent(chunks[3].min_op + 5));
}

#[test]
fn what_was_flushed_survives_a_cut_at_any_byte() {
    let dir = tempfile::tempdir().unwrap();
    let sealer = Sealer::start();
    let mut log = LogWriter::<Sent>::create(dir.path(), &sealer);
    for op in 0..300 {
        log.push(sent(op)).unwrap();
        if op % 100 == 99 {
            log.flush().unwrap();
        }
    }
    let path = dir.path().join("sends-000001.arrow");
    let whole = std::fs::read(&path).unwrap();
    let cut_dir = tempfile::tempdir().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for cut in (0..whole.len()).step_by(97).chain([whole.len()]) {
        std::fs::write(cut_dir.path().join("sends-000001.arrow"), &whole[..cut]).unwrap();
        let rows = read(cut_dir.path());
        assert!(rows.iter().enumerate().all(|(i, row)| *row == sent(i as i64)));
        seen.insert(rows.len());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 100, 200, 300]);
}

#[test]
fn a_parquet_file_wins_over_its_twin_and_a_tmp_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sealer = Sealer::start();
    let mut log = LogWriter::<Sent>::create(dir.path(), &sealer);
    (0..10).for_each(|op| log.push(sent(op)).unwrap());
    log.close().unwrap();
    sealer.finish().unwrap();
    std::fs::write(dir.path().join("sends-000001.arrow"), "half").unwrap();
    std::fs::write(dir.path().join("sends-000002.parquet.tmp"), "half").unwrap();
    assert_eq!(read(dir.path()).len(), 10);
}

#[test]
fn a_folder_without_manifest_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let message = Manifest::read(dir.path()).unwrap_err().to_string();
    assert!(message.contains("is not a run folder: it has no run.json"), "{message}");
    std::fs::write(dir.path().join(MANIFEST), r#"{"format":{"major":9,"minor":0}}"#).unwrap();
    let message = Manifest::read(dir.path()).unwrap_err().to_string();
    assert!(message.contains("run format 9.0"), "{message}");
}
