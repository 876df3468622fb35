//! What must not leave with a recording: credentials always, names and texts by a policy. Everything keeps its length, so that a replay
//! weighs what the original did.

use hmac::{Hmac, Mac};
use memchr::memmem;
use regex::bytes::Regex;
use runlog::Captured;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::ops::Range;

/// What replaces letters and digits that must not be told.
const FILLER: u8 = b'x';

/// What is redacted beside credentials. TOML; unknown keys are refused.
///
/// ```
/// let policy = capture::Policy::parse(r#"
/// key = "env:REDACT_KEY"            # of the pseudonyms
/// text = ["/content"]               # becomes filler of the same length
/// pseudonym = ["token:2", "/sender/account"]   # the same name becomes the same other name
/// drop = ["/attachments"]           # is taken out
/// drop_headers = ["X-Debug"]
/// "#, |name| (name == "REDACT_KEY").then(|| "secret".to_owned())).unwrap();
/// assert_eq!(policy.text, ["/content"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Key of the pseudonyms, `env:NAME` or `file:PATH`.
    #[serde(default)]
    pub key: Option<String>,
    /// JSON pointers whose texts become filler; `*` stands for any name or index.
    #[serde(default)]
    pub text: Vec<String>,
    /// JSON pointers, `token:N` of the subject and `header:NAME` whose texts become pseudonyms.
    #[serde(default)]
    pub pseudonym: Vec<String>,
    /// JSON pointers that are taken out.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Headers that are taken out.
    #[serde(default)]
    pub drop_headers: Vec<String>,
    /// The key itself.
    #[serde(skip)]
    secret: Vec<u8>,
}

impl Policy {
    /// Reads a policy; `env` gives variables of the environment.
    ///
    /// # Errors
    /// A sentence: what cannot be read, a pseudonym without a key.
    pub fn parse(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<Policy, String> {
        let mut policy: Policy = toml::from_str(text).map_err(|e| e.message().trim().replace('\n', "; "))?;
        policy.secret = match policy.key.as_deref().map(|key| key.split_once(':').unwrap_or((key, ""))) {
            None if policy.pseudonym.is_empty() => Vec::new(),
            None => return Err("pseudonyms need a key; write key = \"env:NAME\" or \"file:PATH\", and keep it secret".into()),
            Some(("env", name)) => {
                env(name).filter(|v| !v.is_empty()).ok_or_else(|| format!("key: the variable {name} is not set"))?.into_bytes()
            }
            Some(("file", path)) => std::fs::read(path).map_err(|e| format!("key: {path}: {e}"))?,
            Some(_) => return Err("key: write \"env:NAME\" or \"file:PATH\"; a key does not stand in the policy".into()),
        };
        for rule in policy.text.iter().chain(&policy.drop) {
            if !rule.starts_with('/') {
                return Err(format!("`{rule}` is not a JSON pointer; write /content"));
            }
        }
        for rule in &policy.pseudonym {
            let token = rule.strip_prefix("token:").is_some_and(|n| n.parse::<i32>().is_ok());
            if !(rule.starts_with('/') || token || rule.starts_with("header:")) {
                return Err(format!("`{rule}` is none of /POINTER, token:N, header:NAME"));
            }
        }
        Ok(policy)
    }
}

/// How often what was redacted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redacted(pub BTreeMap<String, u64>);

impl Redacted {
    fn count(&mut self, what: &str) {
        *self.0.entry(what.to_owned()).or_default() += 1;
    }

    /// Fills parts of a text, and counts those that were not filled before.
    fn take(&mut self, what: &str, text: &mut [u8], parts: &[Range<usize>]) {
        for part in parts {
            let part = &mut text[part.clone()];
            if part.iter().any(|b| *b != filled(b)) {
                part.iter_mut().for_each(|b| *b = filled(b));
                self.count(what);
            }
        }
    }
}

/// What is redacted wherever it stands.
struct Pattern {
    what: &'static str,
    regex: Regex,
    /// The part of a match that goes; 0 is all of it.
    group: usize,
    /// Stands in every match, and is found sooner.
    needs: &'static [u8],
}

impl Pattern {
    fn new(what: &'static str, needs: &'static str, group: usize, regex: &str) -> Pattern {
        Pattern { what, regex: Regex::new(regex).expect("ours"), group, needs: needs.as_bytes() }
    }

    fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        if memmem::find(text, self.needs).is_none() {
            return Vec::new();
        }
        if self.group == 0 {
            return self.regex.find_iter(text).map(|found| found.range()).collect();
        }
        self.regex.captures_iter(text).filter_map(|found| Some(found.get(self.group)?.range())).collect()
    }
}

/// Redacts one message after the other.
pub struct Redactor {
    policy: Policy,
    /// `://USER:PASSWORD@`
    user: Pattern,
    email: Pattern,
    others: [Pattern; 3],
    /// What was redacted so far.
    pub redacted: Redacted,
}

/// Names of headers and fields that hold credentials.
const SECRET_NAMES: [&str; 9] = ["authorization", "password", "passwd", "secret", "token", "api_key", "apikey", "api-key", "cookie"];

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

impl Redactor {
    /// By a policy, and credentials in any case.
    pub fn new(policy: Policy) -> Redactor {
        let names = SECRET_NAMES.join("|");
        Redactor {
            policy,
            user: Pattern::new("credentials", "@", 1, r#"(?-u)://([^/?#\s"'<>\\]+)@"#),
            email: Pattern::new("emails", "@", 0, r"(?-u)[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+"),
            others: [
                Pattern::new("credentials", "=", 1, &format!(r#"(?i-u)\b[a-z0-9_.-]*(?:{names})[a-z0-9_.-]*=([^&;#\s"'<>]+)"#)),
                Pattern::new("credentials", "eyJ", 0, r"(?-u)eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)?"),
                Pattern::new("credentials", "", 0, r"(?i-u)(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"),
            ],
            redacted: Redacted::default(),
        }
    }

    /// The message as it may be kept.
    pub fn redact(&mut self, mut message: Captured) -> Captured {
        message.subject = self.subject(&message.subject);
        if !message.headers.is_empty() {
            message.headers = self.headers(&message.headers);
        }
        message.payload = self.payload(message.payload);
        message
    }

    fn subject(&mut self, subject: &[u8]) -> Vec<u8> {
        let rules: Vec<i32> = self.policy.pseudonym.iter().filter_map(|rule| rule.strip_prefix("token:")?.parse().ok()).collect();
        let text = self.patterns(subject.to_vec());
        if rules.is_empty() {
            return text;
        }
        let mut tokens: Vec<Vec<u8>> = text.split(|b| *b == b'.').map(<[u8]>::to_vec).collect();
        for n in rules {
            let index = if n >= 0 { Some(n as usize) } else { tokens.len().checked_sub(n.unsigned_abs() as usize) };
            if let Some(token) = index.and_then(|index| tokens.get_mut(index)) {
                *token = pseudonym(&self.policy.secret, token);
                self.redacted.count("pseudonyms");
            }
        }
        tokens.join(&b'.')
    }

    fn headers(&mut self, block: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in block.split_inclusive(|b| *b == b'\n') {
            let Some(colon) = line.iter().position(|b| *b == b':') else {
                out.extend_from_slice(line);
                continue;
            };
            let (name, value) = (String::from_utf8_lossy(&line[..colon]).into_owned(), &line[colon + 1..]);
            if self.policy.drop_headers.iter().any(|dropped| dropped.eq_ignore_ascii_case(&name)) {
                self.redacted.count("dropped");
                continue;
            }
            out.extend_from_slice(&line[..=colon]);
            if is_secret(&name) {
                self.redacted.count("credentials");
                out.extend(value.iter().map(filled));
            } else if self.policy.pseudonym.iter().any(|rule| rule.strip_prefix("header:") == Some(&name)) {
                self.redacted.count("pseudonyms");
                let trimmed = value.trim_ascii();
                let start = value.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(0);
                out.extend_from_slice(&value[..start]);
                out.extend(pseudonym(&self.policy.secret, trimmed));
                out.extend_from_slice(&value[start + trimmed.len()..]);
            } else {
                let value = self.patterns(value.to_vec());
                out.extend(value);
            }
        }
        out
    }

    fn payload(&mut self, payload: Vec<u8>) -> Vec<u8> {
        let Ok(mut body) = serde_json::from_slice::<Value>(&payload) else { return self.patterns(payload) };
        let before = self.redacted.clone();
        self.value(&mut body, "", "");
        // What nothing was found in stays as it was, to the byte.
        let payload = if self.redacted == before { payload } else { serde_json::to_vec(&body).expect("it was JSON") };
        self.patterns(payload)
    }

    fn value(&mut self, value: &mut Value, at: &str, name: &str) {
        let by = |rules: &[String]| rules.iter().any(|rule| fits(rule, at));
        match value {
            Value::Object(fields) => {
                let dropped: Vec<String> =
                    fields.keys().filter(|key| self.policy.drop.iter().any(|rule| fits(rule, &format!("{at}/{key}")))).cloned().collect();
                for key in dropped {
                    fields.remove(&key);
                    self.redacted.count("dropped");
                }
                fields.iter_mut().for_each(|(key, field)| self.value(field, &format!("{at}/{key}"), key));
            }
            Value::Array(items) => items.iter_mut().enumerate().for_each(|(i, item)| self.value(item, &format!("{at}/{i}"), name)),
            Value::String(text) if is_secret(name) => {
                self.redacted.count("credentials");
                *text = fill(text);
            }
            Value::Number(_) if is_secret(name) => {
                self.redacted.count("credentials");
                *value = 0.into();
            }
            Value::String(text) if by(&self.policy.text) => {
                self.redacted.count("texts");
                *text = fill(text);
            }
            Value::String(text) if by(&self.policy.pseudonym) => {
                self.redacted.count("pseudonyms");
                *text = String::from_utf8_lossy(&pseudonym(&self.policy.secret, text.as_bytes())).into_owned();
            }
            _ => {}
        }
    }

    /// Tokens, users of URLs, parameters of such names, and emails, wherever they stand.
    fn patterns(&mut self, mut text: Vec<u8>) -> Vec<u8> {
        let users = self.user.find(&text);
        self.redacted.take(self.user.what, &mut text, &users);
        for pattern in &self.others {
            let found = pattern.find(&text);
            self.redacted.take(pattern.what, &mut text, &found);
        }
        let mut emails = self.email.find(&text);
        // The host of a URL with a user is no part of an address.
        emails.retain(|email| !users.iter().any(|user| email.contains(&user.end)));
        self.redacted.take(self.email.what, &mut text, &emails);
        text
    }
}

/// Letters and digits give way; what is between them stays, so that the shape does.
fn filled(byte: &u8) -> u8 {
    if byte.is_ascii_alphanumeric() { FILLER } else { *byte }
}

/// Filler of the same length in bytes.
fn fill(text: &str) -> String {
    text.chars().map(|c| if c.is_whitespace() { c.to_string() } else { "x".repeat(c.len_utf8()) }).collect()
}

/// Another name of the same shape: letters for letters, digits for digits; the same for the same name and key (HMAC-SHA256 in counter mode).
pub(crate) fn pseudonym(key: &[u8], name: &[u8]) -> Vec<u8> {
    let block = |n: u32| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
        mac.update(name);
        mac.update(&n.to_le_bytes());
        mac.finalize().into_bytes()
    };
    let stream = (0..).flat_map(block);
    let other = |(byte, draw): (&u8, u8)| match byte {
        b'a'..=b'z' => b'a' + draw % 26,
        b'A'..=b'Z' => b'A' + draw % 26,
        b'0'..=b'9' => b'0' + draw % 10,
        other => *other,
    };
    name.iter().zip(stream).map(other).collect()
}

/// Whether a pointer is one that a rule with `*` stands for.
fn fits(rule: &str, pointer: &str) -> bool {
    let (mut rule, mut pointer) = (rule.split('/'), pointer.split('/'));
    loop {
        match (rule.next(), pointer.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subject: &str, headers: &str, payload: &str) -> Captured {
        Captured { t_ns: 1, subject: subject.into(), reply: Vec::new(), headers: headers.into(), payload: payload.into() }
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn credentials_go_by_default() {
        let mut redactor = Redactor::new(Policy::default());
        let headers = "NATS/1.0\r\nAuthorization: Bearer abc.def-123456\r\nX-Kind: a\r\n\r\n";
        let payload = r#"{"user":"ann@example.org","password":"hunter2","note":"call bob@x.io, Basic QWxhZGRpbjpvcGVu","pin_token":4711,"id":"Zk3Qp0aVb81LmNcT7xYu"}"#;
        let out = redactor.redact(message("a.b", headers, payload));
        let all = format!("{}{}", text(&out.headers), text(&out.payload));
        for secret in ["abc.def", "ann@", "example.org", "hunter2", "bob@", "QWxh", "4711"] {
            assert!(!all.contains(secret), "{secret} in {all}");
        }
        assert!(all.contains("X-Kind: a") && all.contains("Zk3Qp0aVb81LmNcT7xYu") && all.contains("xxx@xxxxxxx.xxx"));
        assert_eq!(out.headers.len(), headers.len());
        assert_eq!(redactor.redacted.0["emails"], 2);
        let plain = r#"{ "b":1,  "a":"as it was" }"#;
        assert_eq!(text(&redactor.redact(message("a", "", plain)).payload), plain);
        assert_eq!(text(&redactor.redact(message("a", "", "no json, c@d.ee")).payload), "no json, x@x.xx");
    }

    #[test]
    fn secrets_of_urls_and_forms_go_and_hosts_stay() {
        for (text, wanted) in [
            ("http://ann:hunter2@shop.test/a", "http://xxx:xxxxxxx@shop.test/a"),
            ("see https://hunter2@h/, mail ann@shop.test", "see https://xxxxxxx@h/, mail xxx@xxxx.xxxx"),
            ("/v1?access_token=hunter-2&count=3#top", "/v1?access_token=xxxxxx-x&count=3#top"),
            ("user=ann&password=hunter2", "user=ann&password=xxxxxxx"),
            ("/users/@me?a=b", "/users/@me?a=b"),
            (r#"{"at":"http://h","to":"ann@shop.test"}"#, r#"{"at":"http://h","to":"xxx@xxxx.xxxx"}"#),
        ] {
            let mut redactor = Redactor::new(Policy::default());
            assert_eq!(self::text(&redactor.redact(message("a", "", text)).payload), wanted);
            assert_eq!(redactor.redacted.0.get("credentials").copied().unwrap_or(0), u64::from(text.contains("hunter")));
        }
    }

    #[test]
    fn a_policy_names_texts_names_and_what_goes() {
        let policy = r#"
            key = "env:K"
            text = ["/content", "/list/*/msg"]
            pseudonym = ["token:2", "/sender/account"]
            drop = ["/attachments"]
            drop_headers = ["X-Debug"]"#;
        let mut redactor = Redactor::new(Policy::parse(policy, |_| Some("k".into())).unwrap());
        let payload = r#"{"content":"häuser on fire","sender":{"account":"user-7"},"attachments":["x"],"list":[{"msg":"hi"}]}"#;
        let out = redactor.redact(message("chat.user.user-7.x", "NATS/1.0\r\nX-Debug: flow\r\n\r\n", payload));
        let body: Value = serde_json::from_slice(&out.payload).unwrap();
        let subject = text(&out.subject).split('.').nth(2).unwrap().to_owned();
        assert_eq!(body["sender"]["account"], subject.as_str(), "equal names stay equal");
        assert!(subject != "user-7" && subject.len() == 6 && subject.as_bytes()[4] == b'-');
        assert_eq!(body["content"].as_str().unwrap(), "xxxxxxx xx xxxx");
        assert_eq!((&body["attachments"], body["list"][0]["msg"].as_str()), (&Value::Null, Some("xx")));
        assert_eq!(text(&out.headers), "NATS/1.0\r\n\r\n");
    }

    #[test]
    fn a_policy_that_cannot_be_is_one_sentence() {
        let parse = |text: &str| Policy::parse(text, |_| None).unwrap_err();
        assert!(parse("pseudonym = [\"/a\"]").contains("pseudonyms need a key"));
        assert!(parse("key = \"env:NOT_SET\"").contains("the variable NOT_SET is not set"));
        assert!(parse("key = \"hunter2\"").contains("a key does not stand in the policy"));
        assert!(parse("text = [\"content\"]").contains("`content` is not a JSON pointer"));
        assert!(parse("texts = [\"/content\"]").contains("unknown field `texts`"));
    }
}
