use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// What must hold of a response: `status == 201`, `bytes < 100000`, `header content-type contains json`, `body matches "ab+"`,
/// `/results length >= 1`, `/state == "done"`, `/price is number`, `/error absent`.
///
/// ```
/// use schedule::{Check, Response};
/// let body = br#"{"results":[{"id":7}]}"#;
/// let response = Response { status: 200, header: &|_| None, body, json: serde_json::from_slice(body).ok() };
/// let holds = |text: &str| text.parse::<Check>().unwrap().holds(&response);
/// assert!(holds("/results length >= 1") && holds("/results/0/id == 7") && holds("status < 300"));
/// assert!(!holds("/results/0/id is string") && !holds("/results/1 exists"));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Check {
    subject: Subject,
    condition: Condition,
    text: String,
}

/// What a check is asked of.
pub struct Response<'a> {
    /// Its status.
    pub status: u16,
    /// The value of a header.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
    /// The body, if it is JSON.
    pub json: Option<Value>,
}

#[derive(Debug, Clone, PartialEq)]
enum Subject {
    Status,
    Bytes,
    Body,
    Header(String),
    /// A JSON pointer.
    Json(String),
}

#[derive(Debug, Clone)]
enum Condition {
    Exists(bool),
    Is(Kind),
    Length(Operator, f64),
    Compares(Operator, Value),
    Contains(String),
    Matches(Box<Regex>, bool),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Operator {
    fn parse(text: &str) -> Option<Operator> {
        let all = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<", Operator::Less),
            ("<=", Operator::AtMost),
            (">", Operator::More),
            (">=", Operator::AtLeast),
        ];
        all.into_iter().find(|(word, _)| *word == text).map(|(_, operator)| operator)
    }

