//! The join of one wave: sends of a range of ops in arrays, answers addressed into them, then retired op by op.

use crate::input::Input;
use crate::tally::{Cell, Copies, Layout, OWN_CAUSES, Tally, Windows, cause, merge_window};
use arrow::array::Array;
use runlog::{Chunk, Error, Flags, Outcome, Status, Text};
use runlog::{Expected, JoinBroadcast, JoinBroadcastColumns, JoinReply, JoinReplyColumns, JoinSent, JoinSentColumns};
use runlog::{SizedReply, SizedReplyColumns};
use schedule::AnswerKind;
use schedule::units::show_bytes;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Ops of a wave: few enough that its arrays stay in a core's cache.
pub const WAVE_OPS: i64 = 32 * 1024;

/// What is asked of a log besides the counts.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    /// Ops due in this time are counted, ns.
    pub due_ns: Range<i64>,
    /// Lengths of windows, ns; the first is for display.
    pub windows_ns: Vec<i64>,
    /// Sends later than this are counted by cause, ns.
    pub late_ns: i64,
    /// Whether buckets are sizes of replies.
    pub by_size: bool,
}

/// A decoded part of one of the logs, in batches.
pub(crate) enum Part {
    Sends(Vec<Batch<JoinSentColumns>>),
    Replies(Vec<Batch<JoinReplyColumns>>),
    Broadcasts(Vec<Batch<JoinBroadcastColumns>>),
    Sizes(Vec<Batch<SizedReplyColumns>>),
}

/// Columns, and the range of their ops: most waves need few of the batches of a part.
pub(crate) struct Batch<C> {
    columns: C,
    ops: Range<i64>,
}

fn batches<C>(columns: Vec<C>, ops: impl Fn(&C) -> &[i64]) -> Vec<Batch<C>> {
    let range = |ops: &[i64]| ops.iter().copied().min().unwrap_or(0)..ops.iter().copied().max().map_or(0, |op| op.saturating_add(1));
    columns.into_iter().map(|columns| Batch { ops: range(ops(&columns)), columns }).collect()
}

/// Which log a chunk is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Log {
    Sends,
    Replies,
    Broadcasts,
    /// Replies once more, if sizes are asked for.
    Sizes,
}

impl Part {
    /// Of rows that are not read from a chunk.
    pub fn of_broadcasts(columns: Vec<JoinBroadcastColumns>) -> Part {
        Part::Broadcasts(batches(columns, |c| c.op.values()))
    }

    pub fn read(log: Log, chunk: &Chunk) -> Result<Part, Error> {
        Ok(match log {
            Log::Sends => Part::Sends(batches(chunk.read::<JoinSent>()?, |c| c.op.values())),
            Log::Replies => Part::Replies(batches(chunk.read::<JoinReply>()?, |c| c.op.values())),
            Log::Broadcasts => Part::Broadcasts(batches(chunk.read::<JoinBroadcast>()?, |c| c.op.values())),
            Log::Sizes => Part::Sizes(batches(chunk.read::<SizedReply>()?, |c| c.op.values())),
        })
    }
}

/// An answer as it came; of several copies to one recipient, the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct First {
    received_ns: i64,
    status: u8,
    /// Index into the wave's classes.
    class: u16,
}

/// In the array of first answers: none came.
const NONE: i64 = i64::MAX;

/// A copy that names its recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Delivery {
    slot: u32,
    answer: u8,
    recipient: u64,
    first: First,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    intended_ns: i64,
    /// [`UNSENT`] if it was not.
    sent_ns: i64,
    /// Index into the wave's plans; 0 is no op at all.
    plan: u32,
    /// Index into the wave's buckets; 0 is none.
    bucket: u32,
    action: u16,
    connection: u16,
    flags: u16,
    outcome: u8,
}

const UNSENT: i64 = i64::MIN;
const VACANT: Slot = Slot { intended_ns: 0, sent_ns: UNSENT, plan: 0, bucket: 0, action: 0, connection: 0, flags: 0, outcome: 0 };
/// In a plan: the answer is not expected.
const UNEXPECTED: u32 = u32::MAX;

/// The window that ops fall into at the moment; the next is another only now and then.
struct Open {
    length_ns: i64,
    span: Range<i64>,
    cells: Vec<Cell>,
}

/// A counter of the display window that times fall into at the moment.
#[derive(Default)]
struct Meter {
    span: Range<i64>,
    n: u64,
}

