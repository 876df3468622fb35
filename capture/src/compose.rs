use crate::Error;
use crate::folder::Folder;
use crate::ids::{Found, find_by};
use crate::recent::Recent;
use crate::rules::{Rules, Session};
use runlog::Captured;
use schedule::subject::{matches, token};
use schedule::{Action, AnswerRule, Bind, Convert, Expect, Gate, Meta, Operation, Part, Slot, SlotKind, Whose, Writer, key_of, key_texts};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

/// Ids of an op that are its own, at most: 15 is the inbox.
const ORDINALS: u8 = 15;
/// Values of an answer that later ops may take, at most.
const VALUES: usize = 64;
/// The rule for what comes to the inbox of a request.
const INBOX: &str = "inbox_reply";

/// What became of a capture.
#[derive(Debug, Clone, PartialEq)]
pub struct Composed {
    /// Metadata of the schedule.
    pub meta: Meta,
    /// Messages that are answers to an op.
    pub answers: u64,
    /// Messages that answer by a rule, but to no op that was heard.
    pub foreign: u64,
    /// Ids that are fresh in a replay.
    pub slots: u64,
    /// Values that a replay takes from answers.
    pub binds: u64,
}

/// Makes the schedule of a folder, and removes the folder when it is whole.
///
/// # Errors
/// As [`compose`].
pub fn finish(folder: &Folder, rules: &Rules, name: &str, output: &Path) -> Result<Composed, Error> {
    let heard = folder.manifest.ledger.as_ref().is_none_or(|ledger| ledger.messages > 0);
    let composed = compose(folder, rules, name, output);
    if composed.is_err() && !heard {
        // There is nothing to lose, and nothing to finish.
        let _ = std::fs::remove_dir_all(folder.path());
    }
    let composed = composed?;
    let failed = |e: std::io::Error| Error::Capture { path: folder.path().to_owned(), what: format!("cannot be removed: {e}") };
    std::fs::remove_dir_all(folder.path()).map_err(failed)?;
    Ok(composed)
}

/// Makes a schedule of a folder of segments. The output appears under its name when it is whole.
///
/// # Errors
/// [`Error`]: the folder is damaged or empty, the schedule cannot be written.
pub fn compose(folder: &Folder, rules: &Rules, name: &str, output: &Path) -> Result<Composed, Error> {
    let mut known = Known::new(rules);
    for message in folder.messages()? {
        known.learn(&message?);
    }
    if known.ops.is_empty() {
        let what = match folder.ledger().cut_off {
            true => "was cut off before it wrote an operation down; remove it and capture again",
            false => "no operation was heard; check the subjects",
        };
        return Err(Error::Capture { path: folder.path().to_owned(), what: what.into() });
    }
    known.link();
    let mut writing = Writing { writer: Writer::create(output)?, op: 0, slots: 0, binds: 0, known: &known };
    for (message, is_op) in folder.messages()?.zip(&known.is_op) {
        if *is_op {
            writing.write(&message?)?;
        }
    }
    let (slots, binds) = (writing.slots, writing.binds);
    let duration_ns = known.ops.last().map_or(0, |op| op.at_ns) + 1;
    let meta = writing.writer.finish(known.meta(folder, name), duration_ns)?;
    Ok(Composed { meta, answers: known.answered, foreign: known.foreign, slots, binds })
}

/// Where an id was first seen.
#[derive(Debug, Clone)]
enum Origin {
    /// In an op: it makes the id.
    Op { op: i64, ordinal: u8 },
    /// In an answer: it is the target's.
    Answer { op: i64, answer: u8, pointer: String },
}

/// An op, as far as it must be remembered.
#[derive(Debug, Clone, Default)]
struct Op {
    at_ns: i64,
    t_ns: i64,
    action: u16,
    session: u32,
    ids: u8,
    /// By answer: how many copies came.
    expect: BTreeMap<u8, u32>,
    opens: u32,
    /// By which an answer finds it that carries no id.
    key: Option<i64>,
    /// Earlier answers that it takes values from.
    takes: Vec<(i64, u8)>,
}

/// What a message is.
enum Sort {
    Op,
    Answer {
        op: i64,
        answer: u8,
    },
    /// By fields that the op has too.
    Keyed {
        op: i64,
        answer: u8,
        key: i64,
    },
    Foreign,
    /// It shares a subject with answers, and is none.
    Neither,
}

