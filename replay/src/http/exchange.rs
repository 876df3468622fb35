//! The course of one request: a connection, the request, the response. It decides nothing; it tells what happened when.

use super::pool::{Connection, Permit, Pool, Turn};
use super::request::{self, Server};
use super::{HttpOptions, collector::Told};
use crate::options::{Connections, Error, Options};
use crate::shared::{SentRecord, Shared};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use runlog::{Flags, Outcome, Phases};
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Bytes of a body, at most; one that is longer is an error, and its connection is closed.
const BODY_MAX: i64 = 16 << 20;
/// Bytes of all bodies that are not logged yet.
const BODIES_MAX: i64 = 512 << 20;
/// Bytes of requests that wait for a connection.
pub(super) const WAITING_MAX: i64 = 256 << 20;
/// Responses are waited for so many times the timeout of their action: what is late is told from what never comes.
const PATIENCE: u32 = 2;
/// A connection that is there may have been closed by the server meanwhile: so many of them are tried.
const STALE_MAX: u32 = 8;

/// What all exchanges of a run share.
pub(crate) struct Exchanges {
    shared: Arc<Shared>,
    options: HttpOptions,
    tls: TlsConnector,
    /// By server; and by session, where each has connections of its own.
    pools: Mutex<HashMap<(Server, u32), Arc<Pool>>>,
    by_session: bool,
    opened: AtomicU32,
    /// By action.
    timeouts: Vec<Duration>,
    told: mpsc::Sender<Told>,
    /// True when those that have not begun should not.
    cancelled: watch::Sender<bool>,
    /// Those that are not yet logged as sent, or as refused.
    pub unlogged: AtomicI64,
    /// Bytes of those that have not begun.
    pub waiting_bytes: AtomicI64,
    bodies: Arc<AtomicI64>,
}

/// A body, and its share of the memory for them.
pub(crate) struct Body {
    pub bytes: Vec<u8>,
    share: Arc<AtomicI64>,
}

impl Body {
    /// False if there is no room.
    fn take(&mut self, data: &[u8]) -> bool {
        let n = data.len() as i64;
        let together = self.share.fetch_add(n, Relaxed) + n;
        // What found no room is given back with the rest.
        self.bytes.extend_from_slice(data);
        self.bytes.len() as i64 <= BODY_MAX && together <= BODIES_MAX
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.share.fetch_sub(self.bytes.len() as i64, Relaxed);
    }
}

/// What went wrong with an exchange: the class of the error, and its words.
struct Failure {
    class: &'static str,
    why: String,
}

type Outcomes<T> = Result<T, Failure>;

fn failure(class: &'static str, why: &dyn std::fmt::Display) -> Failure {
    Failure { class, why: why.to_string() }
}

impl Exchanges {
    /// # Errors
    /// [`Error`]: files for TLS that cannot be used.
    pub fn new(shared: Arc<Shared>, options: &Options, timeouts: Vec<Duration>, told: mpsc::Sender<Told>) -> Result<Exchanges, Error> {
        let by_session = options.connections == Connections::Direct;
        let options = &options.http;
        let config = if options.insecure { wire::tls_config_trusting_all(&options.tls)? } else { wire::tls_config(&options.tls)? };
        Ok(Exchanges {
            shared,
            options: options.clone(),
            tls: TlsConnector::from(Arc::new(config)),
            pools: Mutex::default(),
            by_session,
            opened: AtomicU32::new(0),
            timeouts,
            told,
            cancelled: watch::Sender::new(false),
            unlogged: AtomicI64::new(0),
            waiting_bytes: AtomicI64::new(0),
            bodies: Arc::default(),
        })
    }

    /// Those that have not begun will not.
    pub fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    fn body(&self) -> Body {
        Body { bytes: Vec::new(), share: self.bodies.clone() }
    }

    fn tell(&self, told: Told) {
        // Nobody listens once the run is over.
        let _ = self.told.send(told);
    }

    fn pool(&self, server: &Server, session: u32) -> Arc<Pool> {
        let mut pools = self.pools.lock().expect("no panic while locked");
        let key = (server.clone(), if self.by_session { session } else { 0 });
        pools.entry(key).or_insert_with(|| Pool::new(if self.by_session { 1 } else { self.options.max_connections })).clone()
    }

    /// Makes the request of a frame.
    pub async fn run(self: Arc<Self>, record: SentRecord, frame: Bytes) {
        let begun = self.begin(record, &frame).await;
        self.waiting_bytes.fetch_sub(frame.len() as i64, Relaxed);
        drop(frame);
        let Some((mut record, server, request, turn)) = begun else { return };
        let sent_ns = self.shared.clock.now_ns();
        record.sent_ns = Some(sent_ns);
        self.tell(Told::Sent(record));
        let mut phases = Phases {
            op: record.op,
            connection: 0,
            dns_ns: None,
            connect_ns: None,
            tls_ns: None,
            first_byte_ns: None,
            body_ns: None,
            http_status: 0,
        };
        let spent = Duration::from_nanos((sent_ns - record.intended_ns).max(0) as u64);
        let patience = (PATIENCE * self.timeouts[usize::from(record.action)]).saturating_sub(spent).max(Duration::from_millis(1));
        let course = self.exchange(turn, (&server, record.session), request, &mut phases);
        let answered = timeout(patience, course).await;
        let received_ns = self.shared.clock.now_ns();
        let (failed, headers, body, connection) = match answered {
            // No answer, as the log will show.
            Err(_) => return,
            Ok(Ok((headers, body, connection))) => (None, headers, body, Some(connection)),
            Ok(Err(Failure { class, why })) => {
                let mut words = self.body();
                words.take(why.as_bytes());
                (Some(class), HeaderMap::new(), words, None)
            }
        };
        self.tell(Told::Answered { op: record.op, action: record.action, failed, headers, body, received_ns, phases: Box::new(phases) });
        if let Some(mut connection) = connection
            && connection.sender.ready().await.is_ok()
        {
            connection.free();
        }
    }

