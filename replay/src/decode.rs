//! What a received message means: whose it is, which answer, and whether it is an error.

use hyper::HeaderMap;
use runlog::Status;
use schedule::{Action, AnswerKind, AnswerRule, Check, IdKey, Known, Response, WEBSOCKET, Whose as By};
use sonic_rs::PointerNode;
use std::borrow::Cow;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use wire::Message;
use xxhash_rust::xxh3::xxh3_64;

/// What a message is to the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An answer to an op.
    Answer(Answer<'a>),
    /// No id of ours.
    Foreign,
    /// Not an answer by any rule.
    Ignored,
}

/// Whose an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// It carries an id of this op.
    Op(i64),
    /// It carries the fields that make this key.
    Key(i64),
}

impl Default for Whose {
    fn default() -> Whose {
        Whose::Op(0)
    }
}

/// An answer to an op.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Whose.
    pub whose: Whose,
    /// Index into the answer table.
    pub answer: u8,
    /// Whether it is a copy of a fan-out.
    pub broadcast: bool,
    /// Ok, error or duplicate.
    pub status: Status,
    /// Class of an error.
    pub code: Option<String>,
    /// XXH3-64 of who it was for; 0 where a subject serves all.
    pub recipient: u64,
    /// The message.
    pub payload: &'a [u8],
    /// Names of the checks that it fails; `None` if there are none to hold.
    pub checked: Option<Vec<&'a str>>,
}

/// Decides by the answer table. Subscription ids: 1 and on for [`Decoder::subjects`], 0 for reply inboxes.
pub struct Decoder {
    key: IdKey,
    /// Distinct subjects; each has the rules that may apply.
    subjects: Vec<(String, Vec<Rule>)>,
    /// By action: whose inbox it is says which rules may apply.
    inbox: Vec<Vec<Rule>>,
    /// Of what comes over WebSockets: which of the subjects it is.
    frames: Option<usize>,
    /// By action: its answers.
    answers: Vec<Vec<u8>>,
    /// What checks look things up in.
    known: Known,
}

struct Rule {
    answer: u8,
    broadcast: bool,
    whose: By,
    whose_path: Pointer,
    /// What the key is made of, if it is one.
    fields: Vec<Pointer>,
    when: Option<(Pointer, bool)>,
    recipient: Option<i32>,
    error: Option<Pointer>,
    code: Vec<Pointer>,
    duplicate: Option<Pointer>,
    stamp: Option<Pointer>,
    push: bool,
    checks: Vec<(String, Check)>,
}

impl Rule {
    fn new(index: usize, rule: &AnswerRule, subject: Option<&String>) -> Rule {
        let token = |text: &String| text.strip_prefix("token:").and_then(|n| n.parse().ok());
        Rule {
            answer: index as u8,
            broadcast: rule.kind == AnswerKind::Broadcast,
            whose_path: if let By::Json(p) = &rule.whose { Pointer::new(p) } else { Pointer::new("") },
            fields: if let By::Fields(list) = &rule.whose { list.iter().map(|p| Pointer::new(p)).collect() } else { Vec::new() },
            whose: rule.whose.clone(),
            when: rule.when.as_ref().map(|w| (Pointer::new(w.trim_start_matches('!')), !w.starts_with('!'))),
            recipient: subject.and_then(|s| rule.recipients.get(s)).and_then(token),
            error: rule.error.as_deref().map(Pointer::new),
            code: rule.code.iter().map(|p| Pointer::new(p)).collect(),
            duplicate: rule.duplicate.as_deref().map(Pointer::new),
            stamp: rule.stamp.as_deref().map(Pointer::new),
            push: rule.is_push(),
            checks: rule.checks.clone().into_iter().collect(),
        }
    }
}

/// Which subscription a message came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A reply inbox: its subject ends in the action and the op's id.
    Inbox,
    /// Subject number n of [`Decoder::subjects`].
    Subject(usize),
}