/// All that the first pass finds out.
struct Known<'a> {
    rules: &'a Rules,
    answers: Vec<AnswerRule>,
    actions: Vec<String>,
    action_of: HashMap<String, u16>,
    answers_of: Vec<HashSet<u8>>,
    sessions: HashMap<String, u32>,
    /// By reply subject.
    requests: HashMap<Vec<u8>, i64>,
    ids: HashMap<String, Origin>,
    /// Ids in subjects of ops: names of things, not to be made anew.
    literal: HashSet<String>,
    ops: Vec<Op>,
    recent: Recent,
    /// By message.
    is_op: Vec<bool>,
    first_ns: i64,
    answered: u64,
    foreign: u64,
}

impl<'a> Known<'a> {
    fn new(rules: &'a Rules) -> Known<'a> {
        let inbox = AnswerRule {
            name: INBOX.into(),
            series: Some("reply".into()),
            kind: schedule::AnswerKind::Reply,
            on: Vec::new(),
            whose: Whose::Inbox,
            when: None,
            recipients: BTreeMap::new(),
            error: Some("/error".into()),
            code: vec!["/reason".into(), "/code".into(), "/error/err_code".into()],
            duplicate: Some("/duplicate".into()),
            stamp: None,
            checks: BTreeMap::new(),
        };
        let answers = rules.answers.iter().filter(|rule| rule.whose != Whose::Inbox).cloned().chain([inbox]).collect();
        Known {
            rules,
            answers,
            actions: Vec::new(),
            action_of: HashMap::new(),
            answers_of: Vec::new(),
            sessions: HashMap::new(),
            requests: HashMap::new(),
            ids: HashMap::new(),
            literal: HashSet::new(),
            ops: Vec::new(),
            recent: Recent::default(),
            is_op: Vec::new(),
            first_ns: i64::MAX,
            answered: 0,
            foreign: 0,
        }
    }

    fn inbox(&self) -> u8 {
        self.answers.len() as u8 - 1
    }

    /// Whose answer a message is, if it is one.
    fn sort(&self, message: &Captured) -> Sort {
        // What a stream delivers to its consumers carries the subject under which it was published before.
        if message.reply.starts_with(b"$JS.ACK.") {
            return Sort::Neither;
        }
        if let Some(op) = self.requests.get(&message.subject) {
            return Sort::Answer { op: *op, answer: self.inbox() };
        }
        let subject = String::from_utf8_lossy(&message.subject);
        let on = |rule: &AnswerRule| rule.on.iter().any(|on| matches(on, &subject));
        let rules: Vec<(u8, &AnswerRule)> = (0..).zip(&self.answers).filter(|(_, rule)| on(rule)).collect();
        if rules.is_empty() {
            // The reply to a request that was not heard is nobody's.
            return if subject.starts_with("_INBOX.") { Sort::Foreign } else { Sort::Op };
        }
        let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        let applies = |rule: &AnswerRule| match rule.when.as_deref() {
            None => true,
            Some(when) => body.pointer(when.trim_start_matches('!')).is_some() != when.starts_with('!'),
        };
        let Some((answer, rule)) = rules.into_iter().find(|(_, rule)| applies(rule)) else { return Sort::Neither };
        let id = match &rule.whose {
            Whose::Token(n) => token(&subject, *n).map(str::to_owned),
            Whose::Json(pointer) => body.pointer(pointer).and_then(Value::as_str).map(str::to_owned),
            Whose::Header(name) => headers(&message.headers).find(|(n, _)| n == name).map(|(_, value)| value.to_owned()),
            Whose::Fields(pointers) => {
                let texts = pointers.iter().map(|pointer| key_texts(&body.pointer(pointer)?.to_string())).collect::<Option<Vec<_>>>();
                let Some(texts) = texts.map(|texts| texts.concat()) else { return Sort::Foreign };
                return match self.recent.op_of(&texts, message.t_ns - self.rules.timeout_ns) {
                    Some(op) => Sort::Keyed { op, answer, key: key_of(texts.iter().map(String::as_str)) },
                    None => Sort::Foreign,
                };
            }
            Whose::Inbox | Whose::Socket => None,
        };
        match id.and_then(|id| self.ids.get(&id)) {
            Some(Origin::Op { op, .. }) => Sort::Answer { op: *op, answer },
            Some(Origin::Answer { .. }) => Sort::Foreign,
            None => Sort::Foreign,
        }
    }

    fn learn(&mut self, message: &Captured) {
        let sort = self.sort(message);
        self.is_op.push(matches!(sort, Sort::Op));
        match sort {
            Sort::Neither => {}
            Sort::Foreign => self.foreign += 1,
            Sort::Keyed { op, answer, key } if self.ops[op as usize].key.is_none_or(|known| known == key) => {
                self.answered += 1;
                self.ops[op as usize].key = Some(key);
                *self.ops[op as usize].expect.entry(answer).or_default() += 1;
                self.answers_of[usize::from(self.ops[op as usize].action)].insert(answer);
            }
            // An op has one key; what else it causes is not told from what others cause.
            Sort::Keyed { .. } => self.foreign += 1,
            Sort::Answer { op, answer } => {
                self.answered += 1;
                *self.ops[op as usize].expect.entry(answer).or_default() += 1;
                self.answers_of[usize::from(self.ops[op as usize].action)].insert(answer);
                self.learn_values(message, op, answer);
            }
            Sort::Op => self.learn_op(message),
        }
    }

    /// Ids that an answer brings: later ops may take them from it.
    fn learn_values(&mut self, message: &Captured, op: i64, answer: u8) {
        let mut values = Vec::new();
        let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        pointers(&body, &mut String::new(), &mut values);
        for (pointer, text) in values.into_iter().take(VALUES) {
            let whole = |f: &Found| f.at == (0..text.len()) && is_id(f);
            if find_by(text.as_bytes(), 0, &self.rules.ids).iter().any(whole) && !self.ids.contains_key(&text) {
                self.ids.insert(text, Origin::Answer { op, answer, pointer });
            }
        }
    }

    fn learn_op(&mut self, message: &Captured) {
        let (op, t_ns) = (self.ops.len() as i64, message.t_ns);
        self.first_ns = self.first_ns.min(t_ns);
        let subject = String::from_utf8_lossy(&message.subject).into_owned();
        let action = self.action(&subject);
        let session = self.session(message, &subject);
        if !message.reply.is_empty() {
            self.requests.insert(message.reply.clone(), op);
            let inbox = self.inbox();
            self.answers_of[usize::from(action)].insert(inbox);
        }
        // Times never go back within a schedule.
        let at_ns = (t_ns - self.first_ns).max(self.ops.last().map_or(0, |op| op.at_ns));
        let mut this = Op { at_ns, t_ns, action, session, ..Op::default() };
        for id in self.ids_of(&message.subject, t_ns) {
            self.literal.insert(id);
        }
        let texts = headers(&message.headers).map(|(_, value)| value.as_bytes()).chain([message.payload.as_slice()]);
        for id in texts.flat_map(|text| self.ids_of(text, t_ns)).collect::<Vec<_>>() {
            match self.ids.get(&id) {
                Some(Origin::Answer { op, answer, .. }) => this.takes.push((*op, *answer)),
                Some(Origin::Op { .. }) => {}
                None if this.ids < ORDINALS => {
                    self.ids.insert(id, Origin::Op { op, ordinal: this.ids });
                    this.ids += 1;
                }
                // More ids than an op can make its own stay as they are.
                None => {}
            }
        }
        this.takes.sort_unstable();
        this.takes.dedup();
        if self.answers.iter().any(|rule| matches!(rule.whose, Whose::Fields(_))) {
            self.recent.push(op, message, t_ns - self.rules.timeout_ns);
        }
        self.ops.push(this);
    }

    /// The ids in a text, each once.
    fn ids_of(&self, text: &[u8], t_ns: i64) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for found in find_by(text, t_ns / 1_000_000, &self.rules.ids).into_iter().filter(is_id) {
            let id = String::from_utf8_lossy(&text[found.at]).into_owned();
            if !texts.contains(&id) {
                texts.push(id);
            }
        }
        texts
    }

