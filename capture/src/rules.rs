use regex::bytes::Regex;
use schedule::AnswerRule;

/// How captured messages are understood.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Which messages are answers, and whose; what comes to the inbox of a request is one anyway.
    pub answers: Vec<AnswerRule>,
    /// What is an id besides UUIDs and message ids, see [`find_by`](crate::ids::find_by).
    pub ids: Vec<Regex>,
    /// Names of actions by subject, with wildcards; the first that fits. Otherwise an action is named after the end of its subject.
    pub actions: Vec<(String, String)>,
    /// Who sends.
    pub session: Session,
    /// JetStream streams whose consumers are the target's backlog in a replay.
    pub streams: Vec<String>,
    /// Answers are waited for so long, ns.
    pub timeout_ns: i64,
}

/// What tells one client from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Session {
    /// Everything is of one.
    #[default]
    One,
    /// A token of the subject, from 0; negative counts from the end.
    Token(i32),
    /// A header.
    Header(String),
    /// A JSON pointer into the body.
    Json(String),
    /// What the reply inboxes of a client have in common: all but their last token.
    Inbox,
}

impl std::str::FromStr for Session {
    type Err = String;
    fn from_str(text: &str) -> Result<Session, String> {
        let bad = || format!("`{text}` is none of token:N, header:NAME, json:/POINTER, inbox, one");
        match text.split_once(':') {
            None if text == "inbox" => Ok(Session::Inbox),
            None if text == "one" => Ok(Session::One),
            Some(("token", n)) => n.parse().map(Session::Token).map_err(|_| bad()),
            Some(("header", name)) if !name.is_empty() => Ok(Session::Header(name.to_owned())),
            Some(("json", pointer)) if pointer.starts_with('/') => Ok(Session::Json(pointer.to_owned())),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_read() {
        assert_eq!("token:-2".parse(), Ok(Session::Token(-2)));
        assert!("tok:1".parse::<Session>().unwrap_err().contains("none of token:N"));
    }
}
