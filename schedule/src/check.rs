use crate::Known;
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What must hold of an answer, or of what was sent for it.
///
/// ```text
/// status == 201                            of a response over HTTP
/// header content-type contains json
/// bytes < 100000                           of the body, or of a frame
/// body matches "ab+"      body lacks [0-9]{3}-[0-9]{2}-[0-9]{4}
/// /results length >= 1                     a JSON pointer into the body
/// /state == "done"        /price is number        /error absent
/// /results length == sent:/count           … compared with one into what was sent
/// sent:/text length <= 160                 … or asked of that
/// /results/*/id in worker.id               each that a * finds is in a column of a table of the workload
/// /results/*/id distinct                   none of them twice; `same`: all of them equal
/// /results/*/id disjoint sent:/exclude     none of them there
/// /results/* agree with worker by id       each has what the table's row with its id has
/// body conforms {"type":"object"}          to a JSON Schema
/// ```
///
/// ```
/// use schedule::{Check, Known, Response};
/// let body = br#"{"results":[{"id":7}]}"#;
/// let response = Response { status: 200, header: &|_| None, body, json: serde_json::from_slice(body).ok(), sent: None, known: &Known::default() };
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
    /// Its status; 200 where there is none.
    pub status: u16,
    /// The value of a header.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
    /// The body, if it is JSON.
    pub json: Option<Value>,
    /// The body of what it answers, if that is JSON.
    pub sent: Option<Value>,
    /// The tables that checks name.
    pub known: &'a Known,
}

#[derive(Debug, Clone, PartialEq)]
enum Subject {
    Status,
    Bytes,
    Body,
    Header(String),
    /// A JSON pointer into the body.
    Json(String),
    /// A JSON pointer into what was sent.
    Sent(String),
}

#[derive(Debug, Clone)]
enum Condition {
    Exists(bool),
    Is(Kind),
    Length(Operator, Operand),
    Compares(Operator, Operand),
    Contains(String),
    Matches(Box<Regex>, bool),
    Conforms(Arc<jsonschema::Validator>),
    /// In this column of this table.
    In(String, String),
    /// With the row of this table that has the same value in this column.
    Agrees(String, String),
    Distinct,
    Same,
    /// With what this pointer finds in what was sent.
    Disjoint(String),
}

/// What is compared with.
#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Literal(Value),
    /// What this pointer finds in what was sent.
    Sent(String),
}

impl Operand {
    fn value<'a>(&'a self, response: &'a Response<'_>) -> Option<&'a Value> {
        match self {
            Operand::Literal(value) => Some(value),
            Operand::Sent(pointer) => response.sent.as_ref()?.pointer(pointer),
        }
    }
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
        let (subject, rest) =
            subject(text.trim()).ok_or_else(|| bad("is about none of status, bytes, body, header NAME, /POINTER, sent:/POINTER"))?;
        let condition = condition(rest).map_err(|what| bad(&what))?;
        let fits = match (&subject, &condition) {
            (Subject::Status | Subject::Bytes, Condition::Compares(_, Operand::Literal(value))) => value.is_number(),
            (Subject::Body, Condition::Contains(_) | Condition::Matches(..) | Condition::Conforms(_)) => true,
            (Subject::Header(_), Condition::Exists(_) | Condition::Contains(_) | Condition::Matches(..)) => true,
            (Subject::Header(_), Condition::Compares(Operator::Equal | Operator::NotEqual, Operand::Literal(value))) => value.is_string(),
            (Subject::Json(_) | Subject::Sent(_), _) => true,
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
        other => Subject::Sent(sent(other)?),
    };
    Some((subject, rest))
}

/// The pointer of `sent:/POINTER`.
fn sent(text: &str) -> Option<String> {
    text.strip_prefix("sent:").filter(|pointer| pointer.starts_with('/')).map(str::to_owned)
}

