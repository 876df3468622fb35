//! NATS subjects: tokens between dots, and wildcards for them.

/// Whether a subject is one of those that a pattern stands for: `*` is any token, `>` at the end one or more.
///
/// ```
/// use schedule::subject::matches;
/// assert!(matches("a.*.c", "a.b.c") && matches("a.>", "a.b.c"));
/// assert!(!matches("a.*", "a.b.c") && !matches("a.>", "a"));
/// ```
pub fn matches(pattern: &str, subject: &str) -> bool {
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
///
/// ```
/// use schedule::subject::token;
/// assert_eq!((token("a.b.c", 1), token("a.b.c", -1), token("a", 4)), (Some("b"), Some("c"), None));
/// ```
pub fn token(subject: &str, n: i32) -> Option<&str> {
    if n >= 0 { subject.split('.').nth(n as usize) } else { subject.rsplit('.').nth((-1 - n) as usize) }
}
