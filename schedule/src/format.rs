//! The schedule file format, version 1.
//!
//! One Parquet file, sorted by `at_ns`. Row groups hold at most [`ROW_GROUP_ROWS`] rows and about
//! [`ROW_GROUP_BYTES`] bytes of subjects and payloads, so that a reader streams the file in bounded memory. Numbers
//! are DELTA_BINARY_PACKED and uncompressed; text and payload are zstd. Times and ops are i64, so that differences in
//! SQL do not overflow.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `op` | i64 | row number |
//! | `at_ns` | i64 | offset from schedule start at speed 1 |
//! | `session` | u32 | who sends |
//! | `action` | u16 | index into the action table |
//! | `target` | utf8 | subject; `METHOD URL` over HTTP; `OPEN URL`, `SEND`, `CLOSE` over a WebSocket |
//! | `headers` | list of (name, value), nullable | |
//! | `payload` | binary | as it will be sent, but for the slots |
//! | `slots` | list of (part u8, offset u32, width u8, kind u8, op i64, ordinal u8) | fixed-width places that replay fills, see [`crate::Slot`] |
//! | `gate` | (op i64, answer u8, delay_ns i64, timeout_ns i64), nullable | see [`crate::Gate`] |
//! | `binds` | list of (slot u8, op i64, answer u8, pointer utf8, convert u8), nullable | see [`crate::Bind`] |
//! | `opens` | u32 | how many later ops wait on or bind from this one |
//! | `expect` | list of (answer u8, count u32 nullable) | answers that should come; null is at least one |
//! | `key` | i64, nullable | join key where an answer carries no id of ours |
//! | `bucket` | utf8, nullable | a dimension to report by |
//! | `audience` | u32, nullable | the group that the fan-out goes to |
//!
//! The file metadata holds one JSON document, [`crate::Meta`], under the key [`META_KEY`].
//!
//! Readers pick columns by name, ignore unknown ones, and take absent nullable ones as null and absent lists as
//! empty; only a newer major version is refused. The references of a row (`slots.op`, `gate.op`, `binds.op`) stay
//! within the file, and those of gates and binds point backwards.
//!
//! # Write and read one
//!
//! ```
//! use schedule::*;
//! let dir = tempfile::tempdir().unwrap();
//! let path = dir.path().join("s.parquet");
//!
//! let action = Action { name: "send".into(), transport: "nats".into(), answers: vec![], timeout_ns: 5_000_000_000, once: false };
//! let meta = Meta { actions: vec![action], ..Meta::new("two", 7, serde_json::Value::Null) };
//! let mut writer = Writer::create(&path).unwrap();
//! for at_ns in [0, 1_000_000] {
//!     writer.push(&Operation { at_ns, target: "greet".into(), payload: b"hi".to_vec(), ..Default::default() }).unwrap();
//! }
//! let meta = writer.finish(meta, 1_000_000_000).unwrap();
//! assert_eq!((meta.rows, meta.nominal_rate_per_sec), (2, 2.0));
//!
//! let reader = Reader::open(&path).unwrap();
//! assert_eq!(reader.meta().name, "two");
//! for batch in reader.batches().unwrap() {
//!     for row in batch.unwrap().rows() {
//!         assert_eq!((row.target, row.payload), ("greet", &b"hi"[..]));
//!     }
//! }
//! ```
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use std::sync::Arc;

/// Key of the metadata document.
pub const META_KEY: &str = "retempo.schedule";
/// Most rows of a row group.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Subjects, headers and payloads of a row group, bytes; a row group is closed by the batch that passes it.
pub const ROW_GROUP_BYTES: usize = 64 << 20;
/// Rows handed to the Parquet writer at a time; the bytes of a file depend on it.
pub const BATCH_ROWS: usize = 8 * 1024;

fn struct_list(fields: Fields) -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Struct(fields), false)))
}

pub(crate) fn header_fields() -> Fields {
    vec![Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Utf8, false)].into()
}

pub(crate) fn slot_fields() -> Fields {
    vec![
        Field::new("part", DataType::UInt8, false),
        Field::new("offset", DataType::UInt32, false),
        Field::new("width", DataType::UInt8, false),
        Field::new("kind", DataType::UInt8, false),
        Field::new("op", DataType::Int64, false),
        Field::new("ordinal", DataType::UInt8, false),
    ]
    .into()
}

pub(crate) fn gate_fields() -> Fields {
    vec![
        Field::new("op", DataType::Int64, false),
        Field::new("answer", DataType::UInt8, false),
        Field::new("delay_ns", DataType::Int64, false),
        Field::new("timeout_ns", DataType::Int64, false),
    ]
    .into()
}

pub(crate) fn bind_fields() -> Fields {
    vec![
        Field::new("slot", DataType::UInt8, false),
        Field::new("op", DataType::Int64, false),
        Field::new("answer", DataType::UInt8, false),
        Field::new("pointer", DataType::Utf8, false),
        Field::new("convert", DataType::UInt8, false),
    ]
    .into()
}

/// Fields of one expected answer, shared with the `sends` log.
pub fn expect_fields() -> Fields {
    vec![Field::new("answer", DataType::UInt8, false), Field::new("count", DataType::UInt32, true)].into()
}

/// The Arrow schema of a schedule, version 1.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("op", DataType::Int64, false),
        Field::new("at_ns", DataType::Int64, false),
        Field::new("session", DataType::UInt32, false),
        Field::new("action", DataType::UInt16, false),
        Field::new("target", DataType::Utf8, false),
        Field::new("headers", struct_list(header_fields()), true),
        Field::new("payload", DataType::Binary, false),
        Field::new("slots", struct_list(slot_fields()), false),
        Field::new("gate", DataType::Struct(gate_fields()), true),
        Field::new("binds", struct_list(bind_fields()), true),
        Field::new("opens", DataType::UInt32, false),
        Field::new("expect", struct_list(expect_fields()), false),
        Field::new("key", DataType::Int64, true),
        Field::new("bucket", DataType::Utf8, true),
        Field::new("audience", DataType::UInt32, true),
    ]))
}
