//! An operation over HTTP or a WebSocket: its target, headers, a body. Between the loader and an exchange it is a frame of its own.

use super::HttpOptions;
use super::place::{Place, Places, Server};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Uri, Version};
use std::borrow::Cow;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use wire::Offsets;

/// Headers that belong to a connection, which is ours.
const OF_A_CONNECTION: [HeaderName; 3] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];

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
pub(super) struct Parts<'a> {
    frame: &'a Bytes,
    /// Method and URL.
    target: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    pub payload: Bytes,
}

impl Parts<'_> {
    fn split(&self) -> (&str, &str) {
        self.target.split_once(' ').unwrap_or((self.target, ""))
    }

    /// The first word of its target.
    pub fn method(&self) -> &str {
        self.split().0
    }

    /// What stands in the frame, without a copy.
    fn shared(&self, text: &str) -> Bytes {
        self.frame.slice_ref(text.as_bytes())
    }
}

/// Takes a frame apart.
///
/// # Errors
/// A sentence: values that were bound are no text.
pub(super) fn parts(frame: &Bytes) -> Result<Parts<'_>, String> {
    let mut at = 0;
    let number = |at: &mut usize| -> Option<usize> {
        let (length, _) = frame.get(*at..)?.split_first_chunk::<4>()?;
        *at += 4;
        Some(u32::from_le_bytes(*length) as usize)
    };
    let text = |at: &mut usize| -> Option<&str> {
        let length = number(at)?;
        let text = frame.get(*at..*at + length)?;
        *at += length;
        std::str::from_utf8(text).ok()
    };
    let target = text(&mut at).ok_or("has no target in UTF-8")?;
    let count = number(&mut at).ok_or("has no headers")?;
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push(text(&mut at).zip(text(&mut at)).ok_or("has a header that is not UTF-8")?);
    }
    Ok(Parts { frame, target, headers, payload: frame.slice(at..) })
}

/// The request that they make, and where it goes.
///
/// # Errors
/// A sentence: values that were bound make no URL, or no header.
pub(super) fn request(parts: &Parts, places: &Places, options: &HttpOptions) -> Result<(Arc<Server>, Request<Full<Bytes>>), String> {
    let (method, url) = parts.split();
    let (place, path) = address(parts, url, places)?;
    let mut request = Request::new(Full::new(parts.payload.clone()));
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|e| format!("{method}: {e}"))?;
    headers(request.headers_mut(), parts, &place, options)?;
    if options.http2 {
        // It says so in its first headers.
        request.headers_mut().remove(HOST);
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = place.uri("http", path)?;
    } else {
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = Uri::from(path);
    }
    Ok((place.server.clone(), request))
}

/// The request by which a WebSocket is opened, and where it goes.
///
/// # Errors
/// As [`request`].
pub(super) fn upgrade(parts: &Parts, places: &Places, options: &HttpOptions) -> Result<(Arc<Server>, Request<()>), String> {
    let (place, path) = address(parts, parts.split().1, places)?;
    let mut request = Request::new(());
    headers(request.headers_mut(), parts, &place, options)?;
    let ours =
        [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", &generate_key())];
    for (name, value) in ours {
        request.headers_mut().insert(name, HeaderValue::from_str(value).map_err(|e| e.to_string())?);
    }
    *request.uri_mut() = place.uri("ws", path)?;
    Ok((place.server.clone(), request))
}

fn address(parts: &Parts, url: &str, places: &Places) -> Result<(Arc<Place>, PathAndQuery), String> {
    let (place, path) = places.find(url)?;
    let path = match path {
        Cow::Borrowed(path) => PathAndQuery::from_maybe_shared(parts.shared(path)),
        Cow::Owned(path) => PathAndQuery::try_from(path),
    };
    Ok((place, path.map_err(|e| format!("`{url}` is no URL: {e}"))?))
}

/// Those of an op and those of all, the host, and who asks.
fn headers(into: &mut HeaderMap, parts: &Parts, place: &Place, options: &HttpOptions) -> Result<(), String> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", parts.target);
    into.insert(HOST, place.host.clone());
    for (name, value) in &parts.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| wrong(&e))?;
        let value = HeaderValue::from_maybe_shared(parts.shared(value)).map_err(|e| wrong(&e))?;
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
    if let Some(login) = &place.authorization {
        into.entry(AUTHORIZATION).or_insert_with(|| login.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(target: &str, headers: &[(&str, &str)], options: &HttpOptions) -> Result<(Server, Request<Full<Bytes>>), String> {
        let places = Places::new(options.base_url.as_deref());
        let (mut frame, mut at) = (Vec::new(), Offsets::default());
        encode(&mut frame, target, headers.iter().copied(), b"body", &mut at);
        assert_eq!(&frame[at.payload..], b"body");
        assert!(headers.iter().zip(&at.header_values).all(|((_, value), at)| frame[*at..].starts_with(value.as_bytes())));
        let (server, request) = request(&parts(&frame.into())?, &places, options)?;
        Ok((Server::clone(&server), request))
    }

    #[test]
    fn the_user_of_a_url_signs_in_unless_a_header_does() {
        let asks = |target: &str, headers: &[(&str, &str)], options: &HttpOptions| {
            let (_, request) = decoded(target, headers, options).unwrap();
            let said = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            (said(HOST).unwrap(), said(AUTHORIZATION).unwrap_or_default())
        };
        let plain = HttpOptions::default();
        // RFC 7617, section 2.
        let aladdin = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(asks("GET http://Aladdin:open%20sesame@a.test:81/", &[], &plain), ("a.test:81".into(), aladdin.into()));
        assert_eq!(asks("GET http://ann@a.test/", &[], &plain).1, "Basic YW5uOg==", "no password");
        assert_eq!(asks("GET http://ann@a.test/", &[("authorization", "Bearer t")], &plain).1, "Bearer t");
        let base = HttpOptions { base_url: Some("http://Aladdin:open%20sesame@b.test".into()), ..plain.clone() };
        assert_eq!(asks("GET http://ann@a.test/", &[], &base), ("b.test".into(), aladdin.into()));
        let elsewhere = HttpOptions { base_url: Some("http://b.test".into()), ..plain };
        assert_eq!(asks("GET http://ann@a.test/", &[], &elsewhere), ("b.test".into(), String::new()), "nobody of there is told here");
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
        let (server, request) = upgrade(&parts(&frame.into()).unwrap(), &Places::new(None), &HttpOptions::default()).unwrap();
        assert_eq!((server.port, server.tls, request.uri().to_string()), (81, false, "ws://a.test:81/x?y".into()));
        assert_eq!(
            (&request.headers()["upgrade"], &request.headers()["authorization"]),
            (&HeaderValue::from_static("websocket"), &HeaderValue::from_static("Bearer t"))
        );
        let mut frame = Vec::new();
        encode(&mut frame, "OPEN /x", std::iter::empty::<(&str, &str)>(), b"", &mut at);
        let base = Places::new(Some("https://a.test"));
        let (server, request) = upgrade(&parts(&frame.into()).unwrap(), &base, &HttpOptions::default()).unwrap();
        assert_eq!((server.port, server.tls, request.uri().to_string()), (443, true, "wss://a.test/x".into()));
    }
}
