//! An operation over HTTP or a WebSocket: its target, headers, a body. Between the loader and an exchange it is a frame of its own.

use super::HttpOptions;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::{Method, Request, Uri, Version};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use wire::Offsets;

/// Headers that belong to a connection, which is ours.
const OF_A_CONNECTION: [HeaderName; 3] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub tls: bool,
    pub host: String,
    pub port: u16,
}

impl Server {
    fn of(scheme: &str, authority: &Authority) -> Server {
        let tls = matches!(scheme, "https" | "wss");
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Server { tls, host, port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }) }
    }
}

/// The server part of a target, `http://127.0.0.1:8080`; empty if it names none. What goes over a WebSocket that is open needs none.
///
/// # Errors
/// A sentence: it is not what its transport wants.
pub(crate) fn server<'a>(transport: &str, target: &'a str) -> Result<&'a str, String> {
    let bad = || match transport {
        "websocket" => format!("`{target}` is none of OPEN URL, like OPEN ws://127.0.0.1:8080/, SEND and CLOSE"),
        _ => format!("`{target}` is not METHOD URL, like GET http://127.0.0.1:8080/"),
    };
    match transport {
        "local" => return Ok(""),
        "websocket" if matches!(target, "SEND" | "CLOSE") => return Ok(""),
        _ => {}
    }
    let (method, url) = target.split_once(' ').ok_or_else(bad)?;
    if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) || (transport == "websocket" && method != "OPEN") {
        return Err(bad());
    }
    if url.starts_with('/') {
        return Ok("");
    }
    let schemes = if transport == "websocket" { ["ws://", "wss://"] } else { ["http://", "https://"] };
    let after = schemes.into_iter().find_map(|scheme| url.strip_prefix(scheme)).ok_or_else(bad)?;
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    if end == 0 { Err(bad()) } else { Ok(&url[..url.len() - after.len() + end]) }
}

/// Appends the frame of a request, and says where its parts begin.
pub(crate) fn encode<'a>(
    out: &mut Vec<u8>,
    target: &str,
    headers: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    payload: &[u8],
    at: &mut Offsets,
) {
    let number = |out: &mut Vec<u8>, n: usize| out.extend_from_slice(&(n as u32).to_le_bytes());
    number(out, target.len());
    at.subject = out.len();
    out.extend_from_slice(target.as_bytes());
    number(out, headers.len());
    at.header_values.clear();
    for (name, value) in headers {
        number(out, name.len());
        out.extend_from_slice(name.as_bytes());
        number(out, value.len());
        at.header_values.push(out.len());
        out.extend_from_slice(value.as_bytes());
    }
    at.payload = out.len();
    out.extend_from_slice(payload);
}

/// What a frame holds.
pub(super) struct Parts {
    /// Method and URL.
    target: String,
    headers: Vec<(String, String)>,
    pub payload: Bytes,
}

impl Parts {
    fn split(&self) -> (&str, &str) {
        self.target.split_once(' ').unwrap_or((&self.target, ""))
    }

    /// The first word of its target.
    pub fn method(&self) -> &str {
        self.split().0
    }

    /// The path of its URL, as it stands there.
    pub fn path(&self) -> &str {
        let url = self.split().1;
        let after = url.split_once("://").map_or(url, |(_, after)| after);
        after.find('/').map_or("/", |at| &after[at..])
    }
}

/// Takes a frame apart.
///
/// # Errors
/// A sentence: values that were bound are no text.
pub(super) fn parts(frame: &Bytes) -> Result<Parts, String> {
    let mut at = 0;
    let number = |at: &mut usize| -> Option<usize> {
        let (length, _) = frame.get(*at..)?.split_first_chunk::<4>()?;
        *at += 4;
        Some(u32::from_le_bytes(*length) as usize)
    };
    let text = |at: &mut usize| -> Option<String> {
        let length = number(at)?;
        let text = frame.get(*at..*at + length)?;
        *at += length;
        String::from_utf8(text.to_vec()).ok()
    };
    let target = text(&mut at).ok_or("has no target in UTF-8")?;
    let count = frame.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or("has no headers")?;
    at += 4;
    let mut headers = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        headers.push(text(&mut at).zip(text(&mut at)).ok_or("has a header that is not UTF-8")?);
    }
    Ok(Parts { target, headers, payload: frame.slice(at..) })
}