    fn action(&mut self, subject: &str) -> u16 {
        let named = self.rules.actions.iter().find(|(_, pattern)| matches(pattern, subject)).map(|(name, _)| name.clone());
        let plain = |token: &&str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
        let name = named.unwrap_or_else(|| subject.rsplit('.').next().filter(plain).unwrap_or("other").to_owned());
        if let Some(action) = self.action_of.get(&name) {
            return *action;
        }
        let action = self.actions.len() as u16;
        self.actions.push(name.clone());
        self.answers_of.push(HashSet::new());
        self.action_of.insert(name, action);
        action
    }

    fn session(&mut self, message: &Captured, subject: &str) -> u32 {
        let who = match &self.rules.session {
            Session::One => None,
            Session::Token(n) => token(subject, *n).map(str::to_owned),
            Session::Header(name) => headers(&message.headers).find(|(n, _)| n == name).map(|(_, value)| value.to_owned()),
            Session::Json(pointer) => {
                let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
                body.pointer(pointer).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            }
            Session::Inbox => {
                let reply = String::from_utf8_lossy(&message.reply);
                reply.rsplit_once('.').map(|(client, _)| client.to_owned())
            }
        };
        let next = self.sessions.len() as u32;
        *self.sessions.entry(who.unwrap_or_default()).or_insert(next)
    }

