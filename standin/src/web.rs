//! Stand-ins over HTTP: a search gateway and a market service, with faults to order and a ledger of them.
//!
//! What befalls a request depends on (seed, number of the request on its route) alone.

mod gateway;
mod market;

use crate::ledger::{Injected, Ledger};
use crate::{Error, ServiceTime, chance};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures::stream;
use schedule::units;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// A search over workers, and playbooks that it learns from.
    Gateway,
    /// Market data, by request and by WebSocket.
    Market,
}

impl FromStr for Service {
    type Err = String;
    fn from_str(text: &str) -> Result<Service, String> {
        match text {
            "gateway" => Ok(Service::Gateway),
            "market" => Ok(Service::Market),
            _ => Err(format!("`{text}` is no service over HTTP; there are gateway and market")),
        }
    }
}

/// How a stand-in over HTTP behaves.
#[derive(Debug, Clone)]
pub struct WebConfig {
    /// Seed of faults and service times.
    pub seed: u64,
    /// What a request takes.
    pub service: ServiceTime,
    /// Things that go wrong.
    pub faults: Vec<WebFault>,
    /// Where to write what was injected.
    pub ledger: Option<PathBuf>,
    /// Requests in any second, at most; more are answered 429.
    pub rate_limit: Option<u64>,
    /// Who has not this bearer token is answered 401.
    pub token: Option<String>,
    /// Between the pushes over a WebSocket.
    pub push_every: Duration,
    /// Those whom the gateway finds.
    pub workers: Option<schedule::Table>,
}

impl Default for WebConfig {
    fn default() -> WebConfig {
        WebConfig {
            seed: 42,
            service: ServiceTime::None,
            faults: Vec::new(),
            ledger: None,
            rate_limit: None,
            token: None,
            push_every: Duration::from_millis(200),
            workers: None,
        }
    }
}

/// Kinds of faults over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebFaultKind {
    /// The status is another.
    Error,
    /// The response comes later.
    Late,
    /// The connection ends without a response.
    Drop,
    /// The content is not what it should be: of a search, what was excluded or a stranger; of quotes, none.
    Wrong,
    /// A push is larger than a megabyte.
    Big,
    /// The WebSocket ends.
    Disconnect,
    /// Records fail while more than so many are under way.
    Overload,
    /// Everything stands still.
    Stall,
}

impl WebFaultKind {
    const ALL: [WebFaultKind; 8] = [
        WebFaultKind::Error,
        WebFaultKind::Late,
        WebFaultKind::Drop,
        WebFaultKind::Wrong,
        WebFaultKind::Big,
        WebFaultKind::Disconnect,
        WebFaultKind::Overload,
        WebFaultKind::Stall,
    ];

    /// Its name in flags and in the ledger.
    pub fn name(self) -> &'static str {
        ["error", "late", "drop", "wrong", "big", "disconnect", "overload", "stall"][self as usize]
    }
}

/// Something that goes wrong: `error@search=1%:503`, `late=1%:300ms`, `drop=1%`, `wrong@search=1%`, `big@stream=1%`, `disconnect=1%` (of
/// pushes), `overload=8`, `stall=5s:2s` (5 s after the first request, for 2 s).
///
/// ```
/// let fault: standin::WebFault = "error@search=1%:503".parse().unwrap();
/// assert_eq!((fault.route.as_deref(), fault.status), (Some("search"), 503));
/// assert!("eror=1%".parse::<standin::WebFault>().unwrap_err().contains("is not a fault over HTTP"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct WebFault {
    /// What.
    pub kind: WebFaultKind,
    /// Only there.
    pub route: Option<String>,
    /// To which share.
    pub probability: f64,
    /// Of an error.
    pub status: u16,
    /// How much later; of a stall, how long.
    pub delay: Duration,
    /// Of a stall, when after the first request.
    pub after: Duration,
    /// Of an overload, how many may be under way.
    pub most: u64,
}

