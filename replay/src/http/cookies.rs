//! Cookies, by session.

use super::place::Server;
use super::request::Parts;
use cookie_store::{CookieStore, RawCookie};
use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderValue, SET_COOKIE};
use std::collections::HashMap;
use std::sync::Mutex;
use url::Url;

/// What each session was given.
#[derive(Default)]
pub(super) struct Jars(Mutex<HashMap<u32, CookieStore>>);

impl Jars {
    /// Adds those of a session that belong to where the request goes.
    pub fn add(&self, session: u32, server: &Server, headers: &mut HeaderMap, parts: &Parts) {
        let jars = self.0.lock().expect("no panic while locked");
        let Some((jar, url)) = jars.get(&session).zip(url(server, parts.path())) else { return };
        let pairs: Vec<String> = jar.get_request_values(&url).map(|(name, value)| format!("{name}={value}")).collect();
        if let (false, Ok(value)) = (pairs.is_empty(), HeaderValue::from_str(&pairs.join("; "))) {
            headers.append(COOKIE, value);
        }
    }

    /// Keeps what a response sets.
    pub fn keep(&self, session: u32, server: &Server, headers: &HeaderMap) {
        let texts = headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        let cookies: Vec<_> = texts.filter_map(|text| RawCookie::parse(text.to_owned()).ok()).collect();
        if let (false, Some(url)) = (cookies.is_empty(), url(server, "/")) {
            let mut jars = self.0.lock().expect("no panic while locked");
            jars.entry(session).or_default().store_response_cookies(cookies.into_iter(), &url);
        }
    }
}

fn url(server: &Server, path: &str) -> Option<Url> {
    let host = if server.host.contains(':') { format!("[{}]", server.host) } else { server.host.clone() };
    Url::parse(&format!("{}://{host}:{}{path}", if server.tls { "https" } else { "http" }, server.port)).ok()
}
