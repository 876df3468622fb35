use crate::loader::{Frame, FrameBatch};
use std::collections::VecDeque;
use std::sync::mpsc;

/// What the loader has ready.
#[derive(Default)]
pub(crate) struct Ready {
    pub batches: VecDeque<FrameBatch>,
    /// Frames and bytes of the first batch that are gone.
    pub next: usize,
    pub offset: usize,
    /// There will be no more.
    pub last: bool,
}

impl Ready {
    pub fn refill(&mut self, from: &mpsc::Receiver<FrameBatch>) {
        while self.batches.len() < 2 && !self.last {
            match from.try_recv() {
                Ok(batch) => self.batches.push_back(batch),
                Err(mpsc::TryRecvError::Empty) => return,
                Err(mpsc::TryRecvError::Disconnected) => self.last = true,
            }
        }
    }

    pub fn intended_ns(&self) -> impl Iterator<Item = i64> {
        let frames = |(i, batch): (usize, &'_ FrameBatch)| if i == 0 { self.next..batch.frames.len() } else { 0..batch.frames.len() };
        self.batches.iter().enumerate().flat_map(move |(i, batch)| batch.frames[frames((i, batch))].iter().map(|f| f.intended_ns))
    }

    /// The first frame, its bytes, and a flag if it was not ready in time.
    pub fn front(&self) -> Option<(&Frame, &[u8], u16)> {
        let batch = self.batches.front()?;
        let frame = &batch.frames[self.next];
        Some((frame, &batch.bytes[self.offset..frame.end], batch.late(frame)))
    }

    /// `n` frames of the first batch are gone.
    pub fn advance(&mut self, n: usize) {
        let batch = &self.batches[0];
        self.next += n;
        self.offset = batch.frames[self.next - 1].end;
        if self.next == batch.frames.len() {
            self.batches.pop_front();
            (self.next, self.offset) = (0, 0);
        }
    }
}
