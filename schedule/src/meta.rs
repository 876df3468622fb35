use crate::{Check, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Version of the schedule format that this crate writes.
///
/// History: 1.0, the first; 1.1, `stages` in the metadata; 1.2, `series` in an answer rule, `history` in the metadata;
/// 1.3, `behind` in a stage, `check` in an answer rule, operations over `http`; 1.4, `scenarios` and `known` in the metadata, answers of the
/// kind `push`, `stamp`, operations over `websocket` and `local`.
pub const FORMAT: Format = Format { major: 1, minor: 4 };

/// A format version. A reader refuses only a newer major; a newer minor adds columns or keys it may ignore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// Breaking changes.
    pub major: u32,
    /// Additions.
    pub minor: u32,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// File metadata: one JSON document under the Parquet key [`crate::format::META_KEY`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of the format.
    pub format: Format,
    /// Tool and version that wrote the file.
    pub tool: String,
    /// Name of the workload or capture.
    pub name: String,
    /// Seed of every draw.
    pub seed: u64,
    /// The effective workload: after `--rate`, `--users`, `--seed`. The population is rebuilt from it.
    pub workload: serde_json::Value,
    /// SHA-256 (hex) of every table the workload reads, by path.
    #[serde(default)]
    pub tables: BTreeMap<String, String>,
    /// Actions, by the index in column `action`.
    pub actions: Vec<Action>,
    /// Answer rules, by the index in column `expect`.
    pub answers: Vec<AnswerRule>,
    /// Actions that make up a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scenarios: Vec<Scenario>,
    /// Tables in which checks look things up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub known: BTreeMap<String, Table>,
    /// JetStream streams whose consumers are the target's backlog.
    #[serde(default)]
    pub streams: Vec<String>,
    /// What the target consists of, in the order in which ops pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// Default SLO lines of the workload.
    #[serde(default)]
    pub slo: Vec<String>,
    /// SHA-256 (hex) of what seeding depends on; a store seeded otherwise is refused.
    pub fingerprint: String,
    /// Number of rows.
    pub rows: i64,
    /// Length of one lap, ns.
    pub duration_ns: i64,
    /// rows ÷ duration, operations per second.
    pub nominal_rate_per_sec: f64,
    /// Most operations in any whole second.
    pub peak_rate_per_sec: f64,
    /// What was done to it since: cut, merged, scaled; one entry each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<serde_json::Value>,
    /// For captures: what was lost while recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub losses: Option<serde_json::Value>,
}

/// A part of the target that ops pass through, and where it shows that they wait there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its JetStream consumer, `STREAM/DURABLE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// The stage whose output it works on: it is given no more than that one lets through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// Series, `ACTION/ANSWER`, that it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<String>,
    /// Processes it runs in or depends on, by the names under which they are watched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
}

/// A sequence of actions. Each waits for the answer to one before it; an op of the first begins a run of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// Indexes into the action table, in order.
    pub actions: Vec<u16>,
}

/// A kind of operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// `send`, `mark_read`, …
    pub name: String,
    /// What carries it: `nats`, `http`, `websocket`; `local` is answered by what it would send.
    pub transport: String,
    /// Indexes into the answer table: what an op of this action may cause.
    pub answers: Vec<u8>,
    /// An answer after `intended + timeout` is late; none at all is missing. Nanoseconds.
    pub timeout_ns: i64,
    /// Refuses to loop.
    #[serde(default)]
    pub once: bool,
}

/// Whether an answer comes to the sender or to everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerKind {
    /// To the sender: a NATS reply, a PubAck, a job result.
    Reply,
    /// Fan-out, one copy per recipient.
    Broadcast,
    /// What comes over a WebSocket again and again, unasked. The first answers the op that opened it.
    Push,
}

/// How to find the op that an answer belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Whose {
    /// `inbox`: the reply inbox of the op; over HTTP, its response.
    Inbox,
    /// `token:n`: an id in the n-th subject token, from 0; negative counts from the end.
    Token(i32),
    /// `json:/pointer`: an id at a JSON pointer of the payload.
    Json(String),
    /// `header:name`: an id in a header.
    Header(String),
    /// `socket`: it is of the op that opened the WebSocket over which it came.
    Socket,
    /// `fields:/a,/b`: no id of ours; the values at these pointers make the op's `key`, see [`crate::key_of`].
    Fields(Vec<String>),
}

impl TryFrom<String> for Whose {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("`{text}` is none of inbox, socket, token:N, json:/POINTER, header:NAME, fields:/POINTER,/POINTER");
        if text == "inbox" {
            return Ok(Whose::Inbox);
        }
        if text == "socket" {
            return Ok(Whose::Socket);
        }
        match text.split_once(':').ok_or_else(bad)? {
            ("token", n) => n.parse().map(Whose::Token).map_err(|_| bad()),
            ("json", p) if p.starts_with('/') => Ok(Whose::Json(p.to_owned())),
            ("header", h) if !h.is_empty() => Ok(Whose::Header(h.to_owned())),
            ("fields", list) if list.split(',').all(|p| p.starts_with('/')) => {
                Ok(Whose::Fields(list.split(',').map(str::to_owned).collect()))
            }
            _ => Err(bad()),
        }
    }
}

