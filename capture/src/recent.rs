use crate::compose::{headers, pointers};
use runlog::Captured;
use std::collections::{HashMap, HashSet, VecDeque};

/// The ops of the last while, by the words in them: answers without an id are found by what they have in common.
#[derive(Default)]
pub(crate) struct Recent {
    ops: VecDeque<(i64, i64, HashSet<String>)>,
    /// Ops that have a word, in order.
    with: HashMap<String, VecDeque<i64>>,
}

impl Recent {
    /// Remembers an op, and forgets those that came before `since_ns`.
    pub fn push(&mut self, op: i64, message: &Captured, since_ns: i64) {
        self.forget(since_ns);
        let words = words(message);
        for word in &words {
            self.with.entry(word.clone()).or_default().push_back(op);
        }
        self.ops.push_back((op, message.t_ns, words));
    }

    fn forget(&mut self, since_ns: i64) {
        while let Some((op, _, words)) = self.ops.pop_front_if(|(_, t_ns, _)| *t_ns < since_ns) {
            for word in words {
                let Some(with) = self.with.get_mut(&word) else { continue };
                with.pop_front_if(|first| *first == op);
                if with.is_empty() {
                    self.with.remove(&word);
                }
            }
        }
    }

    /// The op since then that has the first of the texts, which says whose the answer is, and most of the others; the latest of those.
    pub fn op_of(&self, texts: &[String], since_ns: i64) -> Option<i64> {
        let (first, others) = texts.split_first()?;
        let oldest = self.ops.front()?.0;
        let candidates = self.with.get(first)?.iter().filter_map(|op| self.ops.get((op - oldest) as usize));
        let since = candidates.filter(|(_, t_ns, _)| *t_ns >= since_ns);
        since.max_by_key(|(op, _, words)| (others.iter().filter(|text| words.contains(*text)).count(), *op)).map(|(op, ..)| *op)
    }
}

/// Tokens of the subject, header values and texts of the body.
fn words(message: &Captured) -> HashSet<String> {
    let subject = String::from_utf8_lossy(&message.subject);
    let mut texts = Vec::new();
    pointers(&serde_json::from_slice(&message.payload).unwrap_or_default(), &mut String::new(), &mut texts);
    let values = headers(&message.headers).map(|(_, value)| value.to_owned());
    subject.split('.').map(str::to_owned).chain(values).chain(texts.into_iter().map(|(_, text)| text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(t_ns: i64, subject: &str, payload: &str) -> Captured {
        Captured { t_ns, subject: subject.into(), payload: payload.into(), reply: vec![], headers: vec![] }
    }

    #[test]
    fn the_op_that_has_most_in_common_is_found() {
        let mut recent = Recent::default();
        recent.push(0, &message(0, "chat.user.ann.hello", "{}"), -1);
        recent.push(1, &message(10, "chat.room.r1.add", r#"{"users":["bob"]}"#), 0);
        recent.push(2, &message(20, "chat.room.r1.add", r#"{"users":["cid"]}"#), 0);
        let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(recent.op_of(&texts(&["ann", "online"]), 0), Some(0));
        assert_eq!(recent.op_of(&texts(&["r1", "bob"]), 0), Some(1));
        assert_eq!(recent.op_of(&texts(&["r1", "nobody"]), 0), Some(2), "the latest");
        assert_eq!(recent.op_of(&texts(&["ann"]), 5), None, "too long ago");
        assert_eq!(recent.op_of(&texts(&["eve"]), 0), None);
        recent.push(3, &message(100, "chat.user.eve.hello", "{}"), 15);
        assert_eq!((recent.ops.len(), recent.with.contains_key("ann"), recent.op_of(&texts(&["cid"]), 15)), (2, false, Some(2)));
    }
}