impl Decoder {
    /// For the answers that the actions use.
    pub fn new(key: IdKey, actions: &[Action], answers: &[AnswerRule]) -> Decoder {
        let mut subjects: BTreeMap<&String, Vec<Rule>> = BTreeMap::new();
        for (i, rule) in answers.iter().enumerate().filter(|(i, _)| actions.iter().any(|a| a.answers.contains(&(*i as u8)))) {
            for subject in &rule.on {
                subjects.entry(subject).or_default().push(Rule::new(i, rule, Some(subject)));
            }
        }
        let indexed = |action: &Action| action.answers.iter().map(|&i| (usize::from(i), &answers[usize::from(i)])).collect::<Vec<_>>();
        let rules =
            |action| indexed(action).into_iter().filter(|(_, r)| r.whose == By::Inbox).map(|(i, r)| Rule::new(i, r, None)).collect();
        let subjects: Vec<(String, Vec<Rule>)> = subjects.into_iter().map(|(s, rules)| (s.clone(), rules)).collect();
        let frames = subjects.iter().position(|(subject, _)| subject == WEBSOCKET);
        let inbox = actions.iter().map(rules).collect();
        Decoder { key, subjects, inbox, frames, answers: actions.iter().map(|a| a.answers.clone()).collect(), known: Known::default() }
    }

    /// With the tables that checks look things up in.
    pub fn knowing(self, known: Known) -> Decoder {
        Decoder { known, ..self }
    }

    /// Distinct subjects to subscribe.
    pub fn subjects(&self) -> Vec<String> {
        self.subjects.iter().map(|(s, _)| s.clone()).collect()
    }

    /// Decides.
    pub fn decode<'a>(&self, source: Source, message: &Message<'a>) -> Decoded<'a> {
        let rules = match source {
            Source::Inbox => match token(message.subject, -2).and_then(|t| std::str::from_utf8(t).ok()?.parse().ok()) {
                Some::<usize>(action) if action < self.inbox.len() => &self.inbox[action],
                _ => return Decoded::Foreign,
            },
            Source::Subject(n) => match self.subjects.get(n) {
                Some((_, rules)) => rules,
                None => return Decoded::Foreign,
            },
        };
        let applies = |rule: &&Rule| rule.when.as_ref().is_none_or(|(pointer, wanted)| pointer.find(message.payload).is_some() == *wanted);
        let Some(rule) = rules.iter().find(applies) else { return Decoded::Ignored };
        let whose = if rule.fields.is_empty() {
            // Events of other kinds share subjects: without a text where the id would be it is no answer at all.
            let Some(text) = whose(rule, message) else { return Decoded::Ignored };
            let Some(id) = self.key.read(text.as_bytes()) else { return Decoded::Foreign };
            Whose::Op(id.op)
        } else {
            let Some(key) = key(&rule.fields, message.payload) else { return Decoded::Ignored };
            Whose::Key(key)
        };
        let (status, code) = status(rule, message);
        let recipient = rule.recipient.and_then(|n| token(message.subject, n)).map_or(0, xxh3_64);
        Decoded::Answer(Answer {
            whose,
            answer: rule.answer,
            broadcast: rule.broadcast,
            status,
            code,
            recipient,
            payload: message.payload,
            checked: None,
        })
    }
}

/// What came back over HTTP or a WebSocket.
pub(crate) struct Heard<'a> {
    /// 200 where there is none.
    pub status: u16,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
    /// The body of what it answers.
    pub sent: &'a [u8],
    /// The class of an error on the way: there is no response, or not all of it.
    pub failed: Option<&'a str>,
}

impl Decoder {
    /// What the response to an op of an action means; `None` if no rule asks for it.
    pub(crate) fn response<'a>(&'a self, op: i64, action: u16, heard: &Heard<'a>) -> Option<Answer<'a>> {
        let rule = self.inbox.get(usize::from(action))?.iter().find(|rule| applies(rule, heard.body))?;
        Some(self.judged(rule, Whose::Op(op), heard))
    }

