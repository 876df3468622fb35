//! Live traffic becomes schedules, and schedules become others ([`edit`]).
//!
//! ```text
//! NATS, JetStream ─ listen ─► segments (a folder beside the output) ─ compose ─► schedule
//!                                 └─ ledger: what was not heard
//! ```
//!
//! * **Listening** ([`nats`], [`jetstream`]) stamps messages and writes them down as they come; it decides nothing. Death of the
//!   process loses at most the last second, and [`compose()`] makes a schedule of what is left.
//! * **Composing** ([`compose()`]) reads the segments twice: first it finds out which messages are operations and which are
//!   answers to them, and where each id was first seen; then it writes operations, in which ids are fresh at every replay.
#![forbid(unsafe_code)]

mod compose;
pub mod edit;
mod folder;
pub mod ids;
pub mod import;
pub mod jetstream;
pub mod nats;
mod recent;
mod redact;
mod rules;

pub use compose::{Composed, compose, finish};
pub use folder::{Folder, HandOn, Ledger};
pub use redact::{Policy, Redacted, Redactor};
pub use rules::{Rules, Session};

use std::path::PathBuf;

/// Why a capture could not be made. Each message says where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or a subscription that is refused.
    #[error(transparent)]
    Connect(#[from] wire::Error),
    /// JetStream does not do as asked.
    #[error("{0}")]
    Server(String),
    /// The segments cannot be written or read.
    #[error(transparent)]
    Log(#[from] runlog::Error),
    /// The schedule cannot be written.
    #[error(transparent)]
    Schedule(#[from] schedule::Error),
    /// There is nothing to make a schedule of.
    #[error("{path}: {what}")]
    Capture {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}
