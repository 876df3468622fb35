//! Requests over HTTP, of other tools.

use super::epoch_ns;
use crate::redact::Redactor;
use crate::{Error, Policy};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runlog::Captured;
use schedule::{Action, Expect, Meta, Operation, Writer};
use serde_json::{Value, json};
use std::path::Path;

/// Between the parts of a GoReplay file.
const GOR_END: &str = "\n🐵🙈🙉\n";
/// A URL, a header, a body longer than this is not taken for one.
const PART_MAX: usize = 64 << 20;

/// A request of a recording over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Offset from the first, ns.
    pub at_ns: i64,
    /// `GET`, …
    pub method: String,
    /// Of GoReplay, only the path and the `Host`.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// Requests of a GoReplay file; responses in it are passed over.
///
/// # Errors
/// A sentence: a record that is cut, or is none.
pub fn gor(text: &[u8]) -> Result<Vec<Request>, String> {
    let mut all = Vec::new();
    let (mut rest, mut record) = (text, 0);
    while !rest.iter().all(u8::is_ascii_whitespace) {
        record += 1;
        let at = |what: &str| format!("record {record}: {what}");
        let end = find(rest, GOR_END.as_bytes()).ok_or_else(|| at("is cut: its end is lacking"))?;
        let (part, after) = (&rest[..end], &rest[end + GOR_END.len()..]);
        rest = after;
        let line = part.iter().position(|b| *b == b'\n').ok_or_else(|| at("has no line of its kind, id and time"))?;
        let head: Vec<&str> = std::str::from_utf8(&part[..line]).map_err(|_| at("begins with no text"))?.split(' ').collect();
        if head.first() != Some(&"1") {
            continue;
        }
        let t_ns: i64 = head.get(2).and_then(|t| t.parse().ok()).ok_or_else(|| at("has no time"))?;
        all.push(Request { at_ns: t_ns, ..http(&part[line + 1..]).ok_or_else(|| at("holds no HTTP request"))? });
    }
    Ok(from_the_first(all))
}

/// A request as it stands on the wire.
fn http(text: &[u8]) -> Option<Request> {
    let end = find(text, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&text[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
    let host = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map_or("", |(_, host)| host);
    let url = if path.starts_with('/') { format!("http://{host}{path}") } else { path };
    let is_method = !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase());
    is_method.then(|| Request { at_ns: 0, method, url, headers, body: text[end + 4..].to_vec() })
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// Requests of an HTTP archive.
///
/// # Errors
/// A sentence: it is none, or an entry has no time.
pub fn har(text: &str) -> Result<Vec<Request>, String> {
    let archive: Value = serde_json::from_str(text).map_err(|e| format!("is no JSON ({e})"))?;
    let entries = archive["log"]["entries"].as_array().ok_or("has no log with entries; is it an HTTP archive?")?;
    let mut all = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let at = |what: &str| format!("entry {}: {what}", i + 1);
        let started = entry["startedDateTime"].as_str().ok_or_else(|| at("has no startedDateTime"))?;
        let request = &entry["request"];
        let text = |name: &str| request[name].as_str().map(str::to_owned).ok_or_else(|| at(&format!("its request has no {name}")));
        let headers = request["headers"].as_array().into_iter().flatten();
        let header = |h: &Value| Some((h["name"].as_str()?.to_owned(), h["value"].as_str()?.to_owned()));
        all.push(Request {
            at_ns: epoch_ns(started).ok_or_else(|| at(&format!("`{started}` is not a time")))?,
            method: text("method")?,
            url: text("url")?,
            // HTTP/2 has pseudo headers, which are no headers.
            headers: headers.filter_map(header).filter(|(name, _)| !name.starts_with(':')).collect(),
            body: request["postData"]["text"].as_str().unwrap_or_default().as_bytes().to_vec(),
        });
    }
    Ok(from_the_first(all))
}

/// vegeta's JSON targets, evenly at a rate.
///
/// # Errors
/// A sentence with the line that is none.
pub fn vegeta(text: &str, rate_per_sec: f64) -> Result<Vec<Request>, String> {
    let mut all = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = |what: &str| format!("line {}: {what}", i + 1);
        let target: Value = serde_json::from_str(line).map_err(|e| at(&format!("is no JSON ({e})")))?;
        let text = |name: &str| target[name].as_str().map(str::to_owned).ok_or_else(|| at(&format!("has no {name}")));
        let body = target["body"].as_str().map(|body| STANDARD.decode(body)).transpose().map_err(|_| at("its body is not base64"))?;
        let headers = target["header"].as_object().into_iter().flatten();
        let values = |(name, values): (&String, &Value)| {
            let values: Vec<Value> = values.as_array().cloned().unwrap_or_default();
            values.iter().filter_map(|value| Some((name.clone(), value.as_str()?.to_owned()))).collect::<Vec<_>>()
        };
        let n = all.len() as f64;
        let request = Request {
            at_ns: (n / rate_per_sec * 1e9) as i64,
            method: text("method")?,
            url: text("url")?,
            headers: Vec::new(),
            body: Vec::new(),
        };
        all.push(Request { headers: headers.flat_map(values).collect(), body: body.unwrap_or_default(), ..request });
    }
    Ok(all)
}

/// In the order of their times, from the first one's.
fn from_the_first(mut all: Vec<Request>) -> Vec<Request> {
    all.sort_by_key(|request| request.at_ns);
    let first = all.first().map_or(0, |request| request.at_ns);
    all.iter_mut().for_each(|request| request.at_ns = request.at_ns.saturating_sub(first));
    all
}