    /// What a frame means that came over the WebSocket which `opener`, an op of `action`, opened.
    pub(crate) fn frame<'a>(&'a self, opener: i64, action: u16, heard: &Heard<'a>) -> Framed<'a> {
        let rules = self.frames.map(|n| self.subjects[n].1.as_slice()).unwrap_or_default();
        let Some(rule) = rules.iter().find(|rule| applies(rule, heard.body)) else { return Framed::Other };
        if rule.whose == By::Socket {
            let theirs = self.answers.get(usize::from(action)).is_some_and(|answers| answers.contains(&rule.answer));
            let stamp_epoch_ns = rule.stamp.as_ref().and_then(|pointer| epoch_ns(&pointer.find(heard.body)?));
            let answer = || self.judged(rule, Whose::Op(opener), heard);
            return if theirs { Framed::OfSocket { answer: answer(), push: rule.push, stamp_epoch_ns } } else { Framed::Other };
        }
        let message = Message { subject: b"", sid: 0, reply: None, headers: b"", payload: heard.body };
        let whose = match rule.fields.is_empty() {
            true => whose(rule, &message).and_then(|text| Some(Whose::Op(self.key.read(text.as_bytes())?.op))),
            false => key(&rule.fields, heard.body).map(Whose::Key),
        };
        whose.map_or(Framed::Other, |whose| Framed::Reply(self.judged(rule, whose, heard)))
    }

    fn judged<'a>(&'a self, rule: &'a Rule, whose: Whose, heard: &Heard<'a>) -> Answer<'a> {
        let (status, code, checked) = judged(rule, heard, &self.known);
        Answer { whose, answer: rule.answer, broadcast: rule.broadcast, status, code, recipient: 0, payload: heard.body, checked }
    }
}

/// What a frame is to the run.
pub(crate) enum Framed<'a> {
    /// It carries an id of ours.
    Reply(Answer<'a>),
    /// It is of the op that opened its WebSocket.
    OfSocket { answer: Answer<'a>, push: bool, stamp_epoch_ns: Option<i64> },
    /// No rule is about it.
    Other,
}

fn applies(rule: &Rule, payload: &[u8]) -> bool {
    rule.when.as_ref().is_none_or(|(pointer, wanted)| pointer.find(payload).is_some() == *wanted)
}

/// A time in RFC 3339, or in epoch milliseconds.
fn epoch_ns(raw: &str) -> Option<i64> {
    let text = raw.trim().trim_matches('"');
    match text.parse::<f64>() {
        Ok(ms) => Some((ms * 1e6) as i64),
        Err(_) => i64::try_from(OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos()).ok(),
    }
}

/// An error on the way comes first; then a status that is none of success, unless a check is about it; then what the target says; then
/// the checks.
fn judged<'a>(rule: &'a Rule, heard: &Heard<'_>, known: &Known) -> (Status, Option<String>, Option<Vec<&'a str>>) {
    if let Some(class) = heard.failed {
        return (Status::Error, Some(class.to_owned()), None);
    }
    let message = Message { subject: b"", sid: 0, reply: None, headers: b"", payload: heard.body };
    let said = status(rule, &message);
    // 101: it is a WebSocket from then on.
    let expected = matches!(heard.status, 101 | 200..300) || rule.checks.iter().any(|(_, check)| check.is_about_status());
    match said {
        // What the target says of its error tells more than a number.
        (Status::Error, Some(code)) if expected || code != "error" => return (Status::Error, Some(code), None),
        _ if !expected => return (Status::Error, Some(heard.status.to_string()), None),
        (Status::Ok, _) if !rule.checks.is_empty() => {}
        (status, code) => return (status, code, None),
    }
    let header = |name: &str| heard.headers.get(name).and_then(|value| value.to_str().ok());
    let json = |text: &[u8]| serde_json::from_slice(text).ok();
    let (json, sent) = (json(heard.body), json(heard.sent));
    let response = Response { status: heard.status, header: &header, body: heard.body, json, sent, known };
    let failed = rule.checks.iter().filter(|(_, check)| !check.holds(&response)).map(|(name, _)| name.as_str());
    let failed: Vec<&str> = failed.collect();
    match failed.first() {
        Some(name) => (Status::Error, Some(format!("check:{name}")), Some(failed)),
        None => (Status::Ok, None, Some(failed)),
    }
}

