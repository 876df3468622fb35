//! What waits to be written to one connection: bytes and the frames they belong to. No socket, no clock.

use std::collections::VecDeque;

/// Written bytes are given back when they are this many, and half of all.
const COMPACT_BYTES: usize = 1 << 20;

/// Whole frames, each with a record, and control bytes between them. Positions count everything ever put in.
pub(crate) struct Outbox<R> {
    bytes: Vec<u8>,
    /// Position of `bytes[0]`.
    base: usize,
    /// Position up to which the connection took the bytes.
    written: usize,
    /// Frames not yet wholly written: start, end, record.
    waiting: VecDeque<(usize, usize, R)>,
}

impl<R> Default for Outbox<R> {
    fn default() -> Self {
        Outbox { bytes: Vec::new(), base: 0, written: 0, waiting: VecDeque::new() }
    }
}

impl<R> Outbox<R> {
    fn end(&self) -> usize {
        self.base + self.bytes.len()
    }

    /// Adds a frame.
    pub fn push_frame(&mut self, frame: &[u8], record: R) {
        let start = self.end();
        self.bytes.extend_from_slice(frame);
        self.waiting.push_back((start, self.end(), record));
    }

    /// Adds bytes that belong to no frame and are of no use to another connection.
    pub fn push_control(&mut self, control: &[u8]) {
        self.bytes.extend_from_slice(control);
    }

    /// What the connection has not yet taken.
    pub fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written - self.base..]
    }

    /// The connection took `n` more bytes: hands over the records of the frames that are out whole.
    pub fn wrote(&mut self, n: usize, mut whole: impl FnMut(R)) {
        self.written += n;
        while self.waiting.front().is_some_and(|(_, end, _)| *end <= self.written) {
            self.waiting.pop_front().into_iter().for_each(|(_, _, record)| whole(record));
        }
        // A frame cut by the end of the write is kept from its start: the next connection may need it.
        let keep_from = self.waiting.front().map_or(self.written, |(start, _, _)| self.written.min(*start));
        let gone = keep_from - self.base;
        if gone == self.bytes.len() {
            self.bytes.clear();
            self.base = keep_from;
        } else if gone >= COMPACT_BYTES && gone >= self.bytes.len() / 2 {
            self.bytes.drain(..gone);
            self.base = keep_from;
        }
    }

    /// Another connection takes over: a cut frame begins again, and control bytes are forgotten.
    pub fn restart(&mut self) {
        let mut kept = Vec::new();
        for (start, end, _) in &mut self.waiting {
            let frame = *start - self.base..*end - self.base;
            *start = kept.len();
            kept.extend_from_slice(&self.bytes[frame]);
            *end = kept.len();
        }
        (self.bytes, self.base, self.written) = (kept, 0, 0);
    }

    /// The records of frames not yet wholly written.
    pub fn waiting_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.waiting.iter_mut().map(|(_, _, record)| record)
    }

    /// Gives up: the records of frames not yet wholly written.
    pub fn into_waiting(self) -> impl Iterator<Item = R> {
        self.waiting.into_iter().map(|(_, _, record)| record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Act {
        Frame(usize),
        Control,
        Write(usize),
        Lose,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0usize..40).prop_map(Act::Frame),
            1 => Just(Act::Control),
            4 => (0usize..100).prop_map(Act::Write),
            1 => Just(Act::Lose),
        ]
    }

    /// Whole frames of a connection's bytes; what is cut off at its end counts for nothing.
    fn frames(bytes: &[u8]) -> Vec<usize> {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let whole = text.rfind(';').map_or("", |end| &text[..end]);
        whole
            .split(';')
            .filter(|token| !matches!(*token, "" | "C"))
            .map(|token| token.split(':').next().unwrap().parse().unwrap())
            .collect()
    }

    proptest! {
        #[test]
        fn every_frame_goes_out_whole_once_and_in_order(acts in proptest::collection::vec(act(), 0..200)) {
            let (mut outbox, mut connections, mut done, mut next) = (Outbox::default(), vec![Vec::new()], Vec::new(), 0usize);
            for act in acts.into_iter().chain([Act::Write(usize::MAX)]) {
                match act {
                    Act::Frame(size) => {
                        outbox.push_frame(format!("{next}:{};", "x".repeat(size)).as_bytes(), next);
                        next += 1;
                    }
                    Act::Control => outbox.push_control(b"C;"),
                    Act::Write(n) => {
                        let n = n.min(outbox.unwritten().len());
                        connections.last_mut().unwrap().extend_from_slice(&outbox.unwritten()[..n]);
                        outbox.wrote(n, |record| done.push(record));
                    }
                    Act::Lose => {
                        outbox.restart();
                        connections.push(Vec::new());
                    }
                }
            }
            let all: Vec<usize> = (0..next).collect();
            prop_assert_eq!(&done, &all);
            prop_assert_eq!(connections.iter().flat_map(|c| frames(c)).collect::<Vec<_>>(), all);
            prop_assert_eq!(outbox.into_waiting().count(), 0);
        }
    }

    #[test]
    fn memory_follows_what_waits_and_not_what_went() {
        let (mut outbox, frame) = (Outbox::default(), vec![b'x'; 1000]);
        (0..3_000).for_each(|i| outbox.push_frame(&frame, i));
        for i in 0..100_000 {
            outbox.push_frame(&frame, i);
            outbox.wrote(1000, |_| {});
            assert!(outbox.bytes.len() < 2 * 3_001_000 + COMPACT_BYTES);
        }
    }
}