impl FromStr for WebFault {
    type Err = String;
    fn from_str(text: &str) -> Result<WebFault, String> {
        let bad = || {
            let kinds = WebFaultKind::ALL.map(WebFaultKind::name).join(", ");
            format!("`{text}` is not a fault over HTTP; write error@search=1%:503, late=1%:300ms or stall=5s:2s; there are {kinds}")
        };
        let time = |text: &str| units::parse_duration_ns(text).map(|ns| Duration::from_nanos(ns as u64));
        let (name, value) = text.split_once('=').ok_or_else(bad)?;
        let (name, route) = name.split_once('@').map_or((name, None), |(name, route)| (name, Some(route.to_owned())));
        let kind = WebFaultKind::ALL.into_iter().find(|k| k.name() == name).ok_or_else(bad)?;
        let plain = WebFault { kind, route, probability: 1.0, status: 503, delay: Duration::ZERO, after: Duration::ZERO, most: 0 };
        Ok(match (kind, &value.split(':').collect::<Vec<_>>()[..]) {
            (WebFaultKind::Stall, [after, length]) => WebFault { after: time(after)?, delay: time(length)?, ..plain },
            (WebFaultKind::Overload, [most]) => WebFault { most: most.parse().map_err(|_| bad())?, ..plain },
            (WebFaultKind::Late, [share, delay]) => WebFault { probability: units::parse_fraction(share)?, delay: time(delay)?, ..plain },
            (WebFaultKind::Error, [share, status]) => {
                let status = status.parse().ok().filter(|s| (400..600).contains(s)).ok_or_else(bad)?;
                WebFault { probability: units::parse_fraction(share)?, status, ..plain }
            }
            (WebFaultKind::Stall | WebFaultKind::Overload | WebFaultKind::Late, _) => return Err(bad()),
            (_, [share]) => WebFault { probability: units::parse_fraction(share)?, ..plain },
            _ => return Err(bad()),
        })
    }
}

/// A request of the gateway, what it was answered, and when.
#[derive(Debug, Clone)]
pub struct Heard {
    /// `search` or `record`.
    pub route: &'static str,
    /// Its body.
    pub body: serde_json::Value,
    /// The answer; null if it was one of error.
    pub answer: serde_json::Value,
    /// When it came, and when it was answered.
    pub during: (Instant, Instant),
}

/// Requests that are remembered, at most.
const HEARD_MAX: usize = 100_000;

/// A running stand-in over HTTP; it stops when dropped.
pub struct WebStandin {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What all routes share.
struct Shared {
    config: WebConfig,
    ledger: Ledger,
    requests: Mutex<std::collections::HashMap<&'static str, u64>>,
    began: std::sync::OnceLock<Instant>,
    /// The second under way, and how many requests it had.
    second: Mutex<(u64, u64)>,
    served: AtomicU64,
    gateway: gateway::Gateway,
    heard: Mutex<Vec<Heard>>,
}

impl WebStandin {
    /// Listens at an address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`Error::Listen`] or [`Error::Ledger`].
    pub async fn start(service: Service, address: SocketAddr, config: WebConfig) -> Result<WebStandin, Error> {
        let listen = |source| Error::Listen { address, source };
        let ledger = Ledger::create(config.ledger.as_deref())?;
        let listener = tokio::net::TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let shared = Arc::new(Shared {
            gateway: gateway::Gateway::new(config.workers.as_ref()),
            config,
            ledger,
            requests: Mutex::default(),
            began: Default::default(),
            second: Mutex::default(),
            served: AtomicU64::new(0),
            heard: Mutex::default(),
        });
        let routes: Router<Arc<Shared>> = match service {
            Service::Gateway => gateway::routes(),
            Service::Market => market::routes(),
        };
        let app = routes.layer(from_fn_with_state(shared.clone(), admitted)).with_state(shared.clone());
        // It ends with the task.
        let task = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Ok(WebStandin { address, shared, task })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was injected so far.
    pub fn injected(&self) -> Vec<Injected> {
        self.shared.ledger.injected()
    }

    /// How many requests a route had; `push` counts what was pushed.
    ///
    /// # Panics
    /// If a handler did.
    pub fn requests(&self, route: &str) -> u64 {
        self.shared.requests.lock().expect("no panic while locked").get(route).copied().unwrap_or(0)
    }

    /// The first requests of the gateway, in the order in which they were answered.
    ///
    /// # Panics
    /// If a handler did.
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().expect("no panic while locked").clone()
    }