    /// Counts for each op how many later ones take values of its answers.
    fn link(&mut self) {
        for op in 0..self.ops.len() {
            let mut openers: Vec<i64> = self.ops[op].takes.iter().map(|(opener, _)| *opener).collect();
            openers.dedup();
            for opener in openers {
                self.ops[opener as usize].opens += 1;
            }
        }
    }

    fn meta(&self, folder: &Folder, name: &str) -> Meta {
        let action = |(name, answers): (&String, &HashSet<u8>)| {
            let mut answers: Vec<u8> = answers.iter().copied().collect();
            answers.sort_unstable();
            Action { name: name.clone(), transport: "nats".into(), answers, timeout_ns: self.rules.timeout_ns, once: false }
        };
        Meta {
            actions: self.actions.iter().zip(&self.answers_of).map(action).collect(),
            answers: self.answers.clone(),
            streams: self.rules.streams.clone(),
            losses: Some(serde_json::to_value(folder.ledger()).expect("plain data")),
            ..Meta::new(name, 0, json!({ "captured": folder.manifest }))
        }
    }
}

/// The second pass.
struct Writing<'a> {
    writer: Writer,
    op: i64,
    slots: u64,
    binds: u64,
    known: &'a Known<'a>,
}

impl Writing<'_> {
    fn write(&mut self, message: &Captured) -> Result<(), Error> {
        let known = &self.known.ops[self.op as usize];
        let headers: Vec<(String, String)> = headers(&message.headers).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let mut out = Operation {
            at_ns: known.at_ns,
            session: known.session,
            action: known.action,
            target: String::from_utf8_lossy(&message.subject).into_owned(),
            payload: message.payload.clone(),
            headers,
            opens: known.opens,
            key: known.key,
            expect: known.expect.iter().map(|(&answer, &n)| Expect { answer, count: Some(n) }).collect(),
            ..Operation::default()
        };
        for (part, text) in [(Part::Payload, message.payload.clone())]
            .into_iter()
            .chain((0..).zip(&out.headers).map(|(i, (_, value))| (Part::Header(i), value.clone().into_bytes())).collect::<Vec<_>>())
        {
            self.places(part, &text, known.t_ns / 1_000_000, &mut out);
        }
        if let Some(&(op, answer)) = known.takes.first().filter(|_| !out.binds.is_empty()) {
            out.gate = Some(Gate { op, answer, delay_ns: 0, timeout_ns: self.known.rules.timeout_ns });
        }
        self.slots += out.slots.len() as u64;
        self.binds += out.binds.len() as u64;
        self.writer.push(&out)?;
        self.op += 1;
        Ok(())
    }

    /// What a replay writes anew in a part of an op.
    fn places(&self, part: Part, text: &[u8], t_ms: i64, out: &mut Operation) {
        for Found { at, kind } in find_by(text, t_ms, &self.known.rules.ids) {
            let slot = |op, ordinal| Slot { part, offset: at.start as u32, width: at.len() as u8, kind, op, ordinal };
            let id = String::from_utf8_lossy(&text[at.clone()]).into_owned();
            match (kind, self.known.ids.get(&id)) {
                (SlotKind::EpochMs | SlotKind::Rfc3339, _) => out.slots.push(slot(self.op, 0)),
                _ if self.known.literal.contains(&id) => {}
                (_, Some(Origin::Op { op, ordinal })) if *op <= self.op => out.slots.push(slot(*op, *ordinal)),
                (_, Some(Origin::Answer { op, answer, pointer })) if *op < self.op => {
                    let bind =
                        Bind { slot: out.slots.len() as u8, op: *op, answer: *answer, pointer: pointer.clone(), convert: Convert::Raw };
                    out.binds.push(bind);
                    out.slots.push(slot(self.op, 0));
                }
                _ => {}
            }
        }
    }
}

/// Whether it is an id, rather than a time.
fn is_id(found: &Found) -> bool {
    !matches!(found.kind, SlotKind::EpochMs | SlotKind::Rfc3339)
}

/// Names and values of a header block; the line of the version is none.
pub(crate) fn headers(block: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let text = std::str::from_utf8(block).unwrap_or_default();
    text.split("\r\n").skip(1).filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim()))
}

/// Every text in a JSON value, and where it is.
pub(crate) fn pointers(value: &Value, at: &mut String, out: &mut Vec<(String, String)>) {
    let length = at.len();
    match value {
        Value::String(text) => out.push((at.clone(), text.clone())),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                at.push_str(&format!("/{i}"));
                pointers(item, at, out);
                at.truncate(length);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                at.push_str(&format!("/{}", name.replace('~', "~0").replace('/', "~1")));
                pointers(field, at, out);
                at.truncate(length);
            }
        }
        _ => {}
    }
}