/// The key of these fields, if all are there.
fn key(fields: &[Pointer], json: &[u8]) -> Option<i64> {
    let mut texts = Vec::new();
    for field in fields {
        texts.extend(schedule::key_texts(&field.find(json)?)?);
    }
    Some(schedule::key_of(texts.iter().map(String::as_str)))
}

/// The text where the id is.
fn whose<'a>(rule: &Rule, message: &Message<'a>) -> Option<Cow<'a, str>> {
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
    match &rule.whose {
        By::Inbox => text(token(message.subject, -1)?),
        By::Token(n) => text(token(message.subject, *n)?),
        By::Header(name) => text(message.header(name)?),
        By::Json(_) => match rule.whose_path.find(message.payload)? {
            Cow::Borrowed(raw) => Some(Cow::Borrowed(raw.trim().trim_matches('"'))),
            Cow::Owned(raw) => Some(Cow::Owned(raw.trim().trim_matches('"').to_owned())),
        },
        By::Fields(_) | By::Socket => None,
    }
}

/// A NATS status header always wins; then the error pointer, then the duplicate pointer.
fn status(rule: &Rule, message: &Message<'_>) -> (Status, Option<String>) {
    if let Some(status) = message.status() {
        let code = if status == 503 { "no_responders".into() } else { format!("nats_{status}") };
        return (Status::Error, Some(code));
    }
    let present =
        |pointer: &Pointer| -> Option<Cow<'_, str>> { pointer.find(message.payload).filter(|v| !matches!(v.trim(), "null" | "\"\"")) };
    if rule.error.as_ref().is_some_and(|p| present(p).is_some()) {
        let class = rule.code.iter().find_map(present).map(|raw| raw.trim().trim_matches('"').chars().take(64).collect());
        return (Status::Error, Some(class.unwrap_or_else(|| "error".into())));
    }
    if rule.duplicate.as_ref().is_some_and(|p| p.find(message.payload).is_some_and(|v| v.trim() == "true")) {
        return (Status::Duplicate, None);
    }
    (Status::Ok, None)
}

/// Token `n` of a subject, from 0; negative counts from the end.
fn token(subject: &[u8], n: i32) -> Option<&[u8]> {
    if n >= 0 { subject.split(|&b| b == b'.').nth(n as usize) } else { subject.rsplit(|&b| b == b'.').nth((-1 - n) as usize) }
}

/// A JSON pointer (RFC 6901) and a quick test for its absence.
struct Pointer {
    path: Vec<PointerNode>,
    /// The last key in quotes: a payload without it does not have the pointer.
    needle: Option<memchr::memmem::Finder<'static>>,
}

impl Pointer {
    fn new(text: &str) -> Pointer {
        let tokens: Vec<String> = text.split('/').skip(1).map(|t| t.replace("~1", "/").replace("~0", "~")).collect();
        let plain = |key: &&String| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && key.parse::<usize>().is_err();
        let needle = tokens.last().filter(plain).map(|key| memchr::memmem::Finder::new(format!("\"{key}\"").as_bytes()).into_owned());
        let node = |token: &String| token.parse::<usize>().map_or_else(|_| PointerNode::from(token.as_str()), PointerNode::from);
        Pointer { path: tokens.iter().map(node).collect(), needle }
    }

