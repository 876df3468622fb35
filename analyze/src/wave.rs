//! The join of one wave: sends of a range of ops in arrays, answers addressed into them, then retired op by op.

use crate::input::Input;
use crate::tally::{Cell, Copy, LATE_NS, SeriesKey, Tally, cause};
use arrow::array::Array;
use runlog::{Broadcast, Cell as _, Chunk, Expected, Outcome, Reply, Sent, Status};
use schedule::AnswerKind;
use std::collections::HashMap;
use std::sync::Arc;

/// Ops of a wave.
pub const WAVE_OPS: i64 = 256 * 1024;

/// What is asked of a log besides the counts.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    /// Ops due before are not counted, ns.
    pub warmup_ns: i64,
    /// Lengths of windows, ns; the first is for display.
    pub windows_ns: Vec<i64>,
}

/// An answer as it came; of several copies to one recipient, the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct First {
    received_ns: i64,
    status: u8,
    /// Index into the wave's classes.
    class: u16,
}

const NONE: First = First { received_ns: i64::MAX, status: 0, class: 0 };

/// A copy that names its recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Delivery {
    slot: u32,
    answer: u8,
    recipient: u64,
    first: First,
}

#[derive(Clone)]
struct Slot {
    action: u16,
    connection: u16,
    intended_ns: i64,
    sent_ns: Option<i64>,
    outcome: u8,
    flags: u16,
    expected: Expected,
    bucket: Option<Arc<str>>,
}

/// The arrays of a wave.
struct Wave<'a> {
    input: &'a Input,
    grid: &'a Grid,
    first_op: i64,
    slots: Vec<Option<Slot>>,
    answers: usize,
    firsts: Vec<First>,
    duplicates: HashMap<(u32, u8), u64>,
    deliveries: Vec<Delivery>,
    classes: Vec<Arc<str>>,
    tally: Tally,
}

/// Joins and counts the ops `first_op .. first_op + WAVE_OPS`.
pub(crate) fn tally(input: &Input, grid: &Grid, first_op: i64) -> Result<Tally, runlog::Error> {
    let answers = input.manifest.schedule.answers.len();
    let ops = WAVE_OPS as usize;
    let mut wave = Wave {
        input,
        grid,
        first_op,
        slots: vec![None; ops],
        answers,
        firsts: vec![NONE; ops * answers],
        duplicates: HashMap::new(),
        deliveries: Vec::new(),
        classes: vec!["".into()],
        tally: Tally::default(),
    };
    wave.fill()?;
    wave.join_replies()?;
    wave.join_broadcasts()?;
    wave.retire();
    Ok(wave.tally)
}