/// The request that they make, and where it goes.
///
/// # Errors
/// A sentence: values that were bound make no URL, or no header.
pub(super) fn request(parts: &Parts, options: &HttpOptions) -> Result<(Server, Request<Full<Bytes>>), String> {
    let (method, url) = parts.split();
    let (server, uri) = address(url, options)?;
    let mut request = Request::new(Full::new(parts.payload.clone()));
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|e| format!("{method}: {e}"))?;
    headers(request.headers_mut(), parts, &uri, options)?;
    if options.http2 {
        // It says so in its first headers.
        request.headers_mut().remove(HOST);
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = uri;
    } else {
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = path(&uri).parse().map_err(|e| format!("{uri}: {e}"))?;
    }
    Ok((server, request))
}

/// The request by which a WebSocket is opened, and where it goes.
///
/// # Errors
/// As [`request`].
pub(super) fn upgrade(parts: &Parts, options: &HttpOptions) -> Result<(Server, Request<()>), String> {
    let (server, uri) = address(parts.split().1, options)?;
    let mut request = Request::new(());
    headers(request.headers_mut(), parts, &uri, options)?;
    let ours =
        [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", &generate_key())];
    for (name, value) in ours {
        request.headers_mut().insert(name, HeaderValue::from_str(value).map_err(|e| e.to_string())?);
    }
    let authority = uri.authority().expect("an address has one");
    let url = format!("{}://{authority}{}", if server.tls { "wss" } else { "ws" }, path(&uri));
    *request.uri_mut() = url.parse().map_err(|e| format!("{url}: {e}"))?;
    Ok((server, request))
}

fn path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

/// Those of an op and those of all, and the host.
fn headers(into: &mut HeaderMap, parts: &Parts, uri: &Uri, options: &HttpOptions) -> Result<(), String> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", parts.target);
    let host = uri.authority().expect("an address has one").as_str();
    into.insert(HOST, HeaderValue::from_str(host).map_err(|e| wrong(&e))?);
    for (name, value) in &parts.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| wrong(&e))?;
        let value = HeaderValue::from_str(value).map_err(|e| wrong(&e))?;
        match () {
            () if OF_A_CONNECTION.contains(&name) => {}
            // A server that was chosen for all has a name of its own.
            () if name == HOST && options.base_url.is_some() => {}
            () if name == HOST => drop(into.insert(HOST, value)),
            () => drop(into.append(name, value)),
        }
    }
    for (name, value) in &options.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| wrong(&e))?;
        into.insert(name, HeaderValue::from_str(value).map_err(|e| wrong(&e))?);
    }
    Ok(())
}