    /// Requests that were served, whatever the answer.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Relaxed)
    }
}

impl Drop for WebStandin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Rate limit and token, before any route.
async fn admitted(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    shared.served.fetch_add(1, Relaxed);
    let began = *shared.began.get_or_init(Instant::now);
    if let Some(token) = &shared.config.token {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if given != Some(token.as_str()) {
            return refusal(StatusCode::UNAUTHORIZED, "unauthenticated");
        }
    }
    if let Some(most) = shared.config.rate_limit {
        let now = began.elapsed().as_secs();
        let mut second = shared.second.lock().expect("no panic while locked");
        *second = if second.0 == now { (now, second.1 + 1) } else { (now, 1) };
        if second.1 > most {
            shared.ledger.record("rate_limit", "any", second.1, "");
            return refusal(StatusCode::TOO_MANY_REQUESTS, "too_many_requests");
        }
    }
    next.run(request).await
}

fn refusal(status: StatusCode, code: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!(r#"{{"error":{{"code":"{code}"}}}}"#)).into_response()
}

fn json(value: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

impl Shared {
    /// The number of a request on its route, from 1.
    fn number(&self, route: &'static str) -> u64 {
        let mut requests = self.requests.lock().expect("no panic while locked");
        let n = requests.entry(route).or_default();
        *n += 1;
        *n
    }

    fn hear(&self, route: &'static str, body: &[u8], began: Instant, answer: &serde_json::Value) {
        let mut heard = self.heard.lock().expect("no panic while locked");
        if heard.len() < HEARD_MAX {
            let body = serde_json::from_slice(body).unwrap_or_default();
            heard.push(Heard { route, body, answer: answer.clone(), during: (began, Instant::now()) });
        }
    }

    /// The fault of a kind that befalls something; it is in the ledger then.
    fn strikes(&self, kind: WebFaultKind, route: &'static str, number: u64) -> Option<&WebFault> {
        let there = |fault: &WebFault| fault.kind == kind && fault.route.as_deref().is_none_or(|at| at == route);
        let strikes =
            |i: usize, f: &WebFault| chance::unit(self.config.seed, number, &format!("{} {route} {i}", kind.name())) <= f.probability;
        let mut faults = self.config.faults.iter().enumerate().filter(|(_, fault)| there(fault));
        let fault = faults.find(|(i, fault)| strikes(*i, fault)).map(|(_, fault)| fault);
        if fault.is_some() {
            self.ledger.record(kind.name(), route, number, "");
        }
        fault
    }

    /// What comes before the work on a request: stalls, service time, what is to go wrong with it; its number, if it is to be worked on.
    async fn before(&self, route: &'static str) -> Result<u64, Response> {
        let number = self.number(route);
        for stall in self.config.faults.iter().filter(|fault| fault.kind == WebFaultKind::Stall) {
            let from = *self.began.get_or_init(Instant::now) + stall.after;
            if (from..from + stall.delay).contains(&Instant::now()) {
                tokio::time::sleep_until(from + stall.delay).await;
                self.ledger.record("stall", route, number, "");
            }
        }
        let service = self.config.service.draw(self.config.seed, number, route);
        // A sleep of nothing is one of a millisecond.
        if !service.is_zero() {
            tokio::time::sleep(service).await;
        }
        if let Some(late) = self.strikes(WebFaultKind::Late, route, number) {
            tokio::time::sleep(late.delay).await;
        }
        if self.strikes(WebFaultKind::Drop, route, number).is_some() {
            // The head goes out, and the body breaks: the connection cannot be used again.
            let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("dropped"))]);
            return Err(Body::from_stream(broken).into_response());
        }
        match self.strikes(WebFaultKind::Error, route, number) {
            Some(fault) => Err(refusal(StatusCode::from_u16(fault.status).expect("checked"), "injected")),
            None => Ok(number),
        }
    }
}

/// The values of a query string, as they stand there.
fn asked<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

/// A header as text.
fn header_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