    /// Waits for a turn, if it must; tells why there is none.
    async fn begin(&self, mut record: SentRecord, frame: &[u8]) -> Option<(SentRecord, Server, Request<Full<Bytes>>, Turn)> {
        let refused = |record: SentRecord, outcome: Outcome| self.tell(Told::Refused(SentRecord { outcome: outcome as u8, ..record }));
        let Ok((server, request)) = request::decode(frame, &self.options) else {
            refused(record, Outcome::BindFailed);
            return None;
        };
        let turn = match self.pool(&server, record.session).turn() {
            Ok(turn) => turn,
            Err(mut coming) => {
                record.flags |= Flags::NO_CONNECTION;
                let mut cancelled = self.cancelled.subscribe();
                tokio::select! {
                    turn = &mut coming => turn.expect("a pool outlives those that wait"),
                    _ = cancelled.wait_for(|cancelled| *cancelled) => {
                        refused(record, Outcome::Cancelled);
                        return None;
                    }
                }
            }
        };
        Some((record, server, request, turn))
    }

    async fn exchange(
        &self,
        mut turn: Turn,
        (server, session): (&Server, u32),
        mut request: Request<Full<Bytes>>,
        phases: &mut Phases,
    ) -> Outcomes<(HeaderMap, Body, Connection)> {
        let mut stale = 0;
        loop {
            let mut connection = match turn {
                Turn::Take(connection) => connection,
                Turn::Open(permit) => self.open(permit, server, phases).await?,
            };
            phases.connection = connection.number;
            let began_ns = self.shared.clock.now_ns();
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    let head_ns = self.shared.clock.now_ns();
                    phases.first_byte_ns = Some(head_ns - began_ns);
                    phases.http_status = response.status().as_u16();
                    let (head, body) = response.into_parts();
                    let body = read(body, self.body()).await?;
                    phases.body_ns = Some(self.shared.clock.now_ns() - head_ns);
                    return Ok((head.headers, body, connection));
                }
                Err(mut failed) => match failed.take_message().filter(|_| stale < STALE_MAX) {
                    // The server closed it before anything was written.
                    Some(unsent) => {
                        (stale, request) = (stale + 1, unsent);
                        drop(connection);
                        turn = match self.pool(server, session).turn() {
                            Ok(turn) => turn,
                            Err(coming) => coming.await.expect("a pool outlives those that wait"),
                        };
                    }
                    None => return Err(broken(failed.error())),
                },
            }
        }
    }

    async fn open(&self, permit: Permit, server: &Server, phases: &mut Phases) -> Outcomes<Connection> {
        let clock = self.shared.clock;
        let mut since = clock.now_ns();
        let mut lap = || {
            let now = clock.now_ns();
            now - std::mem::replace(&mut since, now)
        };
        let address = self.address(server).await?;
        phases.dns_ns = Some(lap());
        let limit = self.options.connect_timeout;
        let late = |_| failure("connect_timeout", &format!("no connection to {address} in {limit:?}"));
        let tcp = timeout(limit, TcpStream::connect(address)).await.map_err(late)?.map_err(|e| unconnected(&e))?;
        // Small requests go out at once; without it they are only slower.
        let _ = tcp.set_nodelay(true);
        phases.connect_ns = Some(lap());
        let number = self.opened.fetch_add(1, Relaxed);
        if !server.tls {
            return handshake(tcp, number, permit).await;
        }
        let name = ServerName::try_from(server.host.clone()).map_err(|e| failure("tls", &e))?;
        let tls = timeout(limit, self.tls.connect(name, tcp)).await.map_err(late)?.map_err(|e| failure("tls", &e))?;
        phases.tls_ns = Some(lap());
        handshake(tls, number, permit).await
    }

    async fn address(&self, server: &Server) -> Outcomes<SocketAddr> {
        let name = format!("{}:{}", server.host, server.port);
        if let Some((_, address)) = self.options.resolve.iter().find(|(from, _)| *from == name) {
            return Ok(*address);
        }
        let mut found = lookup_host((server.host.as_str(), server.port)).await.map_err(|e| failure("dns", &e))?;
        found.next().ok_or_else(|| failure("dns", &format!("{name} has no address")))
    }
}

async fn handshake<S>(stream: S, number: u32, permit: Permit) -> Outcomes<Connection>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    // It ends with the connection; what went wrong shows in the exchange.
    tokio::spawn(driver);
    Ok(Connection::new(sender, number, permit))
}

/// The body, whole.
async fn read(mut body: Incoming, mut whole: Body) -> Outcomes<Body> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| broken(&e))?;
        let Some(data) = frame.data_ref() else { continue };
        if !whole.take(data) {
            return Err(failure("body_too_large", &"bodies have 16 MiB each, and 512 MiB together"));
        }
    }
    Ok(whole)
}

fn unconnected(error: &std::io::Error) -> Failure {
    let class = match error.kind() {
        ErrorKind::ConnectionRefused => "refused",
        ErrorKind::ConnectionReset => "reset",
        ErrorKind::TimedOut => "connect_timeout",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "unreachable",
        _ => "connect",
    };
    failure(class, error)
}

fn broken(error: &hyper::Error) -> Failure {
    let mut source: &dyn std::error::Error = error;
    while let Some(next) = source.source() {
        source = next;
    }
    let reset = source.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::ConnectionReset);
    let class = match () {
        () if reset => "reset",
        () if error.is_parse() || error.is_parse_too_large() => "protocol",
        () => "closed",
    };
    failure(class, &source)
}