    /// The raw JSON there.
    fn find<'a>(&self, json: &'a [u8]) -> Option<Cow<'a, str>> {
        if self.needle.as_ref().is_some_and(|needle| needle.find(json).is_none()) {
            return None;
        }
        sonic_rs::get_from_slice(json, &self.path).ok().map(|value| value.as_raw_cow())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schedule::Id;

    fn decoder() -> (IdKey, Decoder) {
        let answers: Vec<AnswerRule> = serde_json::from_str(
            r#"[
            {"name":"reply","on":["u.*.response.>"],"whose":"token:-1","when":"!/operation","error":"/error","code":["/reason","/code"]},
            {"name":"broadcast","kind":"broadcast","on":["r.*.event","u.*.event"],"whose":"json:/lastMsgId","recipients":{"u.*.event":"token:1"}},
            {"name":"puback","whose":"inbox","error":"/error","code":["/error/err_code"],"duplicate":"/duplicate"}]"#,
        )
        .unwrap();
        let action = |answers| Action { name: "a".into(), transport: "nats".into(), answers, timeout_ns: 1, once: false };
        let key = IdKey::new(b"run");
        (key.clone(), Decoder::new(key, &[action(vec![0, 1]), action(vec![2])], &answers))
    }

    fn message<'a>(subject: &'a str, headers: &'a [u8], payload: &'a str) -> Message<'a> {
        Message { subject: subject.as_bytes(), sid: 1, reply: None, headers, payload: payload.as_bytes() }
    }

    #[test]
    fn answers_are_told_apart() {
        let (key, decoder) = decoder();
        let (mut request, mut id) = ([0; 36], [0; 20]);
        key.write_uuid(Id { op: 7, ordinal: 0 }, 1, &mut request);
        key.write_base62(Id { op: 8, ordinal: 1 }, &mut id);
        let (request, id) = (std::str::from_utf8(&request).unwrap(), std::str::from_utf8(&id).unwrap());
        let shown = |whose| if let Whose::Op(op) = whose { op.to_string() } else { format!("{whose:?}") };
        let at = |subject: &str| Source::Subject(decoder.subjects().iter().position(|s| s == subject).unwrap());
        let decode =
            |source, subject: &str, headers: &[u8], payload: &str| match decoder.decode(source, &message(subject, headers, payload)) {
                Decoded::Answer(a) => format!("{} {} {:?} {:?} {}", shown(a.whose), a.answer, a.status, a.code, a.recipient != 0),
                Decoded::Foreign => "foreign".into(),
                Decoded::Ignored => "ignored".into(),
            };
        let replies = at("u.*.response.>");
        let on = format!("u.bob.response.{request}");
        assert_eq!(decode(replies, &on, b"", r#"{"id":"x"}"#), "7 0 Ok None false");
        assert_eq!(decode(replies, &on, b"", r#"{"id":"x","error":""}"#), "7 0 Ok None false");
        assert_eq!(
            decode(replies, &on, b"", r#"{"error":"no","code":"forbidden","reason":"not_subscribed"}"#),
            r#"7 0 Error Some("not_subscribed") false"#
        );
        assert_eq!(decode(replies, &on, b"", r#"{"error":"no","code":"internal"}"#), r#"7 0 Error Some("internal") false"#);
        assert_eq!(decode(replies, &on, b"", r#"{"operation":"room.create"}"#), "ignored");
        assert_eq!(decode(replies, "u.bob.response.018f6f0e-5b7a-7c31-9d52-0c4f1b2a9e77", b"", "{}"), "foreign");
        assert_eq!(decode(at("r.*.event"), "r.1.event", b"", &format!(r#"{{"a":{{}},"lastMsgId":"{id}"}}"#)), "8 1 Ok None false");
        assert_eq!(decode(at("u.*.event"), "u.bob.event", b"", &format!(r#"{{"lastMsgId":"{id}"}}"#)), "8 1 Ok None true");
        assert_eq!(decode(at("u.*.event"), "u.bob.event", b"", r#"{"type":"message_read"}"#), "ignored");
        assert_eq!(decode(at("u.*.event"), "u.bob.event", b"", r#"{"lastMsgId":"theirs"}"#), "foreign");
        let inbox = format!("_INBOX.x.1.{id}");
        assert_eq!(decode(Source::Inbox, &format!("_INBOX.x.0.{id}"), b"", ""), "ignored");
        assert_eq!(decode(Source::Inbox, "_INBOX.x.probe", b"", ""), "foreign");
        assert_eq!(decode(Source::Inbox, &inbox, b"NATS/1.0 503\r\n\r\n", ""), r#"8 2 Error Some("no_responders") false"#);
        assert_eq!(decode(Source::Inbox, &inbox, b"", r#"{"stream":"S","seq":1,"duplicate":true}"#), "8 2 Duplicate None false");
        assert_eq!(decode(Source::Inbox, &inbox, b"", r#"{"error":{"code":503,"err_code":10077}}"#), r#"8 2 Error Some("10077") false"#);
    }
}
