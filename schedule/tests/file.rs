//! The file format: what is written is read, and what is damaged is refused with a sentence.
use arrow::array::{Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use proptest::prelude::*;
use schedule::*;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

fn meta() -> Meta {
    let answers = serde_json::from_str(
        r#"[{"name":"reply","whose":"inbox"},{"name":"broadcast","kind":"broadcast","on":["a.*"],"whose":"json:/id"}]"#,
    );
    Meta {
        format: FORMAT,
        tool: "test".into(),
        name: "t".into(),
        seed: 1,
        workload: serde_json::json!({"name": "t"}),
        tables: Default::default(),
        actions: vec![Action { name: "send".into(), transport: "nats".into(), answers: vec![0, 1], timeout_ns: 5, once: false }],
        answers: answers.unwrap(),
        scenarios: vec![],
        known: Default::default(),
        streams: vec!["S".into()],
        stages: Vec::new(),
        slo: vec![],
        fingerprint: "f".into(),
        rows: 0,
        duration_ns: 0,
        nominal_rate_per_sec: 0.0,
        peak_rate_per_sec: 0.0,
        losses: None,
        history: vec![],
    }
}

fn write(path: &Path, operations: &[Operation]) -> Meta {
    let mut writer = Writer::create(path).unwrap();
    for operation in operations {
        writer.push(operation).unwrap();
    }
    writer.finish(meta(), 1_000_000_000).unwrap()
}

fn read(path: &Path) -> Result<Vec<Operation>, Error> {
    let mut all = Vec::new();
    for batch in Reader::open(path)?.batches()? {
        all.extend(batch?.rows().map(|row| row.to_operation()));
    }
    Ok(all)
}

prop_compose! {
    /// Any operation that may stand at row `op` of `rows`.
    fn operation(op: i64, rows: i64)(
        session in any::<u32>(), target in "[a-z.]{1,30}", payload in proptest::collection::vec(any::<u8>(), 40..80),
        headers in proptest::collection::vec(("[A-Z]{1,5}", "[a-z]{20,30}"), 0..3),
        slots in proptest::collection::vec((0u8..3, 0u32..4, 0u8..5, 0..rows, 0u8..15), 0..4),
        earlier in 0..op.max(1), delays in (any::<u32>(), any::<u32>()), bound in any::<bool>(), gated in any::<bool>(),
        opens in any::<u32>(), expect in proptest::collection::vec((0u8..2, proptest::option::of(any::<u32>())), 0..3),
        key in proptest::option::of(any::<i64>()), bucket in proptest::option::of("[a-z]{0,5}"), audience in proptest::option::of(any::<u32>()),
    ) -> Operation {
        let slots = slots.into_iter().filter_map(|(part, offset, kind, op, ordinal)| {
            let kind = SlotKind::from_code(kind)?;
            let width = kind.width().unwrap_or(5);
            let part = Part::from_code(part);
            let room = match part { Part::Payload => payload.len(), Part::Target => target.len(), Part::Header(n) => headers.get(usize::from(n))?.1.len() };
            (offset as usize + usize::from(width) <= room).then_some(Slot { part, offset, width, kind, op, ordinal })
        }).collect();
        let gate = (gated && op > 0).then_some(Gate { op: earlier, answer: 0, delay_ns: delays.0.into(), timeout_ns: delays.1.into() });
        let bind = Bind { slot: 0, op: earlier, answer: 1, pointer: "/a/-1".into(), convert: Convert::EpochMs };
        Operation {
            at_ns: op * 1_000, session, action: 0, target, headers, payload, slots, gate, opens, key, bucket, audience,
            binds: if bound && gate.is_some() { vec![bind] } else { vec![] },
            expect: expect.into_iter().map(|(answer, count)| Expect { answer, count }).collect(),
        }
    }
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    (1i64..40).prop_flat_map(|rows| (0..rows).map(|op| operation(op, rows)).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn what_is_written_is_read(operations in operations()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.parquet");
        let meta = write(&path, &operations);
        prop_assert_eq!(Reader::open(&path).unwrap().meta().clone(), meta);
        prop_assert_eq!(read(&path).unwrap(), operations);
        prop_assert!(!dir.path().join("s.parquet.part").exists());
    }
}

fn many(rows: i64) -> Vec<Operation> {
    (0..rows).map(|i| Operation { at_ns: i * 10, target: format!("t.{}", i % 7), payload: vec![b'x'; 100], ..Default::default() }).collect()
}

#[test]
fn row_groups_are_bounded_and_bytes_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    write(&a, &many(300_000));
    write(&b, &many(300_000));
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    let parquet = ParquetRecordBatchReaderBuilder::try_new(File::open(&a).unwrap()).unwrap();
    let rows: Vec<i64> = parquet.metadata().row_groups().iter().map(|g| g.num_rows()).collect();
    assert_eq!(rows, [131_072, 131_072, 37_856]);
}

/// Rewrites a schedule with some columns or metadata changed.
fn rewrite(from: &Path, to: &Path, json: impl Fn(String) -> String, columns: impl Fn(RecordBatch) -> RecordBatch) {
    let parquet = ParquetRecordBatchReaderBuilder::try_new(File::open(from).unwrap()).unwrap();
    let kvs = parquet.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let meta = kvs.into_iter().find(|kv| kv.key == format::META_KEY).unwrap().value.unwrap();
    let batches: Vec<RecordBatch> = parquet.build().unwrap().map(|b| columns(b.unwrap())).collect();
    let mut writer = ArrowWriter::try_new(File::create(to).unwrap(), batches[0].schema(), None).unwrap();
    batches.iter().for_each(|b| writer.write(b).unwrap());
    writer.append_key_value_metadata(KeyValue::new(format::META_KEY.into(), json(meta)));
    writer.close().unwrap();
}

#[test]
fn damaged_and_foreign_files_are_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let good = at("good");
    write(&good, &many(10));
    let message = |path: &Path| read(path).expect_err("refused").to_string();

    assert!(message(&at("absent")).contains("cannot read"));
    let bytes = std::fs::read(&good).unwrap();
    std::fs::write(at("cut"), &bytes[..bytes.len() / 2]).unwrap();
    assert!(message(&at("cut")).contains("not a readable Parquet file"));
    std::fs::write(at("text"), "hello").unwrap();
    assert!(message(&at("text")).contains("not a readable Parquet file"));

    let column = Arc::new(Int64Array::from(vec![1])) as _;
    let foreign = RecordBatch::try_from_iter([("a", column)]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(at("foreign")).unwrap(), foreign.schema(), None).unwrap();
    writer.write(&foreign).unwrap();
    writer.close().unwrap();
    assert!(message(&at("foreign")).contains("not a retempo schedule"));

    rewrite(&good, &at("newer"), |j| j.replace("\"major\":1", "\"major\":9"), |b| b);
    assert!(message(&at("newer")).contains("has schedule format 9.4, this retempo reads up to 1.4"));
    rewrite(&good, &at("no-target"), |j| j, |b| b.project(&[0, 1, 2, 3]).unwrap());
    assert!(message(&at("no-target")).contains("column target is missing"));
}