fn operand(text: &str) -> Option<Operand> {
    let literal = || Operand::Literal(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())));
    (!text.is_empty()).then(|| sent(text).map_or_else(literal, Operand::Sent))
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
        "distinct" if rest.is_empty() => Ok(Condition::Distinct),
        "same" if rest.is_empty() => Ok(Condition::Same),
        "is" => kind(rest).map(Condition::Is),
        "length" => {
            let parts = rest.split_once(' ').and_then(|(word, n)| Some((Operator::parse(word)?, operand(n.trim())?)));
            let number = |operand: &Operand| !matches!(operand, Operand::Literal(value) if !value.is_number());
            let parts = parts.filter(|(_, operand)| number(operand));
            parts.map(|(operator, n)| Condition::Length(operator, n)).ok_or_else(|| format!("`length {rest}` is not length >= N"))
        }
        "contains" if !rest.is_empty() => Ok(Condition::Contains(quoted(rest))),
        "matches" if !rest.is_empty() => regex(true),
        "lacks" if !rest.is_empty() => regex(false),
        "conforms" => schema(rest),
        "disjoint" => sent(rest).map(Condition::Disjoint).ok_or_else(|| format!("`disjoint {rest}` is not disjoint sent:/POINTER")),
        "in" => match rest.split_once('.') {
            Some((table, column)) => Ok(Condition::In(table.to_owned(), column.to_owned())),
            None => Err(format!("`in {rest}` is not in TABLE.COLUMN")),
        },
        "agree" => match rest.split_whitespace().collect::<Vec<_>>()[..] {
            ["with", table, "by", column] => Ok(Condition::Agrees(table.to_owned(), column.to_owned())),
            _ => Err(format!("`agree {rest}` is not agree with TABLE by COLUMN")),
        },
        word => match (Operator::parse(word), operand(rest)) {
            (Some(operator), Some(operand)) => Ok(Condition::Compares(operator, operand)),
            _ => Err(format!(
                "`{word}` is none of ==, !=, <, <=, >, >=, exists, absent, is, length, contains, matches, lacks, conforms, in, agree, distinct, same, disjoint"
            )),
        },
    }
}

fn kind(name: &str) -> Result<Kind, String> {
    let kinds = [
        ("null", Kind::Null),
        ("bool", Kind::Bool),
        ("number", Kind::Number),
        ("string", Kind::String),
        ("array", Kind::Array),
        ("object", Kind::Object),
    ];
    let kind = kinds.into_iter().find(|(known, _)| *known == name);
    kind.map(|(_, kind)| kind).ok_or_else(|| format!("`{name}` is none of null, bool, number, string, array, object"))
}

fn schema(text: &str) -> Result<Condition, String> {
    let json: Value = serde_json::from_str(text).map_err(|e| format!("its JSON Schema is no JSON: {e}"))?;
    let validator = jsonschema::validator_for(&json).map_err(|e| format!("its JSON Schema: {e}"))?;
    Ok(Condition::Conforms(Arc::new(validator)))
}

impl Check {
    /// Whether it is about the status: then that decides, and not whether it is one of success.
    pub fn is_about_status(&self) -> bool {
        self.subject == Subject::Status
    }

    /// Whether it is about a header of the response.
    pub fn is_about_headers(&self) -> bool {
        matches!(self.subject, Subject::Header(_))
    }

    /// The table that it looks things up in, and the column.
    ///
    /// ```
    /// let check: schedule::Check = "/results/*/id in worker.id".parse().unwrap();
    /// assert_eq!(check.table(), Some(("worker", "id")));
    /// ```
    pub fn table(&self) -> Option<(&str, &str)> {
        match &self.condition {
            Condition::In(table, column) | Condition::Agrees(table, column) => Some((table, column)),
            _ => None,
        }
    }

    /// Whether it is about what was sent.
    pub fn is_about_sent(&self) -> bool {
        let compared = match &self.condition {
            Condition::Length(_, operand) | Condition::Compares(_, operand) => matches!(operand, Operand::Sent(_)),
            Condition::Disjoint(_) => true,
            _ => false,
        };
        compared || matches!(self.subject, Subject::Sent(_))
    }

