//! The course of one request: a connection, the request, the response. It decides nothing; it tells what happened when.

use super::cookies::Jars;
use super::place::{Places, Server};
use super::pool::{Connection, Permit, Pool, Sender, Turn};
use super::request::{self, Parts};
use super::{HttpOptions, collector::Told};
use crate::options::{Connections, Error, Options};
use crate::shared::{SentRecord, Shared};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use runlog::{Flags, Outcome, Phases};
use rustls::pki_types::ServerName;
use schedule::{Action, AnswerRule, Check, Meta};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

/// Bytes of a body or a message, at most; one that is longer is an error, and its connection is closed.
pub(super) const BODY_MAX: i64 = 16 << 20;
/// Bytes of all bodies that are not logged yet.
const BODIES_MAX: i64 = 512 << 20;
/// Bytes of requests that wait for a connection.
pub(super) const WAITING_MAX: i64 = 256 << 20;
/// Responses are waited for so many times the timeout of their action: what is late is told from what never comes.
pub(super) const PATIENCE: u32 = 2;
/// A connection that is there may have been closed by the server meanwhile: so many of them are tried.
const STALE_MAX: u32 = 8;

/// What carries an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Http,
    WebSocket,
    /// Nothing: it is answered by what it would send.
    Local,
}

/// What is to be known of an action.
pub(super) struct Manner {
    pub way: Way,
    pub timeout: Duration,
    /// Whether a check is about what was sent, …
    pub keeps_sent: bool,
    /// … or about a header. Headers that are kept keep the buffer that they were read into.
    pub keeps_headers: bool,
}

impl Manner {
    fn of(action: &Action, answers: &[AnswerRule]) -> Manner {
        let way = match action.transport.as_str() {
            "websocket" => Way::WebSocket,
            "local" => Way::Local,
            _ => Way::Http,
        };
        let rules = action.answers.iter().map(|&answer| &answers[usize::from(answer)]);
        let mut checks = rules.flat_map(|rule| rule.checks.values());
        Manner {
            way,
            timeout: Duration::from_nanos(action.timeout_ns as u64),
            keeps_sent: checks.clone().any(Check::is_about_sent),
            keeps_headers: checks.any(Check::is_about_headers),
        }
    }
}

/// A stream of bytes, whether over TLS or not.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// By server; and by session, where each has connections of its own.
type Pools = HashMap<(Arc<Server>, u32), Arc<Pool>>;