impl Wave<'_> {
    fn touched<'c>(&self, chunks: &'c [Chunk]) -> impl Iterator<Item = &'c Chunk> + use<'c> {
        let (first, last) = (self.first_op, self.first_op + WAVE_OPS - 1);
        chunks.iter().filter(move |c| c.min_op <= last && c.max_op >= first)
    }

    fn slot(&self, op: i64) -> Option<usize> {
        let slot = op - self.first_op;
        (0..WAVE_OPS).contains(&slot).then_some(slot as usize)
    }

    fn fill(&mut self) -> Result<(), runlog::Error> {
        let mut shared: HashMap<Expected, Expected> = HashMap::new();
        for chunk in self.touched(&self.input.sends) {
            for c in chunk.read::<Sent>()? {
                for i in 0..c.op.len() {
                    let Some(slot) = self.slot(c.op.value(i)) else { continue };
                    let expected = Expected::get(&c.expected, i);
                    let expected = shared.entry(expected.clone()).or_insert(expected).clone();
                    self.slots[slot] = Some(Slot {
                        action: c.action.value(i),
                        connection: c.connection.value(i),
                        intended_ns: c.intended_ns.value(i),
                        sent_ns: Option::<i64>::get(&c.sent_ns, i),
                        outcome: c.outcome.value(i),
                        flags: c.flags.value(i),
                        expected,
                        bucket: Option::<Arc<str>>::get(&c.bucket, i),
                    });
                }
            }
        }
        Ok(())
    }

    fn first(&mut self, received_ns: i64, status: u8, code: Option<&str>) -> First {
        let class = if status == Status::Error as u8 { self.class(code.unwrap_or("error")) } else { 0 };
        First { received_ns, status, class }
    }

    fn class(&mut self, class: &str) -> u16 {
        let known = self.classes.iter().position(|c| &**c == class);
        known.unwrap_or_else(|| {
            self.classes.push(class.into());
            self.classes.len() - 1
        }) as u16
    }

    /// Keeps the earliest; every other is a duplicate.
    fn arrive(&mut self, slot: usize, answer: u8, first: First) {
        let at = &mut self.firsts[slot * self.answers + usize::from(answer)];
        if at.received_ns != i64::MAX {
            *self.duplicates.entry((slot as u32, answer)).or_default() += 1;
        }
        if first.received_ns < at.received_ns {
            *at = first;
        }
    }

    fn join_replies(&mut self) -> Result<(), runlog::Error> {
        for chunk in self.touched(&self.input.replies) {
            for c in chunk.read::<Reply>()? {
                for i in 0..c.op.len() {
                    let Some(slot) = self.slot(c.op.value(i)) else { continue };
                    let first = self.first(c.received_ns.value(i), c.status.value(i), c.code.is_valid(i).then(|| c.code.value(i)));
                    self.arrive(slot, c.answer.value(i), first);
                }
            }
        }
        Ok(())
    }

    fn join_broadcasts(&mut self) -> Result<(), runlog::Error> {
        for chunk in self.touched(&self.input.broadcasts) {
            for c in chunk.read::<Broadcast>()? {
                for i in 0..c.op.len() {
                    let Some(slot) = self.slot(c.op.value(i)) else { continue };
                    let (answer, recipient) = (c.answer.value(i), c.recipient.value(i));
                    let first = self.first(c.received_ns.value(i), c.status.value(i), c.code.is_valid(i).then(|| c.code.value(i)));
                    if recipient == 0 {
                        self.arrive(slot, answer, first);
                    } else {
                        self.deliveries.push(Delivery { slot: slot as u32, answer, recipient, first });
                    }
                }
            }
        }
        // Copies to one recipient stand together, the earliest first: the others are duplicates.
        self.deliveries.sort_unstable();
        let duplicates = &mut self.duplicates;
        self.deliveries.dedup_by(|later, first| {
            let same = (later.slot, later.answer, later.recipient) == (first.slot, first.answer, first.recipient);
            if same {
                *duplicates.entry((first.slot, first.answer)).or_default() += 1;
            }
            same
        });
        self.deliveries.sort_unstable_by_key(|d| (d.slot, d.answer, d.first));
        Ok(())
    }

    fn retire(&mut self) {
        let slots = std::mem::take(&mut self.slots);
        let mut deliveries = std::mem::take(&mut self.deliveries).into_iter().peekable();
        for (index, slot) in slots.iter().enumerate() {
            let mut copies: Vec<Delivery> = Vec::new();
            while let Some(delivery) = deliveries.next_if(|d| d.slot as usize == index) {
                copies.push(delivery);
            }
            match slot {
                Some(slot) if slot.intended_ns >= self.grid.warmup_ns => self.retire_op(index, slot, &copies),
                Some(_) => {}
                None => {
                    let firsts = &self.firsts[index * self.answers..(index + 1) * self.answers];
                    self.tally.orphans += firsts.iter().filter(|f| f.received_ns != i64::MAX).count() as u64 + copies.len() as u64;
                }
            }
        }
    }

    fn retire_op(&mut self, index: usize, slot: &Slot, copies: &[Delivery]) {
        let tally = &mut self.tally;
        *tally.ops.entry(slot.action).or_default() += 1;
        let window_ns = self.grid.windows_ns[0];
        tally.rates.entry(slot.intended_ns.div_euclid(window_ns)).or_default().intended += 1;
        tally.last_intended_ns = tally.last_intended_ns.max(slot.intended_ns);
        match slot.sent_ns {
            Some(sent_ns) if slot.outcome == Outcome::Sent as u8 => {
                let late_ns = sent_ns - slot.intended_ns;
                tally.sent += 1;
                tally.rates.entry(sent_ns.div_euclid(window_ns)).or_default().sent += 1;
                tally.lateness.add(late_ns);
                if late_ns > LATE_NS {
                    *tally.late_by_cause.entry(cause(slot.flags)).or_default() += 1;
                }
                tally.unconfirmed += u64::from(self.input.unconfirmed(slot.connection, sent_ns));
                let (first, last) = tally.sent_span.unwrap_or((sent_ns, sent_ns));
                tally.sent_span = Some((first.min(sent_ns), last.max(sent_ns)));
            }
            _ => *tally.unsent.entry(slot.outcome).or_default() += 1,
        }
        let failed = self.reply_failed(index);
        for answer in 0..self.answers as u8 {
            let expected = slot.expected.iter().find(|e| e.answer == answer).map(|e| e.count);
            let mine = copies.iter().filter(|d| d.answer == answer).map(|d| d.first).collect();
            self.retire_answer(index, slot, answer, expected, mine, failed);
        }
    }

    /// Whether an answer to the sender was an error: nothing is broadcast then.
    fn reply_failed(&self, index: usize) -> bool {
        let rules = &self.input.manifest.schedule.answers;
        let firsts = &self.firsts[index * self.answers..(index + 1) * self.answers];
        rules
            .iter()
            .zip(firsts)
            .any(|(rule, f)| rule.kind == AnswerKind::Reply && f.received_ns != i64::MAX && f.status == Status::Error as u8)
    }

    fn retire_answer(
        &mut self,
        index: usize,
        slot: &Slot,
        answer: u8,
        expected: Option<Option<u32>>,
        mut received: Vec<First>,
        failed: bool,
    ) {
        let first = self.firsts[index * self.answers + usize::from(answer)];
        let duplicates = self.duplicates.get(&(index as u32, answer)).copied().unwrap_or(0);
        if first.received_ns != i64::MAX {
            received.push(first);
            received.sort_unstable();
        }
        if expected.is_none() && received.is_empty() {
            return;
        }
        let schedule = &self.input.manifest.schedule;
        let timeout_ns = schedule.actions[usize::from(slot.action)].timeout_ns;
        let deadline_ns = slot.intended_ns + timeout_ns;
        let absent = u64::from(expected.map_or(0, |count| count.unwrap_or(1))).saturating_sub(received.len() as u64);
        let broadcast = schedule.answers[usize::from(answer)].kind == AnswerKind::Broadcast;
        let sent_ns = slot.sent_ns.filter(|_| slot.outcome == Outcome::Sent as u8);
        let mut cell = Cell { duplicates, ..Cell::default() };
        match sent_ns {
            _ if absent == 0 => {}
            None => cell.void = absent,
            Some(_) if broadcast && failed => cell.void = absent,
            Some(sent_ns) if self.unobserved(answer, slot.connection, sent_ns, deadline_ns) => cell.unresolved = absent,
            Some(_) => (cell.missing, cell.missing_over_ns) = (absent, timeout_ns),
        }
        for came in &received {
            cell.response.add(came.received_ns - slot.intended_ns);
            cell.service.add(came.received_ns - sent_ns.unwrap_or(slot.intended_ns));
            cell.repeated += u64::from(came.status == Status::Duplicate as u8);
            match () {
                () if came.status == Status::Error as u8 => {
                    *cell.errors.entry(self.classes[usize::from(came.class)].clone()).or_default() += 1;
                }
                () if came.received_ns > deadline_ns => cell.late += 1,
                () => cell.ok += 1,
            }
        }
        let fan_out = received.len() > 1;
        if fan_out {
            let middle = received[(received.len() - 1) / 2];
            for (copy, at) in [(Copy::First, received[0]), (Copy::Median, middle), (Copy::Last, received[received.len() - 1])] {
                let mut one = Cell { ok: 1, ..Cell::default() };
                one.response.add(at.received_ns - slot.intended_ns);
                one.service.add(at.received_ns - sent_ns.unwrap_or(slot.intended_ns));
                self.tally.series.entry((slot.action, answer, copy)).or_default().merge(one);
            }
        }
        self.count((slot.action, answer, Copy::Each), slot, cell);
    }

    fn unobserved(&self, answer: u8, connection: u16, sent_ns: i64, deadline_ns: i64) -> bool {
        self.input.observed_ns < deadline_ns
            || self.input.in_gap(answer, connection, sent_ns, deadline_ns)
            || self.input.unconfirmed(connection, sent_ns)
    }

    fn count(&mut self, key: SeriesKey, slot: &Slot, cell: Cell) {
        for &length_ns in &self.grid.windows_ns {
            let window = slot.intended_ns.div_euclid(length_ns);
            self.tally.windows.entry((length_ns, window, key)).or_default().merge(cell.clone());
        }
        if let Some(bucket) = &slot.bucket {
            self.tally.buckets.entry((key, bucket.clone())).or_default().merge(cell.clone());
        }
        self.tally.series.entry(key).or_default().merge(cell);
    }
}