    /// Whether it holds.
    pub fn holds(&self, response: &Response<'_>) -> bool {
        let of = |json: &Option<Value>, pointer: &str| json.as_ref().map(|json| find(json, pointer)).unwrap_or_default();
        let (found, each) = match &self.subject {
            Subject::Status => (vec![Value::from(response.status)], false),
            Subject::Bytes => (vec![Value::from(response.body.len())], false),
            Subject::Header(name) => ((response.header)(name).map(Value::from).into_iter().collect(), false),
            Subject::Json(pointer) => (of(&response.json, pointer), pointer.contains("/*")),
            Subject::Sent(pointer) => (of(&response.sent, pointer), pointer.contains("/*")),
            Subject::Body => {
                return match &self.condition {
                    Condition::Conforms(schema) => response.json.as_ref().is_some_and(|json| schema.is_valid(json)),
                    condition => text_holds(condition, response.body),
                };
            }
        };
        let items = || if each { Some(&found) } else { found.first().and_then(Value::as_array) };
        match &self.condition {
            Condition::Exists(wanted) => found.is_empty() != *wanted,
            Condition::Distinct => items().is_some_and(|items| {
                let mut seen = HashSet::new();
                items.iter().all(|item| seen.insert(item.to_string()))
            }),
            Condition::Same => items().is_some_and(|items| items.windows(2).all(|pair| pair[0] == pair[1])),
            Condition::Disjoint(pointer) => items().is_some_and(|items| {
                let there = of(&response.sent, pointer);
                let there = there.first().and_then(Value::as_array).unwrap_or(&there);
                items.iter().all(|item| !there.contains(item))
            }),
            condition => (each || !found.is_empty()) && found.iter().all(|value| value_holds(condition, value, response)),
        }
    }
}

fn value_holds(condition: &Condition, found: &Value, response: &Response<'_>) -> bool {
    match condition {
        Condition::Is(kind) => kind_of(found) == *kind,
        Condition::Length(operator, n) => {
            let (found, n) = (length(found), n.value(response).and_then(Value::as_f64));
            found.zip(n).is_some_and(|(found, n)| operator.holds(found.partial_cmp(&n)))
        }
        Condition::Compares(operator, value) => value.value(response).is_some_and(|value| operator.holds(compare(found, value))),
        Condition::Conforms(schema) => schema.is_valid(found),
        Condition::In(table, column) => response.known.row(table, column, &text(found)).is_some(),
        Condition::Agrees(table, column) => {
            let key = found.get(column).map(text);
            let row = key.and_then(|key| response.known.row(table, column, &key));
            row.is_some_and(|row| row.iter().all(|(name, value)| found.get(name).is_none_or(|found| text(found) == *value)))
        }
        condition => text_holds(condition, text(found).as_bytes()),
    }
}

fn text_holds(condition: &Condition, text: &[u8]) -> bool {
    match condition {
        Condition::Contains(part) => part.is_empty() || text.windows(part.len()).any(|window| window == part.as_bytes()),
        Condition::Matches(regex, wanted) => regex.is_match(text) == *wanted,
        _ => false,
    }
}

/// What a pointer finds; a `*` in it stands for each item of an array.
fn find(json: &Value, pointer: &str) -> Vec<Value> {
    let Some((before, after)) = pointer.split_once("/*") else { return json.pointer(pointer).cloned().into_iter().collect() };
    let items = json.pointer(before).and_then(Value::as_array);
    items.into_iter().flatten().flat_map(|item| find(item, after)).collect()
}