/// What all exchanges of a run share.
pub(crate) struct Exchanges {
    pub(super) shared: Arc<Shared>,
    pub(super) options: HttpOptions,
    pub(super) places: Places,
    /// For WebSockets, and for requests.
    tls: [TlsConnector; 2],
    pools: Mutex<Pools>,
    by_session: bool,
    opened: AtomicU32,
    /// By action.
    pub(super) manners: Vec<Manner>,
    pub(super) jars: Option<Jars>,
    told: mpsc::Sender<Told>,
    /// True when those that have not begun should not.
    pub(super) cancelled: watch::Sender<bool>,
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
    pub(super) fn take(&mut self, data: &[u8]) -> bool {
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

/// What an op asks for.
struct Asked {
    server: Arc<Server>,
    request: Request<Full<Bytes>>,
    /// What checks may ask about.
    sent: Bytes,
    /// Where it goes, if cookies are kept.
    url: Option<Url>,
}

/// What went wrong with an exchange: the class of the error, and its words.
pub(super) struct Failure {
    pub class: Cow<'static, str>,
    pub why: String,
}

pub(super) type Outcomes<T> = Result<T, Failure>;

pub(super) fn failure(class: impl Into<Cow<'static, str>>, why: &dyn std::fmt::Display) -> Failure {
    Failure { class: class.into(), why: why.to_string() }
}

impl Exchanges {
    /// # Errors
    /// [`Error`]: files for TLS that cannot be used.
    pub fn new(shared: Arc<Shared>, options: &Options, meta: &Meta, told: mpsc::Sender<Told>) -> Result<Exchanges, Error> {
        let by_session = options.connections == Connections::Direct;
        let options = &options.http;
        let mut config = if options.insecure { wire::tls_config_trusting_all(&options.tls)? } else { wire::tls_config(&options.tls)? };
        // A WebSocket begins as HTTP/1.1.
        let plain = TlsConnector::from(Arc::new(config.clone()));
        if options.http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(Exchanges {
            shared,
            places: Places::new(options.base_url.as_deref()),
            options: options.clone(),
            tls: [plain, TlsConnector::from(Arc::new(config))],
            pools: Mutex::default(),
            by_session,
            opened: AtomicU32::new(0),
            manners: meta.actions.iter().map(|action| Manner::of(action, &meta.answers)).collect(),
            jars: options.cookies.then(Jars::default),
            told,
            cancelled: watch::Sender::new(false),
            unlogged: AtomicI64::new(0),
            waiting_bytes: AtomicI64::new(0),
            bodies: Arc::default(),
        })
    }

    pub(super) fn way(&self, action: u16) -> Way {
        self.manners[usize::from(action)].way
    }

    /// Those that have not begun will not.
    pub fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    pub(super) fn body(&self) -> Body {
        Body { bytes: Vec::new(), share: self.bodies.clone() }
    }

    pub(super) fn tell(&self, told: Told) {
        // Nobody listens once the run is over.
        let _ = self.told.send(told);
    }

    fn pool(&self, server: &Arc<Server>, session: u32) -> Arc<Pool> {
        let mut pools = self.pools.lock().expect("no panic while locked");
        let key = (server.clone(), if self.by_session { session } else { 0 });
        pools.entry(key).or_insert_with(|| Pool::new(if self.by_session { 1 } else { self.options.max_connections })).clone()
    }

    /// Makes the request of a frame.
    pub async fn run(self: Arc<Self>, mut record: SentRecord, frame: Bytes) {
        let asked = self.asked(&record, &frame);
        let turn = match &asked {
            Some(asked) => self.turn(&mut record, &asked.server).await,
            None => None,
        };
        self.waiting_bytes.fetch_sub(frame.len() as i64, Relaxed);
        drop(frame);
        let Some((Asked { server, request, sent, url }, turn)) = asked.zip(turn) else { return };
        let sent_ns = self.shared.clock.now_ns();
        record.sent_ns = Some(sent_ns);
        self.tell(Told::Sent(record));
        let mut phases = no_phases(record.op);
        // Apart: an exchange is moved when it is made, and the smaller for it.
        let course = Box::pin(self.exchange(turn, (&server, record.session), request, &mut phases));
        let answered = timeout(self.patience(&record, sent_ns), course).await;
        let received_ns = self.shared.clock.now_ns();
        let (failed, mut headers, body, connection) = match answered {
            // No answer, as the log will show.
            Err(_) => return,
            Ok(Ok((headers, body, connection))) => (None, headers, body, Some(connection)),
            Ok(Err(Failure { class, why })) => {
                let mut words = self.body();
                words.take(why.as_bytes());
                (Some(class), HeaderMap::new(), words, None)
            }
        };
        if let Some((jars, url)) = self.jars.as_ref().zip(url) {
            jars.keep(record.session, &url, &headers);
        }
        if !self.manners[usize::from(record.action)].keeps_headers {
            headers = HeaderMap::new();
        }
        let (op, action) = (record.op, record.action);
        self.tell(Told::Answered { op, action, failed, headers, body, sent, received_ns, phases: Some(Box::new(phases)) });
        if let Some(mut connection) = connection
            && connection.sender.ready().await
        {
            connection.free();
        }
    }

    /// What a frame asks for; refuses the op if it makes no request.
    fn asked(&self, record: &SentRecord, frame: &Bytes) -> Option<Asked> {
        let decoded = request::parts(frame).and_then(|parts| Ok((request::request(&parts, &self.places, &self.options)?, parts)));
        let Ok(((server, mut request), parts)) = decoded else {
            self.refuse(*record, Outcome::BindFailed);
            return None;
        };
        let url = self.jars.as_ref().and_then(|jars| jars.add(record.session, &server, &mut request));
        Some(Asked { server, request, sent: self.sent(record, parts), url })
    }

    /// A turn at once, or when it comes; refuses the op if none does.
    async fn turn(&self, record: &mut SentRecord, server: &Arc<Server>) -> Option<Turn> {
        let coming = match self.pool(server, record.session).turn() {
            Ok(turn) => return Some(turn),
            Err(coming) => coming,
        };
        record.flags |= Flags::NO_CONNECTION;
        let turn = Box::pin(self.wait(coming)).await;
        if turn.is_none() {
            self.refuse(*record, Outcome::Cancelled);
        }
        turn
    }

    /// Waits for a turn; none comes once those that have not begun should not.
    async fn wait(&self, coming: oneshot::Receiver<Turn>) -> Option<Turn> {
        let mut cancelled = self.cancelled.subscribe();
        tokio::select! {
            turn = coming => Some(turn.expect("a pool outlives those that wait")),
            _ = cancelled.wait_for(|cancelled| *cancelled) => None,
        }
    }

    /// An op that goes nowhere.
    pub fn locally(&self, mut record: SentRecord, frame: &Bytes) {
        self.waiting_bytes.fetch_sub(frame.len() as i64, Relaxed);
        let Ok(parts) = request::parts(frame) else { return self.refuse(record, Outcome::BindFailed) };
        let received_ns = self.shared.clock.now_ns();
        record.sent_ns = Some(received_ns);
        let mut body = self.body();
        body.take(&parts.payload);
        let (op, action, sent) = (record.op, record.action, self.sent(&record, parts));
        self.tell(Told::Sent(record));
        self.tell(Told::Answered { op, action, failed: None, headers: HeaderMap::new(), body, sent, received_ns, phases: None });
    }

    pub(super) fn refuse(&self, record: SentRecord, outcome: Outcome) {
        self.tell(Told::Refused(SentRecord { outcome: outcome as u8, ..record }));
    }

    /// What was sent, if anybody will ask.
    pub(super) fn sent(&self, record: &SentRecord, parts: Parts) -> Bytes {
        if self.manners[usize::from(record.action)].keeps_sent { parts.payload } else { Bytes::new() }
    }

    /// How long an answer to it is waited for from now on.
    pub(super) fn patience(&self, record: &SentRecord, now_ns: i64) -> Duration {
        let spent = Duration::from_nanos((now_ns - record.intended_ns).max(0) as u64);
        (PATIENCE * self.manners[usize::from(record.action)].timeout).saturating_sub(spent).max(Duration::from_millis(1))
    }

    async fn exchange(
        &self,
        mut turn: Turn,
        (server, session): (&Arc<Server>, u32),
        mut request: Request<Full<Bytes>>,
        phases: &mut Phases,
    ) -> Outcomes<(HeaderMap, Body, Connection)> {
        let mut stale = 0;
        loop {
            let mut connection = match turn {
                Turn::Take(connection) => connection,
                // Apart: most have a connection, and are the smaller for it.
                Turn::Open(permit) => Box::pin(self.open(permit, server, phases)).await?,
            };
            phases.connection = connection.number;
            let began_ns = self.shared.clock.now_ns();
            let sending = connection.sender.send(request);
            let head = match self.options.first_byte_timeout {
                None => sending.await,
                Some(limit) => {
                    let late = |_| failure("first_byte_timeout", &format!("nothing was answered in {limit:?}"));
                    timeout(limit, Box::pin(sending)).await.map_err(late)?
                }
            };
            match head {
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
        let (number, wire) = self.connect(server, true, phases).await?;
        let sender = if self.options.http2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await.map_err(|e| broken(&e))?;
            tokio::spawn(driver);
            Sender::Http2(sender)
        } else {
            let (sender, driver) = http1::handshake(TokioIo::new(wire)).await.map_err(|e| broken(&e))?;
            // It ends with the connection; what went wrong shows in the exchange.
            tokio::spawn(driver);
            Sender::Http1(sender)
        };
        Ok(Connection::new(sender, number, permit))
    }

    /// A connection, for requests or for a WebSocket, and its number.
    pub(super) async fn connect(&self, server: &Server, for_requests: bool, phases: &mut Phases) -> Outcomes<(u32, Box<dyn Wire>)> {
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
            return Ok((number, Box::new(tcp)));
        }
        let name = ServerName::try_from(server.host.clone()).map_err(|e| failure("tls", &e))?;
        let connector = &self.tls[usize::from(for_requests)];
        let tls = timeout(limit, connector.connect(name, tcp)).await.map_err(late)?.map_err(|e| failure("tls", &e))?;
        phases.tls_ns = Some(lap());
        Ok((number, Box::new(tls)))
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

pub(super) fn no_phases(op: i64) -> Phases {
    Phases { op, connection: 0, dns_ns: None, connect_ns: None, tls_ns: None, first_byte_ns: None, body_ns: None, http_status: 0 }
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