/// Writes requests as a schedule of HTTP operations, without what the policy takes.
///
/// # Errors
/// [`Error`]: there are none, or the file cannot be written.
pub fn write_http(requests: Vec<Request>, policy: Option<Policy>, source: &str, output: &Path) -> Result<Meta, Error> {
    let bad = |what: String| Error::Capture { path: output.to_owned(), what };
    if requests.is_empty() {
        return Err(bad("the recording holds no request".into()));
    }
    let mut redactor = policy.map(Redactor::new);
    let mut actions: Vec<String> = Vec::new();
    let mut writer = Writer::create(output)?;
    let last_ns = requests.last().map_or(0, |request| request.at_ns);
    for request in requests {
        if request.url.len() > PART_MAX || request.body.len() > PART_MAX {
            return Err(bad("a request is larger than 64 MiB".into()));
        }
        let block: String = request.headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        let message = Captured {
            t_ns: 0,
            subject: request.url.into_bytes(),
            reply: Vec::new(),
            headers: format!("HTTP\r\n{block}\r\n").into_bytes(),
            payload: request.body,
        };
        let message = match &mut redactor {
            Some(redactor) => redactor.redact(message),
            None => message,
        };
        let action = request.method.to_ascii_lowercase();
        let number = actions.iter().position(|known| *known == action).unwrap_or_else(|| {
            actions.push(action);
            actions.len() - 1
        });
        let text = String::from_utf8_lossy(&message.headers).into_owned();
        let headers = text.split("\r\n").skip(1).filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned()));
        writer.push(&Operation {
            at_ns: request.at_ns,
            action: number as u16,
            target: format!("{} {}", request.method, String::from_utf8_lossy(&message.subject)),
            headers: headers.collect(),
            payload: message.payload,
            expect: vec![Expect { answer: 0, count: Some(1) }],
            ..Operation::default()
        })?;
    }
    let action = |name: String| Action { name, transport: "http".into(), answers: vec![0], timeout_ns: 30_000_000_000, once: false };
    let response = json!({ "name": "response", "whose": "inbox" });
    let redacted = redactor.map(|redactor| redactor.redacted).unwrap_or_default();
    let name = output.file_stem().map_or_else(|| "import".into(), |stem| stem.to_string_lossy().into_owned());
    let meta = Meta {
        actions: actions.into_iter().map(action).collect(),
        answers: vec![serde_json::from_value(response).expect("a rule")],
        losses: Some(json!({ "redacted": redacted })),
        ..Meta::new(&name, 0, json!({ "imported": source }))
    };
    Ok(writer.finish(meta, last_ns + 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    #[test]
    fn recordings_over_http_become_requests() {
        let record = "1 abc 1782896400000000000 0\nPOST /v1/x?a=b HTTP/1.1\r\nHost: api.local\r\nContent-Length: 2\r\n\r\nhi";
        let later = record.replace("1782896400000000000", "1782896400500000000");
        let text = format!("{later}{GOR_END}2 abc 1 2\nHTTP/1.1 200 OK\r\n\r\n{GOR_END}{record}{GOR_END}");
        let all = gor(text.as_bytes()).unwrap();
        assert_eq!((all.len(), all[1].at_ns, all[0].url.as_str()), (2, 500_000_000, "http://api.local/v1/x?a=b"));
        assert_eq!((all[0].method.as_str(), all[0].body.as_slice()), ("POST", &b"hi"[..]));
        assert_eq!(gor(record.as_bytes()).unwrap_err(), "record 1: is cut: its end is lacking");

        let entry = r#"{"startedDateTime":"2026-07-01T09:00:00Z","request":{"method":"GET","url":"http://h/p","headers":[{"name":":authority","value":"h"},{"name":"A","value":"b"}],"postData":{"text":"x"}}}"#;
        let all = har(&format!(r#"{{"log":{{"entries":[{entry}]}}}}"#)).unwrap();
        assert_eq!((all[0].headers.as_slice(), all[0].body.as_slice()), (&[("A".to_owned(), "b".to_owned())][..], &b"x"[..]));
        assert!(har(r#"{"log":{"entries":[{"request":{}}]}}"#).unwrap_err().contains("entry 1: has no startedDateTime"));

        let all = vegeta("{\"method\":\"GET\",\"url\":\"http://h/1\",\"header\":{\"A\":[\"b\",\"c\"]}}\n{\"method\":\"PUT\",\"url\":\"http://h/2\",\"body\":\"aGk=\"}\n", 2.0).unwrap();
        assert_eq!((all[0].headers.len(), all[1].at_ns, all[1].body.as_slice()), (2, 500_000_000, &b"hi"[..]));
        assert!(vegeta("{\"method\":\"GET\"}", 1.0).unwrap_err().contains("line 1: has no url"));
    }

    #[test]
    fn what_is_imported_is_redacted_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h.parquet");
        let secret = Request {
            at_ns: 0,
            method: "GET".into(),
            url: "http://h/?mail=planted@mail.org".into(),
            headers: vec![("Authorization".into(), "Bearer planted".into()), ("A".into(), "b".into())],
            body: br#"{"password":"planted"}"#.to_vec(),
        };
        let meta = write_http(vec![secret], Some(Policy::default()), "t", &path).unwrap();
        assert_eq!((meta.rows, meta.actions[0].transport.as_str()), (1, "http"));
        let batch = schedule::Reader::open(&path).unwrap().batches().unwrap().next().unwrap().unwrap();
        let op = batch.row(0).to_operation();
        assert!(!format!("{op:?}{}", String::from_utf8_lossy(&op.payload)).contains("planted"), "{op:?}");
        assert!(op.headers.contains(&("A".to_owned(), "b".to_owned())) && op.target.starts_with("GET http://h/?mail="));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
            let _ = (gor(&bytes), har(&text), vegeta(&text, 1.0));
            let _ = gor(&[b"1 a 1\n", bytes.as_slice(), GOR_END.as_bytes()].concat());
        }
    }
}
