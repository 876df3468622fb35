//! The schedule: what will be sent, when, and what should come back.
//!
//! A schedule is one Parquet file, one row per operation, sorted by its offset from the start. It is written by
//! `compile`, `capture` and `import`, and read by `replay`, `inspect` and `seed`.
//!
//! ```text
//! workload ─ compile ─► Writer ─► s.parquet ─► Reader ─► Batch ─► Row ─ replay
//! ```
//!
//! * [`Operation`] is one row in memory, [`Row`] the same row borrowed from a decoded [`Batch`].
//! * [`Meta`] is the file metadata: the action table, the answer table, and where the schedule came from.
//! * [`IdKey`] writes the ids that a replay puts on the wire, and reads them back.
//! * [`Tempo`] maps schedule time to run time.
//! * [`units`] reads `10s`, `2k`, `0.1%` and prints them.
//!
//! The file format is described in [`mod@format`].
#![forbid(unsafe_code)]

pub mod format;
pub mod subject;
pub mod units;

mod check;
mod contain;
mod error;
mod id;
mod known;
mod meta;
mod operation;
mod parquet_file;
mod reader;
mod tempo;
mod writer;

pub use check::{Check, Response};
pub use contain::contain;
pub use error::Error;
pub use id::{Id, IdKey, key_of, key_texts};
pub use known::{Known, Table};
pub use meta::{Action, AnswerKind, AnswerRule, FORMAT, Format, Meta, Scenario, Stage, WEBSOCKET, Whose};
pub use operation::{Bind, Convert, Expect, Gate, Operation, Part, Slot, SlotKind};
pub use parquet_file::ParquetFile;
pub use reader::{Batch, LogicalHash, Reader, Row};
pub use tempo::Tempo;
pub use writer::{Totals, Writer, writer_properties};
