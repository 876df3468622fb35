//! Where a URL goes: the server that it names, and the path there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::{Authority, Parts, PathAndQuery, Scheme};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

const SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];

/// What connections are opened to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub tls: bool,
    pub host: String,
    pub port: u16,
}

/// A server as a URL names it.
#[derive(Debug)]
pub(super) struct Place {
    pub server: Arc<Server>,
    authority: Authority,
    /// The `Host` of requests to it.
    pub host: HeaderValue,
    /// The `Authorization` of requests that say none: that of the user in the URL.
    pub authorization: Option<HeaderValue>,
}

impl Place {
    fn of(origin: &str) -> Result<Place, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("`{origin}` is no URL: {e}");
        let uri: Uri = origin.parse().map_err(|e| wrong(&e))?;
        let known = uri.scheme_str().filter(|scheme| SCHEMES.contains(scheme)).zip(uri.authority());
        let (scheme, authority) = known.ok_or_else(|| wrong(&"it is none of http, https, ws and wss"))?;
        let (user, address) = authority.as_str().rsplit_once('@').map_or((None, authority.as_str()), |(user, at)| (Some(user), at));
        let authority: Authority = address.parse().map_err(|e| wrong(&e))?;
        let tls = matches!(scheme, "https" | "wss");
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let server = Server { tls, host: name, port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }) };
        let host = HeaderValue::from_str(address).map_err(|e| wrong(&e))?;
        Ok(Place { server: Arc::new(server), host, authorization: user.and_then(basic), authority })
    }

    /// A whole URL of this place, for HTTP (`http`) or for WebSockets (`ws`).
    pub fn uri(&self, scheme: &str, path: PathAndQuery) -> Result<Uri, String> {
        let scheme = format!("{scheme}{}", if self.server.tls { "s" } else { "" });
        let mut parts = Parts::default();
        parts.scheme = Some(Scheme::try_from(scheme.as_str()).map_err(|e| e.to_string())?);
        (parts.authority, parts.path_and_query) = (Some(self.authority.clone()), Some(path));
        Uri::from_parts(parts).map_err(|e| e.to_string())
    }
}

/// The places of a run: they are few, and asked for with every request.
pub(super) struct Places {
    /// All go to this one, whatever they name; a path here comes before theirs.
    base_url: Option<String>,
    known: Mutex<HashMap<String, Arc<Place>>>,
}

impl Places {
    pub fn new(base_url: Option<&str>) -> Places {
        Places { base_url: base_url.map(|base| base.trim_end_matches('/').to_owned()), known: Mutex::default() }
    }

    /// Where a URL goes, and the path there: as it stands in the URL, if it can.
    ///
    /// # Errors
    /// A sentence: it is no URL, or names no server.
    pub fn find<'a>(&self, url: &'a str) -> Result<(Arc<Place>, Cow<'a, str>), String> {
        let url = url.split('#').next().unwrap_or_default();
        let (named, path) = split(url);
        let (origin, before) = self.base_url.as_deref().map_or((named, ""), split);
        let path = match (before, path) {
            ("", path) if path.starts_with('/') => Cow::Borrowed(path),
            (before, path) => Cow::Owned(format!("{before}{}{path}", if path.starts_with('/') { "" } else { "/" })),
        };
        let mut known = self.known.lock().expect("no panic while locked");
        if let Some(place) = known.get(origin) {
            return Ok((place.clone(), path));
        }
        if origin.is_empty() {
            return Err(format!("`{url}` is no URL: it names no server; say --base-url"));
        }
        let place = Arc::new(Place::of(origin)?);
        known.insert(origin.to_owned(), place.clone());
        Ok((place, path))
    }
}

/// `name:password` as in a URL, for the Basic scheme of RFC 7617.
fn basic(user: &str) -> Option<HeaderValue> {
    let colon = if user.contains(':') { "" } else { ":" };
    let login: Vec<u8> = percent_decode_str(user).chain(colon.bytes()).collect();
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(login))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A URL, or a list of them by commas, fit to be shown: `***` for users and passwords.
///
/// ```
/// assert_eq!(replay::without_users("http://ann:secret@shop.test/a"), "http://***@shop.test/a");
/// assert_eq!(replay::without_users("--server=nats://t@10.0.0.1,nats://10.0.0.2"), "--server=nats://***@10.0.0.1,nats://10.0.0.2");
/// ```
#[must_use]
pub fn without_users(urls: &str) -> String {
    let shown = |rest: &str| {
        let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        rest[..authority].rfind('@').map_or(rest.to_owned(), |at| format!("***{}", &rest[at..]))
    };
    let mut parts = urls.split("://");
    let before = parts.next().unwrap_or_default().to_owned();
    std::iter::once(before).chain(parts.map(shown)).collect::<Vec<_>>().join("://")
}

/// A URL: the server that it names, `http://127.0.0.1:8080`, empty if it names none; and the rest.
fn split(url: &str) -> (&str, &str) {
    let Some(scheme) = url.find("://").filter(|_| !url.starts_with('/')) else { return ("", url) };
    let after = scheme + 3;
    url.split_at(url[after..].find(['/', '?', '#']).map_or(url.len(), |end| after + end))
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
    let (origin, _) = split(url);
    let name = schemes.into_iter().find_map(|scheme| origin.strip_prefix(scheme)).ok_or_else(bad)?;
    if name.is_empty() { Err(bad()) } else { Ok(origin) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_goes_where_it_says_or_to_the_base() {
        let found = |base: Option<&str>, url: &str| {
            let (place, path) = Places::new(base).find(url)?;
            let Server { tls, host, port } = Server::clone(&place.server);
            Ok::<_, String>((tls, format!("{host} {port} {} {path}", place.host.to_str().unwrap())))
        };
        let cases = [
            (None, "https://a.test/v1/x?q=1#f", true, "a.test 443 a.test /v1/x?q=1"),
            (None, "http://[::1]:81?q", false, "::1 81 [::1]:81 /?q"),
            (None, "ws://a.test", false, "a.test 80 a.test /"),
            (None, "http://127.0.0.1:80@shop.test/", false, "shop.test 80 shop.test /"),
            (Some("http://b.test:8080/api/"), "https://a.test?q=1", false, "b.test 8080 b.test:8080 /api/?q=1"),
            (Some("http://b.test"), "/to?url=http://a.test/", false, "b.test 80 b.test /to?url=http://a.test/"),
            (Some("http://b.test"), "", false, "b.test 80 b.test /"),
        ];
        for (base, url, tls, place) in cases {
            assert_eq!(found(base, url), Ok((tls, place.to_owned())), "{url}");
        }
        for wrong in ["/v1", "a.test", "ftp://a.test/", "http://", "http://a b/", ""] {
            assert!(found(None, wrong).unwrap_err().contains("is no URL"), "{wrong}");
        }
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