#[test]
fn absent_nullable_columns_and_unknown_ones_are_fine() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bare) = (dir.path().join("good"), dir.path().join("bare"));
    write(&good, &many(10));
    rewrite(
        &good,
        &bare,
        |j| j.replace("\"minor\":0", "\"minor\":7"),
        |b| {
            let mut columns: Vec<(String, _)> =
                [0, 1, 2, 3, 4, 6].iter().map(|&i| (b.schema().field(i).name().clone(), b.column(i).clone())).collect();
            columns.push(("future".into(), b.column(0).clone()));
            RecordBatch::try_from_iter(columns).unwrap()
        },
    );
    assert_eq!(read(&bare).unwrap(), many(10));
}

#[test]
fn a_row_that_refers_to_a_missing_op_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str, change: fn(&mut Operation)| {
        let path = dir.path().join(name);
        let mut rows = many(3);
        change(&mut rows[1]);
        write(&path, &rows);
        read(&path).expect_err("refused").to_string()
    };
    let slot = refused("slot", |row| {
        row.slots = vec![Slot { part: Part::Payload, offset: 0, width: 20, kind: SlotKind::Message, op: 99, ordinal: 0 }]
    });
    assert!(slot.contains("row 1: a slot refers to op 99, which is not in the schedule"), "{slot}");
    let gate = refused("gate", |row| row.gate = Some(Gate { op: 1, answer: 0, delay_ns: 0, timeout_ns: 0 }));
    assert!(gate.contains("op 1, which is not an earlier one"), "{gate}");
    let fit = refused("fit", |row| {
        row.slots = vec![Slot { part: Part::Payload, offset: 90, width: 20, kind: SlotKind::Message, op: 0, ordinal: 0 }]
    });
    assert!(fit.contains("does not fit"), "{fit}");
    let action = refused("action", |row| row.action = 5);
    assert!(action.contains("action 5 is not in the action table"), "{action}");
}

#[test]
fn rows_out_of_order_are_refused_when_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(&dir.path().join("s")).unwrap();
    writer.push(&Operation { at_ns: 5, ..Default::default() }).unwrap();
    assert!(writer.push(&Operation { at_ns: 4, ..Default::default() }).is_err());
}
