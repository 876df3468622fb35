//! An HTTP operation: `METHOD URL` as its target, headers, a body. Between the loader and an exchange it is a frame of its own.

use super::HttpOptions;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Uri, Version};
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
    fn of(scheme: &Scheme, authority: &Authority) -> Server {
        let tls = *scheme == Scheme::HTTPS;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Server { tls, host, port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }) }
    }
}

/// The server part of a target, `http://127.0.0.1:8080`; empty if it names none.
///
/// # Errors
/// A sentence: it is not `METHOD URL`.
pub(crate) fn server(target: &str) -> Result<&str, String> {
    let bad = || format!("`{target}` is not METHOD URL, like GET http://127.0.0.1:8080/");
    let (method, url) = target.split_once(' ').ok_or_else(bad)?;
    if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(bad());
    }
    if url.starts_with('/') {
        return Ok("");
    }
    let after = ["http://", "https://"].into_iter().find_map(|scheme| url.strip_prefix(scheme)).ok_or_else(bad)?;
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

/// The request of a frame, and where it goes.
///
/// # Errors
/// A sentence: values that were bound make no URL, or no header.
pub(crate) fn decode(mut frame: &[u8], options: &HttpOptions) -> Result<(Server, Request<Full<Bytes>>), String> {
    let mut text = || -> Option<String> {
        let (length, rest) = frame.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        frame = rest;
        String::from_utf8(text.to_vec()).ok()
    };
    let target = text().ok_or("has no target in UTF-8")?;
    let (count, rest) = frame.split_first_chunk::<4>().ok_or("has no headers")?;
    frame = rest;
    let mut headers = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let mut text = || -> Option<String> {
            let (length, rest) = frame.split_first_chunk::<4>()?;
            let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            frame = rest;
            String::from_utf8(text.to_vec()).ok()
        };
        headers.push(text().zip(text()).ok_or("has a header that is not UTF-8")?);
    }
    let (method, url) = target.split_once(' ').ok_or("has no method")?;
    let (server, uri) = address(url, options)?;
    let wrong = |what: &dyn std::fmt::Display| format!("{target}: {what}");
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(frame)));
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|e| wrong(&e))?;
    *request.version_mut() = Version::HTTP_11;
    let host = uri.authority().expect("an address has one").as_str();
    request.headers_mut().insert(HOST, HeaderValue::from_str(host).map_err(|e| wrong(&e))?);
    for (name, value) in &headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| wrong(&e))?;
        let value = HeaderValue::from_str(value).map_err(|e| wrong(&e))?;
        match () {
            () if OF_A_CONNECTION.contains(&name) => {}
            // A server that was chosen for all has a name of its own.
            () if name == HOST && options.base_url.is_some() => {}
            () if name == HOST => drop(request.headers_mut().insert(HOST, value)),
            () => drop(request.headers_mut().append(name, value)),
        }
    }
    for (name, value) in &options.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| wrong(&e))?;
        request.headers_mut().insert(name, HeaderValue::from_str(value).map_err(|e| wrong(&e))?);
    }
    *request.uri_mut() = Uri::from(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    Ok((server, request))
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
        (Some(scheme), Some(authority)) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS => {
            Ok((Server::of(scheme, authority), uri.clone()))
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
        decode(&frame, options)
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
    fn servers_are_told_from_targets() {
        assert_eq!(server("GET http://127.0.0.1:8080/x?y"), Ok("http://127.0.0.1:8080"));
        assert_eq!(server("GET https://a.test?q"), Ok("https://a.test"));
        assert_eq!(server("GET /x"), Ok(""));
        for wrong in ["get http://a/", "http://a/", "GET ftp://a/", "GET a/b", "GET http:///x"] {
            assert!(server(wrong).unwrap_err().contains("is not METHOD URL"), "{wrong}");
        }
    }
}
