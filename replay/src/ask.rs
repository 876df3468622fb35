//! Asking over HTTP, off the hot path: a Prometheus, the server's monitoring port, a container engine.

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::error::Error;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// An answer takes no longer, or it is none.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks, over connections that are kept.
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Http {
    /// Of authorities that the system trusts.
    pub fn new() -> Http {
        let tls = wire::tls_config(&wire::TlsFiles::default()).expect("no files are read");
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Http { client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// The body of what is at `path` of a server; `url` is where it is, `http://127.0.0.1:9090`.
    ///
    /// # Errors
    /// A sentence that begins with `url`.
    pub async fn get(&self, url: &str, path: &str) -> Result<Bytes, String> {
        let uri = format!("{url}{path}").parse().map_err(|e| format!("{url} is no address: {e}"))?;
        let asked = async {
            let response = self.client.get(uri).await.map_err(|e| root(&e))?;
            Ok(response.into_body().collect().await.map_err(|e| root(&e))?.to_bytes())
        };
        let answered = tokio::time::timeout(TIMEOUT, asked).await.map_err(|_| format!("{url} did not answer in 2 s"))?;
        answered.map_err(|e: String| format!("{url}: {e}"))
    }
}

/// The body of what is at `path` of a server on this machine that listens at `socket`.
///
/// # Errors
/// A sentence that begins with the socket.
pub(crate) fn get_local(socket: &Path, path: &str) -> Result<Bytes, String> {
    let asked = async {
        let stream = UnixStream::connect(socket).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| root(&e))?;
        let request = Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
        // It ends when the connection does.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|e| root(&e))?;
        Ok(response.into_body().collect().await.map_err(|e| root(&e))?.to_bytes())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let answered = runtime.block_on(async { tokio::time::timeout(TIMEOUT, asked).await });
    let answered = answered.map_err(|_| format!("{} did not answer in 2 s", socket.display()))?;
    answered.map_err(|e: String| format!("{}: {e}", socket.display()))
}

/// What went wrong underneath: `Connection refused`, not `client error (Connect)`.
fn root(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