/// The arrays of a wave. Made once, and used for one range of ops after the other.
pub(crate) struct Wave<'a> {
    input: &'a Input,
    grid: &'a Grid,
    layout: Layout,
    /// By pair of [`Layout`]; none where the action has no such answer.
    timeouts_ns: Vec<Option<i64>>,
    first_op: i64,
    slots: Vec<Slot>,
    /// When the first of each answer came, or [`NONE`].
    firsts: Vec<i64>,
    /// Status and class of those that are not just ok.
    marks: HashMap<(u32, u8), (u8, u16)>,
    duplicates: HashMap<(u32, u8), u64>,
    deliveries: Vec<Delivery>,
    classes: Vec<Arc<str>>,
    /// How many of each answer an op expects, or [`UNEXPECTED`]; by text.
    plans: Vec<Vec<u32>>,
    plan_of: HashMap<String, u32>,
    buckets: Vec<Arc<str>>,
    bucket_of: HashMap<String, u32>,
    bucket_cells: Vec<Vec<Cell>>,
    /// Largest reply to each op, and one more; if sizes are asked for.
    sizes: Vec<u32>,
    open: Vec<Open>,
    intended: Meter,
    sent: Meter,
    tally: Tally,
}

impl<'a> Wave<'a> {
    pub fn new(input: &'a Input, grid: &'a Grid) -> Wave<'a> {
        let schedule = &input.manifest.schedule;
        let layout = Layout::of(schedule);
        Wave {
            input,
            grid,
            layout,
            timeouts_ns: (0..layout.len())
                .map(|pair| {
                    let (action, answer) = layout.pair(pair);
                    let action = &schedule.actions[usize::from(action)];
                    action.answers.contains(&answer).then_some(action.timeout_ns)
                })
                .collect(),
            first_op: 0,
            slots: vec![VACANT; WAVE_OPS as usize],
            firsts: vec![NONE; WAVE_OPS as usize * layout.answers],
            marks: HashMap::new(),
            duplicates: HashMap::new(),
            deliveries: Vec::new(),
            classes: vec!["".into()],
            plans: vec![vec![]],
            plan_of: HashMap::new(),
            buckets: vec!["".into()],
            bucket_of: HashMap::new(),
            bucket_cells: vec![vec![]],
            sizes: vec![0; if grid.by_size { WAVE_OPS as usize } else { 0 }],
            open: grid.windows_ns.iter().map(|&length_ns| Open { length_ns, span: 0..0, cells: layout.cells() }).collect(),
            intended: Meter::default(),
            sent: Meter::default(),
            tally: Tally::new(layout),
        }
    }

    /// From here on it is about the ops from `first_op` on.
    pub fn begin(&mut self, first_op: i64) {
        self.first_op = first_op;
        // Answers of one moment are ordered by the number of their class, which must not depend on the waves before.
        self.classes.truncate(1);
    }

    /// Takes from a part what belongs to this wave. Parts may come in any order.
    pub fn absorb(&mut self, part: &Part) -> Result<(), String> {
        match part {
            Part::Sends(batches) => batches.iter().try_for_each(|b| if self.needs(b) { self.fill(&b.columns) } else { Ok(()) }),
            Part::Replies(batches) => batches.iter().try_for_each(|b| if self.needs(b) { self.join_replies(&b.columns) } else { Ok(()) }),
            Part::Broadcasts(batches) => {
                batches.iter().try_for_each(|b| if self.needs(b) { self.join_broadcasts(&b.columns) } else { Ok(()) })
            }
            Part::Sizes(batches) => {
                batches.iter().for_each(|b| {
                    if self.needs(b) {
                        self.join_sizes(&b.columns)
                    }
                });
                Ok(())
            }
        }
    }

    fn needs<C>(&self, batch: &Batch<C>) -> bool {
        batch.ops.start < self.first_op.saturating_add(WAVE_OPS) && batch.ops.end > self.first_op
    }

    fn fill(&mut self, c: &JoinSentColumns) -> Result<(), String> {
        let plans = c.expected.values().map(|text| self.plan(text)).collect::<Result<Vec<u32>, _>>()?;
        let buckets: Vec<u32> = c.bucket.values().map(|text| self.bucket(text)).collect();
        let (all_sent, no_buckets) = (c.sent_ns.null_count() == 0, c.bucket.is_empty());
        if let Some(action) = c.action.values().iter().find(|&&action| usize::from(action) >= self.layout.actions) {
            return Err(format!("has an op of action {action}, which the manifest does not have"));
        }
        for (i, op) in c.op.values().iter().enumerate() {
            let at = op.wrapping_sub(self.first_op);
            if !(0..WAVE_OPS).contains(&at) {
                continue;
            }
            self.slots[at as usize] = Slot {
                intended_ns: c.intended_ns.values()[i],
                sent_ns: if all_sent || c.sent_ns.is_valid(i) { c.sent_ns.values()[i] } else { UNSENT },
                plan: c.expected.key(i).map_or(0, |key| plans[key]),
                bucket: if no_buckets { 0 } else { c.bucket.key(i).map_or(0, |key| buckets[key]) },
                action: c.action.values()[i],
                connection: c.connection.values()[i],
                flags: c.flags.values()[i],
                outcome: c.outcome.values()[i],
            };
        }
        Ok(())
    }

    fn plan(&mut self, text: &str) -> Result<u32, String> {
        if let Some(&plan) = self.plan_of.get(text) {
            return Ok(plan);
        }
        let expected = Expected::parse(text).ok_or_else(|| format!("expects `{text}`, which is not a list of answers and counts"))?;
        let mut counts = vec![UNEXPECTED; self.layout.answers];
        for e in expected.iter() {
            *counts.get_mut(usize::from(e.answer)).ok_or("expects an answer that the manifest does not have")? = e.count.unwrap_or(1);
        }
        self.plans.push(counts);
        self.plan_of.insert(text.to_owned(), self.plans.len() as u32 - 1);
        Ok(self.plans.len() as u32 - 1)
    }

    fn bucket(&mut self, text: &str) -> u32 {
        if let Some(&bucket) = self.bucket_of.get(text) {
            return bucket;
        }
        self.buckets.push(text.into());
        self.bucket_cells.push(self.layout.cells());
        self.bucket_of.insert(text.to_owned(), self.buckets.len() as u32 - 1);
        self.buckets.len() as u32 - 1
    }

    /// The class of each value of a column of error codes, and that of an error without a code.
    fn classes(&mut self, codes: &Text) -> (Vec<u16>, u16) {
        (codes.values().map(|code| self.class(code)).collect(), self.class("error"))
    }

    fn class(&mut self, class: &str) -> u16 {
        let known = self.classes.iter().position(|c| &**c == class);
        known.unwrap_or_else(|| {
            self.classes.push(class.into());
            self.classes.len() - 1
        }) as u16
    }

    fn join_replies(&mut self, c: &JoinReplyColumns) -> Result<(), String> {
        self.known_answers(c.answer.values())?;
        let classes = self.classes(&c.code);
        let (answers, received, statuses) = (c.answer.values(), c.received_ns.values(), c.status.values());
        for (i, op) in c.op.values().iter().enumerate() {
            let at = op.wrapping_sub(self.first_op);
            if (0..WAVE_OPS).contains(&at) {
                self.arrive(at as usize, answers[i], first(received[i], statuses[i], &c.code, i, &classes));
            }
        }
        Ok(())
    }

    fn join_broadcasts(&mut self, c: &JoinBroadcastColumns) -> Result<(), String> {
        self.known_answers(c.answer.values())?;
        let classes = self.classes(&c.code);
        let (answers, received, statuses, recipients) =
            (c.answer.values(), c.received_ns.values(), c.status.values(), c.recipient.values());
        for (i, op) in c.op.values().iter().enumerate() {
            let at = op.wrapping_sub(self.first_op);
            if !(0..WAVE_OPS).contains(&at) {
                continue;
            }
            let first = first(received[i], statuses[i], &c.code, i, &classes);
            if recipients[i] == 0 {
                self.arrive(at as usize, answers[i], first);
            } else {
                self.deliveries.push(Delivery { slot: at as u32, answer: answers[i], recipient: recipients[i], first });
            }
        }
        Ok(())
    }

    fn join_sizes(&mut self, c: &SizedReplyColumns) {
        for (op, bytes) in c.op.values().iter().zip(c.bytes.values()) {
            let at = op.wrapping_sub(self.first_op);
            if (0..WAVE_OPS).contains(&at) {
                self.sizes[at as usize] = self.sizes[at as usize].max(bytes + 1);
            }
        }
    }

    /// The bucket of an op by what it was answered: that of its largest reply.
    fn sized(&mut self, index: usize) -> u32 {
        match std::mem::take(&mut self.sizes[index]) {
            0 => 0,
            bytes => {
                let least = 1u64 << (bytes - 1).max(1).ilog2();
                self.bucket(&format!("{} to {}", show_bytes(least), show_bytes(2 * least)))
            }
        }
    }

    fn known_answers(&self, answers: &[u8]) -> Result<(), String> {
        match answers.iter().find(|&&answer| usize::from(answer) >= self.layout.answers) {
            Some(answer) => Err(format!("has answer {answer}, which the manifest does not have")),
            None => Ok(()),
        }
    }

    /// Keeps the earliest; every other is a duplicate.
    #[inline]
    fn arrive(&mut self, slot: usize, answer: u8, first: First) {
        let at = &mut self.firsts[slot * self.layout.answers + usize::from(answer)];
        let before = std::mem::replace(at, first.received_ns.min(*at));
        if before == NONE && first.status == Status::Ok as u8 {
            return;
        }
        let key = (slot as u32, answer);
        if before != NONE {
            *self.duplicates.entry(key).or_default() += 1;
        }
        let (status, class) = self.marks.get(&key).copied().unwrap_or_default();
        let known = First { received_ns: before, status, class };
        if before == NONE || first < known {
            self.marks.insert(key, (first.status, first.class));
        }
    }

    /// The first of an answer.
    #[inline]
    fn came(&self, index: usize, answer: u8) -> Option<First> {
        let received_ns = self.firsts[index * self.layout.answers + usize::from(answer)];
        if received_ns == NONE {
            return None;
        }
        let (status, class) =
            if self.marks.is_empty() { (0, 0) } else { self.marks.get(&(index as u32, answer)).copied().unwrap_or_default() };
        Some(First { received_ns, status, class })
    }

    /// Counts every op of the range, and leaves the arrays empty.
    pub fn retire(&mut self) -> Tally {
        let deliveries = by_slot(std::mem::take(&mut self.deliveries));
        let mut from = 0;
        let mut copies = Vec::new();
        for index in 0..self.slots.len() {
            let to = from + deliveries[from..].iter().take_while(|d| d.slot as usize == index).count();
            let mut slot = std::mem::replace(&mut self.slots[index], VACANT);
            if self.grid.by_size {
                slot.bucket = self.sized(index);
            }
            if to > from {
                copies.extend_from_slice(&deliveries[from..to]);
                self.distinct(&mut copies);
                from = to;
            }
            match slot.plan {
                0 => {
                    self.tally.counts.orphans +=
                        copies.len() as u64 + self.answers().filter(|&a| self.came(index, a).is_some()).count() as u64
                }
                _ if self.grid.due_ns.contains(&slot.intended_ns) => self.retire_op(index, &slot, &copies),
                _ => {}
            }
            let answers = self.layout.answers;
            self.firsts[index * answers..(index + 1) * answers].fill(NONE);
            copies.clear();
        }
        self.duplicates.clear();
        self.marks.clear();
        self.close()
    }

    fn answers(&self) -> Range<u8> {
        0..self.layout.answers as u8
    }

    /// Of the copies of one op to one recipient the earliest stays; by answer, then time.
    fn distinct(&mut self, copies: &mut Vec<Delivery>) {
        copies.sort_unstable();
        let duplicates = &mut self.duplicates;
        copies.dedup_by(|later, first| {
            let same = (later.answer, later.recipient) == (first.answer, first.recipient);
            if same {
                *duplicates.entry((first.slot, first.answer)).or_default() += 1;
            }
            same
        });
        copies.sort_unstable_by_key(|d| (d.answer, d.first));
    }

    fn retire_op(&mut self, index: usize, slot: &Slot, copies: &[Delivery]) {
        for open in &mut self.open {
            open.enter(slot.intended_ns, &mut self.tally.windows);
        }
        let window_ns = self.grid.windows_ns[0];
        let counts = &mut self.tally.counts;
        counts.ops += 1;
        self.intended.count(slot.intended_ns, window_ns, |window, n| counts.rates.entry(window).or_default().intended += n);
        counts.last_intended_ns = counts.last_intended_ns.max(slot.intended_ns);
        match slot.flags & Flags::GATED {
            0 => counts.passed_ns = counts.passed_ns.max(slot.intended_ns),
            _ => counts.gated += 1,
        }
        let sent_ns = slot.sent();
        match sent_ns {
            Some(sent_ns) => {
                let late_ns = sent_ns.saturating_sub(slot.intended_ns);
                counts.sent += 1;
                self.sent.count(sent_ns, window_ns, |window, n| counts.rates.entry(window).or_default().sent += n);
                self.tally.lateness.add(late_ns);
                if late_ns > self.grid.late_ns {
                    let cause = cause(slot.flags);
                    *counts.late_by_cause.entry(cause).or_default() += 1;
                    if OWN_CAUSES.contains(&cause) {
                        counts.own_late_max_ns = counts.own_late_max_ns.max(late_ns);
                    }
                }
                counts.unconfirmed += u64::from(self.input.unconfirmed(slot.connection, sent_ns));
                let (first, last) = counts.sent_span.unwrap_or((sent_ns, sent_ns));
                counts.sent_span = Some((first.min(sent_ns), last.max(sent_ns)));
            }
            None => *counts.unsent.entry(slot.outcome).or_default() += 1,
        }
        for answer in self.answers() {
            let expected = self.plans[slot.plan as usize][usize::from(answer)];
            let first = self.came(index, answer);
            if copies.is_empty() {
                if first.is_some() || expected != UNEXPECTED {
                    self.retire_answer(index, slot, answer, expected, first.as_slice());
                }
                continue;
            }
            let mut received: Vec<First> = copies.iter().filter(|d| d.answer == answer).map(|d| d.first).collect();
            if let Some(first) = first {
                received.push(first);
                received.sort_unstable();
            }
            if expected != UNEXPECTED || !received.is_empty() {
                self.retire_answer(index, slot, answer, expected, &received);
            }
        }
    }

    /// Counts what came of one answer of one op, in order of time, and what did not.
    fn retire_answer(&mut self, index: usize, slot: &Slot, answer: u8, expected: u32, received: &[First]) {
        let pair = self.layout.at(slot.action, answer);
        let Some(timeout_ns) = self.timeouts_ns[pair] else {
            self.tally.counts.orphans += received.len() as u64;
            return;
        };
        let deadline_ns = slot.intended_ns.saturating_add(timeout_ns);
        let expected = if expected == UNEXPECTED { 0 } else { expected };
        let absent = u64::from(expected).saturating_sub(received.len() as u64);
        let mut lack = Lack { absent, missing_over_ns: timeout_ns, ..Lack::default() };
        if absent > 0 {
            lack.why = self.why_absent(index, slot, answer, deadline_ns);
        }
        if !self.duplicates.is_empty() {
            lack.duplicates = self.duplicates.get(&(index as u32, answer)).copied().unwrap_or(0);
        }
        let times = Times { intended_ns: slot.intended_ns, from_ns: slot.sent().unwrap_or(slot.intended_ns), deadline_ns };
        for open in &mut self.open {
            open.cells[pair].take(&lack, received, &times, &self.classes);
        }
        if slot.bucket > 0 {
            self.bucket_cells[slot.bucket as usize][pair].take(&lack, received, &times, &self.classes);
        }
        if received.len() > 1 {
            let copies: &mut Copies = &mut self.tally.copies[pair];
            let middle = received[(received.len() - 1) / 2];
            for (cell, at) in copies.iter_mut().zip([received[0], middle, received[received.len() - 1]]) {
                cell.ok += 1;
                cell.time(&at, &times);
            }
        }
    }

    fn why_absent(&self, index: usize, slot: &Slot, answer: u8, deadline_ns: i64) -> Absence {
        let rules = &self.input.manifest.schedule.answers;
        // After a reply that is an error nothing is broadcast.
        let failed = || {
            let mut replies = rules.iter().zip(self.answers()).filter(|(rule, _)| rule.kind == AnswerKind::Reply);
            replies.any(|(_, answer)| self.came(index, answer).is_some_and(|first| first.status == Status::Error as u8))
        };
        match slot.sent() {
            None => Absence::Void,
            Some(_) if rules[usize::from(answer)].kind == AnswerKind::Broadcast && failed() => Absence::Void,
            Some(sent_ns) if self.unobserved(answer, slot.connection, sent_ns, deadline_ns) => Absence::Unresolved,
            Some(_) => Absence::Missing,
        }
    }

    fn unobserved(&self, answer: u8, connection: u16, sent_ns: i64, deadline_ns: i64) -> bool {
        self.input.observed_ns < deadline_ns
            || self.input.in_gap(answer, connection, sent_ns, deadline_ns)
            || self.input.unconfirmed(connection, sent_ns)
    }

    fn close(&mut self) -> Tally {
        let layout = self.layout;
        for open in &mut self.open {
            open.close(&mut self.tally.windows);
        }
        let rates = &mut self.tally.counts.rates;
        self.intended.close(self.grid.windows_ns[0], |window, n| rates.entry(window).or_default().intended += n);
        self.sent.close(self.grid.windows_ns[0], |window, n| rates.entry(window).or_default().sent += n);
        for (name, cells) in self.buckets.iter().zip(&mut self.bucket_cells).skip(1) {
            self.tally.buckets.insert(name.clone(), std::mem::replace(cells, layout.cells()));
        }
        std::mem::replace(&mut self.tally, Tally::new(layout))
    }
}

