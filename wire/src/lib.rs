//! The small NATS client of the hot path: frames, connection, authentication, TLS. No JetStream API, no reconnect, no
//! threads: whoever uses it decides when to read and write.
//!
//! ```text
//! Options ─ connect ─► Connected { stream, info, received }     encode_publish ─► bytes ─► Stream::write
//!                                                               Stream::read ─► ReadBuffer ─► Frame
//! ```
//!
//! The protocol is documented at <https://docs.nats.io/reference/reference-protocols/nats-protocol>.
#![forbid(unsafe_code)]

mod connect;
mod frame;
mod options;
mod stream;
mod tls;

pub use connect::{Connected, ServerInfo, connect, connect_any};
pub use frame::{ClientFrame, Frame, Message, Offsets, ProtocolError, ReadBuffer, encode_publish, encode_subscribe};
pub use options::{Auth, Error, Options, Server, TlsFiles};
pub use stream::Stream;
pub use tls::{tls_config, tls_config_trusting_all};
