//! The engine: sends a schedule open-loop and logs everything, deciding nothing.
//!
//! ```text
//! schedule ─ loader ─► frames ─ pacer ─► sockets ─► target          monitor: backlog, own CPU, once a second
//!                                 │                   │
//!                                 ▼                   ▼
//!                              sends ──► logger ◄── answers ◄─ receiver
//! ```
//!
//! * The **loader** reads row groups ahead and turns rows into frames that need no more work.
//! * The **pacer** sleeps to absolute times and writes what is due. It blocks on nothing but the clock and the socket.
//! * The **receiver** stamps, parses, decodes the op from the id, and hands the record on. It correlates nothing.
//! * The **logger** writes the run folder.
//!
//! What is due is decided by the pure function [`pacer::step`]; what a message means, by [`decode::Decoder`].
//! `clock.rs` is the only file that reads a clock, `os.rs` the only one with unsafe code.
#![deny(unsafe_code)]

mod answer_log;
mod ask;
mod backlog;
mod bind;
mod clock;
mod connection;
pub mod control;
pub mod decode;
mod encoder;
mod engine;
pub mod gates;
mod http;
mod live;
mod loader;
mod logger;
mod metrics;
mod monitor;
mod options;
mod os;
mod outbox;
pub mod pacer;
mod promql;
mod ready;
mod receiver;
mod receivers;
mod reconnect;
mod release;
mod sender;
mod sent_log;
mod shared;
mod spin;
mod steps;
mod watch;

pub use engine::{Report, replay, replay_steps};
pub use http::HttpOptions;
pub use http::place::without_users;
pub use options::{Connections, Error, OnDisconnect, Options, Plan, TempoChoice, Transport};
pub use promql::Promql;
pub use receivers::{Listener, Receivers};
pub use shared::{Progress, Stop};
pub use steps::{Conduct, Only, Step};
pub use watch::Watch;