fn first(received_ns: i64, status: u8, codes: &Text, row: usize, classes: &(Vec<u16>, u16)) -> First {
    let class = if status == Status::Error as u8 { codes.key(row).map_or(classes.1, |key| classes.0[key]) } else { 0 };
    First { received_ns, status, class }
}

/// In order of slots: counted and scattered, since slots are few and known.
fn by_slot(deliveries: Vec<Delivery>) -> Vec<Delivery> {
    let Some(&one) = deliveries.first() else { return deliveries };
    let mut ends = vec![0u32; WAVE_OPS as usize];
    deliveries.iter().for_each(|d| ends[d.slot as usize] += 1);
    ends.iter_mut().fold(0, |sum, n| std::mem::replace(n, sum) + sum);
    let mut sorted = vec![one; deliveries.len()];
    for delivery in deliveries {
        let at = &mut ends[delivery.slot as usize];
        sorted[*at as usize] = delivery;
        *at += 1;
    }
    sorted
}

impl Slot {
    fn sent(&self) -> Option<i64> {
        (self.sent_ns != UNSENT && self.outcome == Outcome::Sent as u8).then_some(self.sent_ns)
    }
}

/// What did not come, and what came too often.
#[derive(Debug, Default)]
struct Lack {
    absent: u64,
    why: Absence,
    missing_over_ns: i64,
    duplicates: u64,
}

