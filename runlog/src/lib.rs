//! The run folder: what was sent, what came back, and what is needed to distrust it.
//!
//! ```text
//! RUN/run.json                 the manifest, written at start and end by rename
//! RUN/sends-000001.parquet     a closed segment
//! RUN/sends-000002.arrow       the segment being written: an Arrow IPC stream, flushed at least once a second
//! ```
//!
//! | log | one row per | type |
//! |---|---|---|
//! | `sends` | operation, sent or not | [`Sent`] |
//! | `replies` | answer to the sender | [`Reply`] |
//! | `broadcasts` | copy delivered | [`Broadcast`] |
//! | `keyed` | answer or copy that is found by a key | [`Keyed`] |
//! | `phases` | exchange over HTTP | [`Phases`] |
//! | `frames` | frame that came over a WebSocket | [`Frame`] |
//! | `checks` | answer that was checked | [`Checked`] |
//! | `events` | thing that happened to the run | [`Event`] |
//! | `metrics` | sample of a number | [`Metric`] |
//!
//! All times are nanoseconds from the run's anchor on one monotonic clock. A closed segment is converted to Parquet at
//! low priority under a `.tmp` name, renamed, and its IPC twin deleted; a valid Parquet file wins over its twin. Numbers
//! are DELTA_BINARY_PACKED and uncompressed, in row groups of [`ROW_GROUP_ROWS`] with statistics.
//!
//! **Crash safety.** All logs are flushed together at least once a second, `events` last and with an event of kind
//! [`EventKind::Flushed`]: everything up to its time is on file. A run without an end in its manifest is partial, and
//! is observed up to the last such event.
//!
//! ```
//! use runlog::{LogWriter, Metric, Sealer};
//! let dir = tempfile::tempdir().unwrap();
//! let sealer = Sealer::start();
//! let mut log = LogWriter::<Metric>::create(dir.path(), &sealer);
//! log.push(Metric { t_ns: 5, source: "host".into(), metric: "cpu".into(), value: 0.5 }).unwrap();
//! log.close().unwrap();
//! sealer.finish().unwrap();
//! let chunks = runlog::chunks::<Metric>(dir.path()).unwrap();
//! let columns = chunks[0].read::<Metric>().unwrap();
//! assert_eq!(columns[0].value.value(0), 0.5);
//! ```
#![forbid(unsafe_code)]

mod cell;
mod expected;
mod manifest;
mod reader;
mod step;
mod table;
mod writer;

pub use cell::{Cell, Text};
pub use expected::Expected;
pub use manifest::{ConnectionInfo, Granted, HostInfo, MANIFEST, Manifest, RUN_FORMAT, Role, State};
pub use reader::{Chunk, chunks};
pub use step::{Axis, Course, StepMark};
pub use table::{
    Broadcast, Captured, CapturedColumns, Checked, Event, EventKind, Flags, Frame, Keyed, Metric, Outcome, Phases, PhasesColumns, Reply,
    Sent, Status, Table,
};
pub use table::{BroadcastColumns, EventColumns, MetricColumns, ReplyColumns, SentColumns};
pub use table::{CheckedColumns, DueSent, DueSentColumns, FrameColumns, StepSent, StepSentColumns};
pub use table::{GatedSent, GatedSentColumns, KeySent, KeySentColumns, KeyedColumns};
pub use table::{JoinBroadcast, JoinBroadcastColumns, JoinReply, JoinReplyColumns, JoinSent, JoinSentColumns};
pub use table::{SizedReply, SizedReplyColumns};
pub use writer::{LogWriter, ROW_GROUP_ROWS, Sealer};

use std::path::PathBuf;

/// What can go wrong with a run folder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{path} {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, what: impl ToString) -> Error {
        Error::Damaged { path: path.into(), what: what.to_string() }
    }
}
