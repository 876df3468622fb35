use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as At, Request, State};
use axum::http::StatusCode;
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get, post};
use futures::{SinkExt, StreamExt, stream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A web server with whatever a client may meet, on a free port of this machine.
pub struct Site {
    address: SocketAddr,
    state: Heard,
    _runtime: Runtime,
}

/// What was asked, and whether everything stands still.
#[derive(Clone)]
struct Heard {
    bodies: Arc<Mutex<Vec<String>>>,
    still: watch::Sender<bool>,
}

impl Default for Site {
    fn default() -> Site {
        Site::new()
    }
}

impl Site {
    /// Starts it.
    ///
    /// # Panics
    /// If there is no port.
    pub fn new() -> Site {
        let runtime = Runtime::new().expect("a runtime");
        let state = Heard { bodies: Arc::default(), still: watch::Sender::new(false) };
        let app = Router::new()
            .route("/echo", any(echo))
            .route("/after/{ms}", get(after))
            .route("/status/{code}", any(async |At(code): At<u16>| StatusCode::from_u16(code).expect("a status")))
            .route("/redirect", get(async || Redirect::to("/echo")))
            .route("/drip", get(async || Body::from_stream(stream::unfold((), drip))))
            .route(
                "/endless",
                get(async || Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1 << 20]))))),
            )
            .route("/cut", get(cut))
            .route("/search", post(search))
            .route("/record", post(echo))
            .route("/cookie", any(cookie))
            .route("/socket", get(async |state: State<Heard>, request: Request| socket(state, 0, request)))
            .route("/socket/after/{ms}", get(async |state: State<Heard>, At(ms): At<u64>, request: Request| socket(state, ms, request)))
            .with_state(state.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("it has one");
        runtime.spawn(async move { axum::serve(listener, app).await });
        Site { address, state, _runtime: runtime }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on nobody is answered, or everybody again.
    pub fn stand_still(&self, still: bool) {
        self.state.still.send_replace(still);
    }

    /// Bodies of what came to `/echo`, `/search` and `/record`, in order, each after its path.
    ///
    /// # Panics
    /// If a handler did.
    pub fn heard(&self) -> Vec<String> {
        self.state.bodies.lock().expect("no panic while locked").clone()
    }
}

impl Heard {
    /// Its number, from 1.
    async fn hear(&self, path: &str, body: &Bytes) -> usize {
        let number = {
            let mut bodies = self.bodies.lock().expect("no panic while locked");
            bodies.push(format!("{path} {}", String::from_utf8_lossy(body)));
            bodies.len()
        };
        // The sender lives as long as we.
        let _ = self.still.subscribe().wait_for(|still| !still).await;
        number
    }
}

async fn echo(State(heard): State<Heard>, uri: axum::http::Uri, body: Bytes) -> Bytes {
    heard.hear(uri.path(), &body).await;
    body
}

async fn after(At(ms): At<u64>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    "{}"
}

/// A byte now and then, for ever.
async fn drip((): ()) -> Option<(Result<Bytes, std::io::Error>, ())> {
    tokio::time::sleep(Duration::from_millis(100)).await;
    Some((Ok(Bytes::from_static(b"x")), ()))
}

/// The connection closes before the body is whole.
async fn cut() -> Response {
    let body = stream::iter([Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("cut"))]);
    Body::from_stream(body).into_response()
}

/// A cookie for who has none; who has one is told it. A WebSocket is opened with or without.
async fn cookie(State(heard): State<Heard>, request: Request) -> Response {
    let given = request.headers().get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned();
    if request.headers().contains_key(header::UPGRADE) {
        heard.hear("/cookie/socket", &Bytes::from(given)).await;
        return socket(State(heard), 0, request);
    }
    let number = heard.hear("/cookie", &Bytes::from(given.clone())).await;
    if given == "none" {
        ([(header::SET_COOKIE, format!("session=s{number}; Path=/"))], given).into_response()
    } else {
        given.into_response()
    }
}

/// A WebSocket on which everything comes back, after a while.
fn socket(State(heard): State<Heard>, ms: u64, mut request: Request) -> Response {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else { return StatusCode::UPGRADE_REQUIRED.into_response() };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let socket: WebSocketStream<TokioIo<Upgraded>> = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        let (mut sink, mut stream) = socket.split();
        let (back, mut coming) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(message) = coming.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        });
        while let Some(Ok(message)) = stream.next().await {
            if !message.is_text() {
                continue;
            }
            let (heard, back) = (heard.clone(), back.clone());
            tokio::spawn(async move {
                heard.hear("/socket", &Bytes::from(message.to_text().unwrap_or_default().to_owned())).await;
                tokio::time::sleep(Duration::from_millis(ms)).await;
                // Whoever has gone is told nothing.
                let _ = back.send(message);
            });
        }
    });
    let headers = [
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".into()),
        (header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes())),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// An id for everyone who asks.
async fn search(State(heard): State<Heard>, body: Bytes) -> String {
    let n = heard.hear("/search", &body).await;
    format!(r#"{{"results":[{{"id":"found-{n}"}}]}}"#)
}