impl From<Whose> for String {
    fn from(whose: Whose) -> String {
        match whose {
            Whose::Inbox => "inbox".into(),
            Whose::Socket => "socket".into(),
            Whose::Token(n) => format!("token:{n}"),
            Whose::Json(p) => format!("json:{p}"),
            Whose::Header(h) => format!("header:{h}"),
            Whose::Fields(list) => format!("fields:{}", list.join(",")),
        }
    }
}

/// Where an answer appears, whose it is, and what makes it an error.
///
/// ```
/// let rule: schedule::AnswerRule = serde_json::from_str(r#"{
///   "name": "reply", "kind": "reply", "on": ["chat.user.*.response.>"], "whose": "token:-1",
///   "when": "!/operation", "error": "/error", "code": ["/reason", "/code"]
/// }"#).unwrap();
/// assert_eq!(rule.whose, schedule::Whose::Token(-1));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerRule {
    /// `reply`, `broadcast`, … : the second half of the series name.
    pub name: String,
    /// The second half of the series name, if it is another: rules that differ may make the same series of different actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// To the sender or to everyone.
    #[serde(default = "reply")]
    pub kind: AnswerKind,
    /// Subjects to subscribe, or [`WEBSOCKET`]; empty when it comes to the op's inbox.
    #[serde(default)]
    pub on: Vec<String>,
    /// Whose it is.
    pub whose: Whose,
    /// The rule applies only if this JSON pointer exists (`/operation`) or does not (`!/operation`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Per subject of `on`: the subject token (`token:2`) that names the recipient of a copy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recipients: BTreeMap<String, String>,
    /// JSON pointer: present, and neither null nor "", makes it an error …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// … whose class is the first of these pointers that exists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub code: Vec<String>,
    /// JSON pointer that is `true` where the target says it had this already (a PubAck's `/duplicate`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<String>,
    /// JSON pointer to the time at which the target made it, RFC 3339 or epoch milliseconds: how stale it is when it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
    /// What must hold of it, over HTTP and WebSockets, by name; what does not is an error of the class `check:NAME`.
    #[serde(default, rename = "check", skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, Check>,
}

/// Stands in [`AnswerRule::on`] for what comes over the WebSocket of a session.
pub const WEBSOCKET: &str = "websocket";

fn reply() -> AnswerKind {
    AnswerKind::Reply
}

impl AnswerRule {
    /// The second half of the names of its series.
    pub fn series_name(&self) -> &str {
        self.series.as_deref().unwrap_or(&self.name)
    }

    /// Whether it answers no op, but is one of the pushes over a WebSocket.
    pub fn is_push(&self) -> bool {
        self.kind == AnswerKind::Push
    }
}

impl Meta {
    /// Of a schedule made by this release: nothing is in it yet, and the writer counts what comes.
    ///
    /// ```
    /// let meta = schedule::Meta::new("m", 42, serde_json::Value::Null);
    /// assert_eq!((meta.rows, meta.format), (0, schedule::FORMAT));
    /// ```
    pub fn new(name: &str, seed: u64, workload: serde_json::Value) -> Meta {
        Meta {
            format: FORMAT,
            tool: concat!("retempo ", env!("CARGO_PKG_VERSION")).into(),
            name: name.to_owned(),
            seed,
            workload,
            tables: BTreeMap::new(),
            actions: Vec::new(),
            answers: Vec::new(),
            scenarios: Vec::new(),
            known: BTreeMap::new(),
            streams: Vec::new(),
            stages: Vec::new(),
            slo: Vec::new(),
            fingerprint: String::new(),
            rows: 0,
            duration_ns: 0,
            nominal_rate_per_sec: 0.0,
            peak_rate_per_sec: 0.0,
            history: Vec::new(),
            losses: None,
        }
    }

    /// Whether ops of this action are published with a reply inbox.
    pub fn wants_inbox(&self, action: u16) -> bool {
        self.actions[usize::from(action)].answers.iter().any(|&a| self.answers[usize::from(a)].whose == Whose::Inbox)
    }

    /// Longest timeout of any action, ns.
    pub fn longest_timeout_ns(&self) -> i64 {
        self.actions.iter().map(|a| a.timeout_ns).max().unwrap_or(0)
    }

    /// Name of a series, `send/reply`.
    pub fn series_name(&self, action: u16, answer: u8) -> String {
        format!("{}/{}", self.actions[usize::from(action)].name, self.answers[usize::from(answer)].series_name())
    }
}