/// Where a URL goes with these options.
pub(super) fn address(url: &str, options: &HttpOptions) -> Result<(Server, Uri), String> {
    let wrong = |url: &str, e: &dyn std::fmt::Display| format!("`{url}` is no URL: {e}");
    let url = url.split('#').next().unwrap_or_default();
    let whole = match &options.base_url {
        Some(base) => {
            let path = if url.starts_with('/') {
                url
            } else {
                let after = url.split_once("://").map_or(url, |(_, after)| after);
                after.find(['/', '?']).map_or("/", |at| &after[at..])
            };
            format!("{}{}{path}", base.trim_end_matches('/'), if path.starts_with('/') { "" } else { "/" })
        }
        None => url.to_owned(),
    };
    let uri: Uri = whole.parse().map_err(|e| wrong(&whole, &e))?;
    match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) if matches!(scheme.as_str(), "http" | "https" | "ws" | "wss") => {
            let server = Server::of(scheme.as_str(), authority);
            Ok((server, uri))
        }
        _ => Err(wrong(&whole, &"it names no server; say --base-url")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(target: &str, headers: &[(&str, &str)], options: &HttpOptions) -> Result<(Server, Request<Full<Bytes>>), String> {
        let (mut frame, mut at) = (Vec::new(), Offsets::default());
        encode(&mut frame, target, headers.iter().copied(), b"body", &mut at);
        assert_eq!(&frame[at.payload..], b"body");
        assert!(headers.iter().zip(&at.header_values).all(|((_, value), at)| frame[*at..].starts_with(value.as_bytes())));
        request(&parts(&frame.into())?, options)
    }

    #[test]
    fn a_frame_is_the_request_that_was_meant() {
        let plain = HttpOptions::default();
        let (server, request) = decoded("POST https://a.test/v1/x?q=1#f", &[("A", "b"), ("Content-Length", "9")], &plain).unwrap();
        assert_eq!(server, Server { tls: true, host: "a.test".into(), port: 443 });
        assert_eq!((request.method(), request.uri().to_string(), request.headers().len()), (&Method::POST, "/v1/x?q=1".into(), 2));
        assert_eq!(
            (&request.headers()["a"], &request.headers()[HOST]),
            (&HeaderValue::from_static("b"), &HeaderValue::from_static("a.test"))
        );
        let (_, named) = decoded("GET http://a.test/", &[("Host", "b.test")], &plain).unwrap();
        assert_eq!(named.headers().get_all(HOST).iter().collect::<Vec<_>>(), ["b.test"], "one, as it was recorded");
        let headers = vec![("authorization".into(), "Bearer t".into())];
        let elsewhere = HttpOptions { base_url: Some("http://[::1]:8080/api/".into()), headers, ..plain.clone() };
        for (target, path) in [("GET https://a.test?q=1", "/api/?q=1"), ("GET /v1", "/api/v1"), ("GET https://a.test/v1", "/api/v1")] {
            let (server, request) = decoded(target, &[("Host", "a.test"), ("Authorization", "old")], &elsewhere).unwrap();
            assert_eq!((server.host.as_str(), server.port, server.tls, request.uri().to_string()), ("::1", 8080, false, path.into()));
            assert_eq!(request.headers().get_all("authorization").iter().collect::<Vec<_>>(), ["Bearer t"]);
            assert_eq!(request.headers()[HOST], "[::1]:8080");
        }
        assert!(decoded("GET /v1", &[], &plain).unwrap_err().contains("it names no server; say --base-url"));
        assert!(decoded("GET http://a.test/a b", &[], &plain).unwrap_err().contains("is no URL"));
        assert!(decoded("GET http://a.test/", &[("a b", "c")], &plain).is_err());
    }

    #[test]
    fn a_websocket_begins_as_a_request() {
        let (mut frame, mut at) = (Vec::new(), Offsets::default());
        encode(&mut frame, "OPEN ws://a.test:81/x?y", [("Authorization", "Bearer t")].into_iter(), b"", &mut at);
        let (server, request) = upgrade(&parts(&frame.into()).unwrap(), &HttpOptions::default()).unwrap();
        assert_eq!((server.port, server.tls, request.uri().to_string()), (81, false, "ws://a.test:81/x?y".into()));
        assert_eq!(
            (&request.headers()["upgrade"], &request.headers()["authorization"]),
            (&HeaderValue::from_static("websocket"), &HeaderValue::from_static("Bearer t"))
        );
        let mut frame = Vec::new();
        encode(&mut frame, "OPEN /x", std::iter::empty::<(&str, &str)>(), b"", &mut at);
        let base = HttpOptions { base_url: Some("https://a.test".into()), ..HttpOptions::default() };
        let (server, request) = upgrade(&parts(&frame.into()).unwrap(), &base).unwrap();
        assert_eq!((server.port, server.tls, request.uri().to_string()), (443, true, "wss://a.test/x".into()));
    }

    #[test]
    fn servers_are_told_from_targets() {
        assert_eq!(server("http", "GET http://127.0.0.1:8080/x?y"), Ok("http://127.0.0.1:8080"));
        assert_eq!(server("http", "GET https://a.test?q"), Ok("https://a.test"));
        assert_eq!(server("websocket", "OPEN wss://a.test/x"), Ok("wss://a.test"));
        for (transport, target) in [("http", "GET /x"), ("websocket", "OPEN /x"), ("websocket", "SEND"), ("local", "")] {
            assert_eq!(server(transport, target), Ok(""));
        }
        for wrong in ["get http://a/", "http://a/", "GET ftp://a/", "GET a/b", "GET http:///x", "GET ws://a/"] {
            assert!(server("http", wrong).unwrap_err().contains("is not METHOD URL"), "{wrong}");
        }
        for wrong in ["GET ws://a/", "OPEN http://a/", "OPEN", "send"] {
            assert!(server("websocket", wrong).unwrap_err().contains("is none of OPEN URL"), "{wrong}");
        }
    }
}