    fn holds(self, found: Option<Ordering>) -> bool {
        match self {
            Operator::Equal => found == Some(Ordering::Equal),
            Operator::NotEqual => found != Some(Ordering::Equal),
            Operator::Less => found == Some(Ordering::Less),
            Operator::AtMost => matches!(found, Some(Ordering::Less | Ordering::Equal)),
            Operator::More => found == Some(Ordering::Greater),
            Operator::AtLeast => matches!(found, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

impl FromStr for Check {
    type Err = String;
    fn from_str(text: &str) -> Result<Check, String> {
        let bad =
            |what: &str| format!("check `{text}`: {what}; write status == 200, /items length >= 1, /state == \"done\", header NAME exists");
        let (subject, rest) = subject(text.trim()).ok_or_else(|| bad("is about none of status, bytes, body, header NAME, /POINTER"))?;
        let condition = condition(rest).map_err(|what| bad(&what))?;
        let fits = match (&subject, &condition) {
            (Subject::Status | Subject::Bytes, Condition::Compares(_, value)) => value.is_number(),
            (Subject::Body, Condition::Contains(_) | Condition::Matches(..)) => true,
            (Subject::Header(_), Condition::Exists(_) | Condition::Contains(_) | Condition::Matches(..)) => true,
            (Subject::Header(_), Condition::Compares(Operator::Equal | Operator::NotEqual, value)) => value.is_string(),
            (Subject::Json(_), _) => true,
            _ => false,
        };
        if fits { Ok(Check { subject, condition, text: text.trim().to_owned() }) } else { Err(bad("asks what cannot be asked of it")) }
    }
}

impl TryFrom<String> for Check {
    type Error = String;
    fn try_from(text: String) -> Result<Check, String> {
        text.parse()
    }
}

impl From<Check> for String {
    fn from(check: Check) -> String {
        check.text
    }
}

impl PartialEq for Check {
    fn eq(&self, other: &Check) -> bool {
        self.text == other.text
    }
}

impl Eq for Check {}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn subject(text: &str) -> Option<(Subject, &str)> {
    let (word, rest) = text.split_once(' ')?;
    let subject = match word {
        "status" => Subject::Status,
        "bytes" => Subject::Bytes,
        "body" => Subject::Body,
        "header" => {
            let (name, rest) = rest.trim_start().split_once(' ')?;
            return Some((Subject::Header(name.to_owned()), rest));
        }
        pointer if pointer.starts_with('/') => Subject::Json(pointer.to_owned()),
        _ => return None,
    };
    Some((subject, rest))
}

fn condition(text: &str) -> Result<Condition, String> {
    let (word, rest) = text.trim().split_once(' ').map_or((text.trim(), ""), |(word, rest)| (word, rest.trim()));
    let quoted = |rest: &str| serde_json::from_str::<String>(rest).unwrap_or_else(|_| rest.to_owned());
    let regex = |holds: bool| match Regex::new(&quoted(rest)) {
        Ok(regex) => Ok(Condition::Matches(Box::new(regex), holds)),
        Err(e) => Err(e.to_string().replace('\n', " ")),
    };
    match word {
        "exists" if rest.is_empty() => Ok(Condition::Exists(true)),
        "absent" if rest.is_empty() => Ok(Condition::Exists(false)),
        "is" => {
            let kinds = [
                ("null", Kind::Null),
                ("bool", Kind::Bool),
                ("number", Kind::Number),
                ("string", Kind::String),
                ("array", Kind::Array),
                ("object", Kind::Object),
            ];
            let kind = kinds.into_iter().find(|(name, _)| *name == rest);
            kind.map(|(_, kind)| Condition::Is(kind))
                .ok_or_else(|| format!("`{rest}` is none of null, bool, number, string, array, object"))
        }
        "length" => {
            let parts = rest.split_once(' ').and_then(|(word, n)| Some((Operator::parse(word)?, n.trim().parse().ok()?)));
            parts.map(|(operator, n)| Condition::Length(operator, n)).ok_or_else(|| format!("`length {rest}` is not length >= N"))
        }
        "contains" if !rest.is_empty() => Ok(Condition::Contains(quoted(rest))),
        "matches" if !rest.is_empty() => regex(true),
        "lacks" if !rest.is_empty() => regex(false),
        word => match (Operator::parse(word), serde_json::from_str(rest)) {
            (Some(operator), Ok(value)) => Ok(Condition::Compares(operator, value)),
            (Some(operator), Err(_)) if !rest.is_empty() => Ok(Condition::Compares(operator, Value::String(rest.to_owned()))),
            _ => Err(format!("`{word}` is none of ==, !=, <, <=, >, >=, exists, absent, is, length, contains, matches, lacks")),
        },
    }
}

impl Check {
    /// Whether it is about the status: then that decides, and not whether it is one of success.
    pub fn is_about_status(&self) -> bool {
        self.subject == Subject::Status
    }

    /// Whether it holds.
    pub fn holds(&self, response: &Response<'_>) -> bool {
        let found = match &self.subject {
            Subject::Status => Some(Value::from(response.status)),
            Subject::Bytes => Some(Value::from(response.body.len())),
            Subject::Header(name) => (response.header)(name).map(Value::from),
            Subject::Json(pointer) => response.json.as_ref().and_then(|json| json.pointer(pointer)).cloned(),
            Subject::Body => return self.text_holds(response.body),
        };
        match (&self.condition, found) {
            (Condition::Exists(wanted), found) => found.is_some() == *wanted,
            (_, None) => false,
            (Condition::Contains(_) | Condition::Matches(..), Some(found)) => {
                self.text_holds(found.as_str().map_or_else(|| found.to_string(), str::to_owned).as_bytes())
            }
            (Condition::Is(kind), Some(found)) => kind_of(&found) == *kind,
            (Condition::Length(operator, n), Some(found)) => length(&found).is_some_and(|found| operator.holds(found.partial_cmp(n))),
            (Condition::Compares(operator, value), Some(found)) => operator.holds(compare(&found, value)),
        }
    }

    fn text_holds(&self, text: &[u8]) -> bool {
        match &self.condition {
            Condition::Contains(part) => part.is_empty() || text.windows(part.len()).any(|window| window == part.as_bytes()),
            Condition::Matches(regex, wanted) => regex.is_match(text) == *wanted,
            _ => false,
        }
    }
}

fn kind_of(value: &Value) -> Kind {
    match value {
        Value::Null => Kind::Null,
        Value::Bool(_) => Kind::Bool,
        Value::Number(_) => Kind::Number,
        Value::String(_) => Kind::String,
        Value::Array(_) => Kind::Array,
        Value::Object(_) => Kind::Object,
    }
}

fn length(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => Some(text.chars().count() as f64),
        Value::Array(items) => Some(items.len() as f64),
        Value::Object(fields) => Some(fields.len() as f64),
        _ => None,
    }
}

/// Numbers by size, texts by their characters; others are equal or not to be compared.
fn compare(found: &Value, value: &Value) -> Option<Ordering> {
    match (found, value) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) => (a == b).then_some(Ordering::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_hold_or_not() {
        let body = br#"{"list":[1,2],"text":"a b","n":2.5,"no":null,"deep":{"x":true}}"#;
        let header = |name: &str| name.eq_ignore_ascii_case("content-type").then_some("application/json");
        let response = Response { status: 201, header: &header, body, json: serde_json::from_slice(body).ok() };
        for (text, expected) in [
            ("status == 201", true),
            ("status < 201", false),
            ("bytes <= 1000", true),
            ("bytes > 1000", false),
            ("header content-type contains json", true),
            ("header content-type == application/json", true),
            ("header content-type == \"text/html\"", false),
            ("header x-other absent", true),
            ("header x-other exists", false),
            ("body matches \"list.*text\"", true),
            ("body lacks [0-9]{4}", true),
            ("body contains \"a b\"", true),
            ("/list length == 2", true),
            ("/list length > 2", false),
            ("/text length == 3", true),
            ("/text == \"a b\"", true),
            ("/text != \"c\"", true),
            ("/text matches ^a", true),
            ("/n >= 2.5", true),
            ("/n < 2", false),
            ("/n is number", true),
            ("/list is object", false),
            ("/no is null", true),
            ("/no exists", true),
            ("/deep/x == true", true),
            ("/absent == 1", false),
            ("/absent != 1", false),
            ("/absent absent", true),
            ("/list/5 exists", false),
        ] {
            assert_eq!(text.parse::<Check>().unwrap().holds(&response), expected, "{text}");
        }
        let plain = Response { status: 200, header: &|_| None, body: b"no json", json: None };
        assert!(!"/a exists".parse::<Check>().unwrap().holds(&plain) && "/a absent".parse::<Check>().unwrap().holds(&plain));
    }

    #[test]
    fn what_is_no_check_is_one_sentence() {
        for (text, told) in [
            ("results == 1", "is about none of status, bytes, body"),
            ("status", "is about none of"),
            ("status == ok", "asks what cannot be asked of it"),
            ("body == x", "asks what cannot be asked of it"),
            ("/a is text", "`text` is none of null, bool"),
            ("/a length many", "is not length >= N"),
            ("/a ~ 5", "`~` is none of =="),
            ("body matches (", "unclosed group"),
        ] {
            let why = text.parse::<Check>().unwrap_err();
            assert!(why.contains(told) && why.starts_with(&format!("check `{text}`")), "{why}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}", body in ".{0,60}") {
            let response = Response { status: 200, header: &|_| Some("x"), body: body.as_bytes(), json: serde_json::from_str(&body).ok() };
            for text in [text.clone(), format!("/a {text}"), format!("body matches {text}")] {
                if let Ok(check) = text.parse::<Check>() {
                    let _ = check.holds(&response);
                }
            }
        }
    }
}
