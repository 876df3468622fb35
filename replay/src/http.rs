//! HTTP and WebSockets: the other way to a target.
//!
//! ```text
//! frames ─ dispatcher ─► exchanges (tasks) ─ pool ─► connections ─► target
//!                           │ sent, answered
//!                           ▼
//!                       collector ──► sends, replies, phases; gates
//! ```
//!
//! * The **dispatcher** waits for absolute times and starts an exchange for each op; they run on its thread, so that what is due goes out
//!   without a word between threads. One core is what it has.
//! * An **exchange** takes a connection that is free, or opens one, up to as many as may be; past that it waits, and says so.
//! * The **sockets** (`websocket.rs`) are one for each session that opens any, with a queue of its ops.
//! * The **collector** is the one that logs.
//!
//! An op is *sent* when its exchange begins to do something on the network: to write to a connection that is there, or to open one.
//! What opening takes is the target's time, and in the `phases` log by itself.

mod collector;
mod cookies;
mod dispatcher;
mod exchange;
pub(crate) mod place;
mod pool;
pub(crate) mod request;
mod websocket;

pub(crate) use collector::{Collector, Told};
pub(crate) use dispatcher::Dispatcher;
pub(crate) use exchange::Exchanges;
pub(crate) use websocket::Sockets;

use std::net::SocketAddr;
use std::time::Duration;

/// How HTTP operations reach their servers.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// All go to this server, `http://127.0.0.1:8080`, whatever the schedule says; a path here comes before theirs.
    pub base_url: Option<String>,
    /// Open connections to a server, at most.
    pub max_connections: usize,
    /// A connection takes no longer to open.
    pub connect_timeout: Duration,
    /// From the request to the head of its response it takes no longer, if that is said.
    pub first_byte_timeout: Option<Duration>,
    /// Headers of every request, in place of those of the same name.
    pub headers: Vec<(String, String)>,
    /// Addresses of names, `("shop.test:80", 127.0.0.1:8080)`, in place of what the resolver says.
    pub resolve: Vec<(String, SocketAddr)>,
    /// Files for TLS.
    pub tls: wire::TlsFiles,
    /// Any certificate will do.
    pub insecure: bool,
    /// Requests go over HTTP/2, many at a time over each connection.
    pub http2: bool,
    /// Each session keeps the cookies that it is given.
    pub cookies: bool,
}

impl HttpOptions {
    /// The host that a request to a URL connects to, as an exchange reads it; `None` if it is no URL of a server.
    ///
    /// ```
    /// let options = replay::HttpOptions::default();
    /// assert_eq!(options.host("http://127.0.0.1:80@shop.test/").as_deref(), Some("shop.test"));
    /// ```
    pub fn host(&self, url: &str) -> Option<String> {
        let (place, _) = place::Places::new(None).find(url).ok()?;
        let server = &place.server;
        let name = format!("{}:{}", server.host, server.port);
        let resolved = self.resolve.iter().find(|(from, _)| *from == name).map(|(_, address)| address.ip().to_string());
        Some(resolved.unwrap_or_else(|| server.host.clone()))
    }
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions {
            base_url: None,
            max_connections: 1_000,
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: None,
            headers: Vec::new(),
            resolve: Vec::new(),
            tls: wire::TlsFiles::default(),
            insecure: false,
            http2: false,
            cookies: false,
        }
    }
}
