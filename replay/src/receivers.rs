//! Connections that listen as users do, each to its own subjects, in place of one that listens to everything.

use crate::decode::Decoder;
use schedule::{AnswerKind, AnswerRule, Expect, Meta};
use std::collections::BTreeSet;

/// One that listens: a user, or several who share a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Who it is, where a subject does not say for whom a copy is.
    pub name: String,
    /// What it subscribes, each with the subject of the answer table that it is an instance of.
    pub subjects: Vec<(String, String)>,
}

/// All who listen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receivers {
    /// A connection each.
    pub listeners: Vec<Listener>,
    /// By audience: how many copies of a fan-out to it arrive.
    pub copies: Vec<u32>,
}

impl Receivers {
    /// Subjects of the answer table that need no other listener.
    pub(crate) fn patterns(&self) -> BTreeSet<&str> {
        self.listeners.iter().flat_map(|listener| listener.subjects.iter().map(|(_, pattern)| pattern.as_str())).collect()
    }

    /// Of each subject of a listener, its number in the table.
    pub(crate) fn sources(&self, listener: &Listener, decoder: &Decoder) -> Vec<u16> {
        let subjects = decoder.subjects();
        let number = |pattern: &String| subjects.iter().position(|subject| subject == pattern).unwrap_or(usize::MAX) as u16;
        listener.subjects.iter().map(|(_, pattern)| number(pattern)).collect()
    }

    /// By answer: whether its fan-out comes to them.
    pub(crate) fn theirs(&self, meta: &Meta) -> Vec<bool> {
        let patterns = self.patterns();
        let theirs = |rule: &AnswerRule| rule.kind == AnswerKind::Broadcast && rule.on.iter().any(|on| patterns.contains(on.as_str()));
        meta.answers.iter().map(theirs).collect()
    }

    /// What is really expected of an op whose fan-out goes to `audience`.
    pub(crate) fn expect(&self, theirs: &[bool], audience: Option<u32>, expect: &mut Vec<Expect>) {
        let Some(copies) = audience.and_then(|audience| self.copies.get(audience as usize)) else { return };
        for e in expect.iter_mut().filter(|e| e.count.is_some() && theirs[usize::from(e.answer)]) {
            e.count = Some(*copies);
        }
        expect.retain(|e| e.count != Some(0));
    }
}
