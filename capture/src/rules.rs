use schedule::AnswerRule;

/// How captured messages are understood.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Which messages are answers, and whose; what comes to the inbox of a request is one anyway.
    pub answers: Vec<AnswerRule>,
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

/// Whether a subject is one of those that a pattern with wildcards stands for.
///
/// ```text
/// a.*.c   a.b.c     yes
/// a.>     a.b.c     yes
/// a.*     a.b.c     no
/// ```
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut tokens) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), tokens.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// Token `n` of a subject, from 0; negative counts from the end.
pub(crate) fn token(subject: &str, n: i32) -> Option<&str> {
    if n >= 0 { subject.split('.').nth(n as usize) } else { subject.rsplit('.').nth((-1 - n) as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_tokens() {
        assert!(matches("a.*.c", "a.b.c") && matches("a.>", "a.b.c") && matches("a.b", "a.b"));
        assert!(!matches("a.*", "a.b.c") && !matches("a.b.c", "a.b") && !matches("a.>", "a"));
        assert_eq!((token("a.b.c", 1), token("a.b.c", -1), token("a", 4)), (Some("b"), Some("c"), None));
        assert_eq!("token:-2".parse(), Ok(Session::Token(-2)));
        assert!("tok:1".parse::<Session>().unwrap_err().contains("none of token:N"));
    }
}