/// A text as it is, anything else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
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
    use crate::Table;

    #[test]
    fn checks_hold_or_not() {
        let body = br#"{"list":[1,2],"text":"a b","n":2.5,"no":null,"deep":{"x":true}}"#;
        let header = |name: &str| name.eq_ignore_ascii_case("content-type").then_some("application/json");
        let response =
            Response { status: 201, header: &header, body, json: serde_json::from_slice(body).ok(), sent: None, known: &Known::default() };
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
        let plain = Response { status: 200, header: &|_| None, body: b"no json", json: None, sent: None, known: &Known::default() };
        assert!(!"/a exists".parse::<Check>().unwrap().holds(&plain) && "/a absent".parse::<Check>().unwrap().holds(&plain));
    }

    #[test]
    fn lists_tables_and_what_was_sent() {
        let csv = |rows: &[[&str; 3]]| {
            let columns = ["id", "role", "city"].map(str::to_owned).to_vec();
            Table { columns, rows: rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect() }
        };
        let table = csv(&[["1", "cook", "Bonn"], ["2", "cook", "Bonn"], ["3", "nurse", "Kiel"]]);
        let known = Known::new(&[("worker".to_owned(), table)].into());
        let holds = |text: &str, body: &str, sent: &str| {
            let json = |text: &str| serde_json::from_str(text).ok();
            let response =
                Response { status: 200, header: &|_| None, body: body.as_bytes(), json: json(body), sent: json(sent), known: &known };
            text.parse::<Check>().unwrap().holds(&response)
        };
        let body = r#"{"found":[{"id":1,"role":"cook"},{"id":"2","role":"cook"}],"ids":[1,2,2]}"#;
        let sent = r#"{"count":2,"exclude":[3,4],"text":"call 555-123-4567"}"#;
        for (text, expected) in [
            ("/found length == sent:/count", true),
            ("/ids length == sent:/count", false),
            ("/found length == sent:/absent", false),
            ("/found/*/id in worker.id", true),
            ("/ids/* in worker.city", false),
            ("/none/*/id in worker.id", true),
            ("/none/*/id exists", false),
            ("/found/*/id distinct", true),
            ("/ids distinct", false),
            ("/ids/* distinct", false),
            ("/count distinct", false),
            ("/found/*/role same", true),
            ("/ids same", false),
            ("/ids disjoint sent:/exclude", true),
            ("/ids disjoint sent:/absent", true),
            ("sent:/exclude/* >= 3", true),
            ("sent:/text length <= 160", true),
            ("sent:/text lacks \\b[0-9]{3}-[0-9]{2}-[0-9]{4}\\b", true),
            ("/found/* agree with worker by id", true),
            ("/found/*/role == cook", true),
            ("/found/*/role == nurse", false),
            ("/found/* is object", true),
            ("body conforms {\"required\":[\"found\"]}", true),
            ("body conforms {\"required\":[\"lost\"]}", false),
            ("/found conforms {\"items\":{\"properties\":{\"role\":{\"type\":\"string\"}}}}", true),
            ("/ids conforms {\"items\":{\"type\":\"string\"}}", false),
        ] {
            assert_eq!(holds(text, body, sent), expected, "{text}");
        }
        assert!(!holds("/ids disjoint sent:/exclude", r#"{"ids":[4]}"#, sent));
        for wrong in [r#"{"found":[{"id":3,"role":"cook"}]}"#, r#"{"found":[{"id":9}]}"#, r#"{"found":[{"role":"cook"}]}"#] {
            assert!(!holds("/found/* agree with worker by id", wrong, sent), "{wrong}");
        }
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
            ("/a in worker", "is not in TABLE.COLUMN"),
            ("/a agree worker", "is not agree with TABLE by COLUMN"),
            ("/a disjoint /b", "is not disjoint sent:/POINTER"),
            ("body conforms {", "its JSON Schema is no JSON"),
            ("body conforms {\"type\":\"text\"}", "its JSON Schema"),
            ("sent:x == 1", "is about none of"),
        ] {
            let why = text.parse::<Check>().unwrap_err();
            assert!(why.contains(told) && why.starts_with(&format!("check `{text}`")), "{why}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}", body in ".{0,60}") {
            let response = Response { status: 200, header: &|_| Some("x"), body: body.as_bytes(), json: serde_json::from_str(&body).ok(), sent: serde_json::from_str(&body).ok(), known: &Known::default() };
            for text in [text.clone(), format!("/a {text}"), format!("body matches {text}")] {
                if let Ok(check) = text.parse::<Check>() {
                    let _ = check.holds(&response);
                }
            }
        }
    }
}