#[derive(Debug, Default)]
enum Absence {
    #[default]
    Missing,
    Void,
    Unresolved,
}

struct Times {
    intended_ns: i64,
    /// Where service time begins.
    from_ns: i64,
    deadline_ns: i64,
}

impl Cell {
    fn take(&mut self, lack: &Lack, received: &[First], times: &Times, classes: &[Arc<str>]) {
        self.duplicates += lack.duplicates;
        match lack.why {
            _ if lack.absent == 0 => {}
            Absence::Void => self.void += lack.absent,
            Absence::Unresolved => self.unresolved += lack.absent,
            Absence::Missing => {
                self.missing += lack.absent;
                self.missing_over_ns = self.missing_over_ns.max(lack.missing_over_ns);
            }
        }
        for came in received {
            self.time(came, times);
            self.repeated += u64::from(came.status == Status::Duplicate as u8);
            match () {
                () if came.status == Status::Error as u8 => *self.errors.entry(classes[usize::from(came.class)].clone()).or_default() += 1,
                () if came.received_ns > times.deadline_ns => self.late += 1,
                () => self.ok += 1,
            }
        }
    }

    fn time(&mut self, came: &First, times: &Times) {
        self.response.add(came.received_ns.saturating_sub(times.intended_ns));
        self.service.add(came.received_ns.saturating_sub(times.from_ns));
    }
}

