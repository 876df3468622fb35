//! Asking over HTTP, off the hot path: a Prometheus, the server's monitoring port.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::error::Error;
use std::time::Duration;

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

/// What went wrong underneath: `Connection refused`, not `client error (Connect)`.
fn root(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
