//! Recordings of other tools become schedules.
//!
//! | format | what it is | times |
//! |---|---|---|
//! | `ndjson` | a JSON object a line, with a [`Mapping`] | a field |
//! | `csv` | a header line, with a [`Mapping`] | a column |
//! | `pcap` | packets of the NATS protocol, pcap or pcapng | recorded |
//! | `nats-dump` | the folder of `nats sub --dump` | of the files |
//! | `gor` | GoReplay's request files | recorded |
//! | `har` | HTTP archives of browsers and proxies | recorded |
//! | `vegeta` | vegeta's JSON targets | evenly at a rate |
//!
//! The first four make NATS operations by the way of a capture: ids are found, and made fresh. The others make HTTP operations:
//! `METHOD URL`, headers, body.

mod dump;
mod http;
mod packets;
mod pcap;

pub use dump::nats_dump;
pub use http::{Request, gor, har, vegeta, write_http};
pub use pcap::{Lacking, pcap};

use runlog::Captured;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Which fields of a record make an operation: JSON pointers, or names of columns.
///
/// ```
/// let mapping = capture::import::Mapping::parse("time = \"/ts\"\nsubject = \"/subject\"\npayload = \"/data\"").unwrap();
/// assert_eq!(mapping.time, "/ts");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// When: RFC 3339, or epoch seconds, milliseconds, microseconds or nanoseconds, told apart by their size.
    pub time: String,
    /// Where to.
    pub subject: String,
    /// The body: a text as it is, anything else as JSON.
    #[serde(default)]
    pub payload: Option<String>,
    /// Where answers go, so that requests and answers in one recording find each other.
    #[serde(default)]
    pub reply: Option<String>,
    /// Headers by name.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

impl Mapping {
    /// Reads a mapping.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> Result<Mapping, String> {
        toml::from_str(text).map_err(|e| e.message().trim().replace('\n', "; "))
    }

    fn message(&self, field: &impl Fn(&str) -> Option<Value>) -> Result<Captured, String> {
        let needed = |name: &str| field(name).ok_or_else(|| format!("has no {name}"));
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let time = text(needed(&self.time)?);
        let mut headers = Vec::new();
        for (name, source) in &self.headers {
            let value = text(needed(source)?);
            headers.extend_from_slice(format!("{name}: {}\r\n", value.replace(['\r', '\n'], " ")).as_bytes());
        }
        let headers = if headers.is_empty() { headers } else { [b"NATS/1.0\r\n".as_slice(), &headers, b"\r\n"].concat() };
        Ok(Captured {
            t_ns: epoch_ns(&time).ok_or_else(|| format!("{}: `{time}` is not a time", self.time))?,
            subject: text(needed(&self.subject)?).into_bytes(),
            reply: self.reply.as_deref().and_then(field).map(text).unwrap_or_default().into_bytes(),
            headers,
            payload: self.payload.as_deref().map(needed).transpose()?.map(text).unwrap_or_default().into_bytes(),
        })
    }
}

/// RFC 3339, or a number of seconds, milliseconds, microseconds or nanoseconds since 1970.
fn epoch_ns(text: &str) -> Option<i64> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return at.unix_timestamp_nanos().try_into().ok();
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    // Seconds have 10 digits from 2001 to 2286.
    let unit: i64 = match whole.unsigned_abs() {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    let digits: f64 = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().ok()? };
    whole.checked_mul(unit)?.checked_add((digits * unit as f64) as i64)
}

/// Messages of a file of JSON lines, in the order of their times.
///
/// # Errors
/// A sentence with the line that does not fit.
pub fn ndjson(text: &str, mapping: &Mapping) -> Result<Vec<Captured>, String> {
    let mut all = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = |what: String| format!("line {}: {what}", i + 1);
        let record: Value = serde_json::from_str(line).map_err(|e| at(format!("is no JSON ({e})")))?;
        all.push(mapping.message(&|pointer| record.pointer(pointer).cloned()).map_err(at)?);
    }
    all.sort_by_key(|message| message.t_ns);
    Ok(all)
}

/// Messages of a CSV file, in the order of their times.
///
/// # Errors
/// A sentence: a column that is not there, the line that does not fit.
pub fn csv(bytes: &[u8], mapping: &Mapping) -> Result<Vec<Captured>, String> {
    let mut reader = ::csv::Reader::from_reader(bytes);
    let columns: Vec<String> = reader.headers().map_err(|e| e.to_string())?.iter().map(str::to_owned).collect();
    let named = [Some(&mapping.time), Some(&mapping.subject), mapping.payload.as_ref(), mapping.reply.as_ref()];
    for name in named.into_iter().flatten().chain(mapping.headers.values()) {
        if !columns.contains(name) {
            return Err(format!("the mapping names the column `{name}`; there are {}", columns.join(", ")));
        }
    }
    let mut all = Vec::new();
    for (i, record) in reader.records().enumerate() {
        let at = |what: String| format!("line {}: {what}", i + 2);
        let record = record.map_err(|e| at(e.to_string()))?;
        let field = |name: &str| record.get(columns.iter().position(|c| c == name)?).map(|text| Value::String(text.into()));
        all.push(mapping.message(&field).map_err(at)?);
    }
    all.sort_by_key(|message| message.t_ns);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    #[test]
    fn times_are_told_apart_by_their_size() {
        for text in ["2026-07-01T09:00:00.123Z", "1782896400.123", "1782896400123", "1782896400123000", "1782896400123000000"] {
            assert!((epoch_ns(text).unwrap() - 1_782_896_400_123_000_000).abs() < 1_000, "{text}");
        }
        assert_eq!((epoch_ns("yesterday"), epoch_ns(""), epoch_ns("1.x")), (None, None, None));
        assert_eq!(epoch_ns("-9223372036854775808"), Some(i64::MIN));
    }

    #[test]
    fn lines_and_rows_become_messages() {
        let mapping = Mapping::parse("time = \"/ts\"\nsubject = \"/s\"\npayload = \"/d\"\nheaders = { K = \"/k\" }").unwrap();
        let text = "{\"ts\":1782896401000,\"s\":\"a.b\",\"d\":{\"x\":1},\"k\":\"v\"}\n\n{\"ts\":1782896400000,\"s\":\"a.c\",\"d\":\"hi\",\"k\":\"w\"}\n";
        let all = ndjson(text, &mapping).unwrap();
        assert_eq!(
            (all[0].subject.as_slice(), all[0].payload.as_slice(), all[1].payload.as_slice()),
            (&b"a.c"[..], &b"hi"[..], &b"{\"x\":1}"[..])
        );
        assert_eq!(all[1].headers, b"NATS/1.0\r\nK: v\r\n\r\n");
        assert!(ndjson("{\"ts\":1}", &mapping).unwrap_err().contains("line 1: has no /k"));
        let columns = Mapping::parse("time = \"t\"\nsubject = \"s\"\npayload = \"p\"").unwrap();
        assert_eq!(csv(b"t,s,p\n1782896400,a.b,hi\n", &columns).unwrap()[0].payload, b"hi");
        assert_eq!(csv(b"time,s,p\n", &columns).unwrap_err(), "the mapping names the column `t`; there are time, s, p");
        assert!(csv(b"t,s,p\nnoon,a,b\n", &columns).unwrap_err().contains("line 2: t: `noon` is not a time"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
            let mapping = Mapping::parse("time = \"t\"\nsubject = \"s\"").unwrap();
            let _ = (ndjson(&text, &mapping), csv(&bytes, &mapping));
        }
    }
}