impl Open {
    fn enter(&mut self, t_ns: i64, windows: &mut Windows) {
        if !self.span.contains(&t_ns) {
            self.close(windows);
            self.span = span(t_ns, self.length_ns);
        }
    }

    fn close(&mut self, windows: &mut Windows) {
        if self.span.is_empty() {
            return;
        }
        // The next window is likely to be as full.
        let empty = self.cells.iter().map(Cell::of_same_size).collect();
        let cells = std::mem::replace(&mut self.cells, empty);
        merge_window(windows, (self.length_ns, self.span.start.div_euclid(self.length_ns)), cells);
        self.span = 0..0;
    }
}

impl Meter {
    fn count(&mut self, t_ns: i64, length_ns: i64, add: impl FnOnce(i64, u64)) {
        if !self.span.contains(&t_ns) {
            self.close(length_ns, add);
            self.span = span(t_ns, length_ns);
        }
        self.n += 1;
    }

    fn close(&mut self, length_ns: i64, add: impl FnOnce(i64, u64)) {
        if self.n > 0 {
            add(self.span.start.div_euclid(length_ns), std::mem::take(&mut self.n));
        }
        self.span = 0..0;
    }
}

fn span(t_ns: i64, length_ns: i64) -> Range<i64> {
    let start = t_ns.div_euclid(length_ns).saturating_mul(length_ns);
    start..start.saturating_add(length_ns)
}
