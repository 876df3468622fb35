use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as At, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get, post};
use futures::stream;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;

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

/// An id for everyone who asks.
async fn search(State(heard): State<Heard>, body: Bytes) -> String {
    let n = heard.hear("/search", &body).await;
    format!(r#"{{"results":[{{"id":"found-{n}"}}]}}"#)
}
