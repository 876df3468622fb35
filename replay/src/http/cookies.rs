//! Cookies, by session.

use super::place::Server;
use cookie_store::{CookieStore, RawCookie};
use hyper::header::{COOKIE, HeaderValue, SET_COOKIE};
use hyper::{HeaderMap, Request};
use std::collections::HashMap;
use std::sync::Mutex;
use url::Url;

/// What each session was given.
#[derive(Default)]
pub(super) struct Jars(Mutex<HashMap<u32, CookieStore>>);

impl Jars {
    /// Adds those of a session that belong to where the request goes; by that URL those of its response are kept.
    pub fn add<B>(&self, session: u32, server: &Server, request: &mut Request<B>) -> Option<Url> {
        let url = url(server, request.uri().path())?;
        let jars = self.0.lock().expect("no panic while locked");
        let known = jars.get(&session).into_iter().flat_map(|jar| jar.get_request_values(&url));
        let pairs: Vec<String> = known.map(|(name, value)| format!("{name}={value}")).collect();
        if let (false, Ok(value)) = (pairs.is_empty(), HeaderValue::from_str(&pairs.join("; "))) {
            request.headers_mut().append(COOKIE, value);
        }
        drop(jars);
        Some(url)
    }

    /// Keeps what the response of a URL sets.
    pub fn keep(&self, session: u32, url: &Url, headers: &HeaderMap) {
        let texts = headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        let cookies: Vec<_> = texts.filter_map(|text| RawCookie::parse(text.to_owned()).ok()).collect();
        if !cookies.is_empty() {
            let mut jars = self.0.lock().expect("no panic while locked");
            jars.entry(session).or_default().store_response_cookies(cookies.into_iter(), url);
        }
    }
}

fn url(server: &Server, path: &str) -> Option<Url> {
    let host = if server.host.contains(':') { format!("[{}]", server.host) } else { server.host.clone() };
    Url::parse(&format!("{}://{host}:{}{path}", if server.tls { "https" } else { "http" }, server.port)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_goes_where_it_belongs() {
        let jars = Jars::default();
        let server = Server { tls: false, host: "a.test".into(), port: 8080 };
        let asked = |session: u32, path: &str| {
            let mut request = Request::builder().uri(path).body(()).unwrap();
            let url = jars.add(session, &server, &mut request).unwrap();
            (url, request.headers().get(COOKIE).map(|value| value.to_str().unwrap().to_owned()))
        };
        let (url, none) = asked(1, "/api/login?user=ann");
        assert_eq!((url.as_str(), none), ("http://a.test:8080/api/login", None));
        let set = ["a=1", "b=2; Path=/", "c=3; Path=/else", "d=4; Secure"].map(|cookie| (SET_COOKIE, HeaderValue::from_static(cookie)));
        jars.keep(1, &url, &set.into_iter().collect());
        let cookies = |session, path| {
            let mut given: Vec<String> = asked(session, path).1.unwrap_or_default().split("; ").map(str::to_owned).collect();
            given.sort();
            given.join(" ")
        };
        assert_eq!(cookies(1, "/api/search"), "a=1 b=2", "a path that is not said is that of the request");
        assert_eq!(cookies(1, "/"), "b=2");
        assert_eq!(cookies(1, "/else?x"), "b=2 c=3");
        assert_eq!(cookies(2, "/api/search"), "", "they are another session's");
    }
}
