//! Turns rows of the schedule into frames that need no more work: encoded, ids and times filled in.

use crate::encoder::Encoder;
use crate::options::{Error, OPS_MAX, Plan};
use crate::receivers::Receivers;
use crate::release::Waiting;
use crate::shared::{NOTHING, Shared, UNKEYED, UNOPENED};
use crate::steps::{Loaded, Only, Stretch, Stretches};
use runlog::Flags;
use schedule::{Expect, Part, Reader, Row, Slot};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, mpsc};

/// Frames of a batch, at most.
const BATCH_FRAMES: usize = 2048;
/// Bytes of a batch; the batch that passes it is closed.
const BATCH_BYTES: usize = 1 << 20;
/// Batches ready ahead of the pacer.
pub(crate) const BATCHES_AHEAD: usize = 64;

/// An operation ready to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub op: i64,
    pub intended_ns: i64,
    pub session: u32,
    pub action: u16,
    pub connection: u16,
    /// End of its bytes within the batch; it begins where its predecessor ends.
    pub end: usize,
    /// The server would not take it.
    pub too_large: bool,
    /// [`UNKEYED`] without one.
    pub key: i64,
    /// The op whose answer it waits for; [`UNOPENED`] without one.
    pub opener: i64,
    /// Index into [`Shared::buckets`].
    pub bucket: u32,
    /// Index into [`Shared::expected`].
    pub expected: u32,
}

/// Some frames and their bytes.
pub(crate) struct FrameBatch {
    pub bytes: Vec<u8>,
    pub frames: Vec<Frame>,
    /// When the loader had it ready.
    pub ready_ns: i64,
}

impl FrameBatch {
    /// [`Flags::LOADER_LATE`] if a frame was not ready in time.
    pub fn late(&self, frame: &Frame) -> u16 {
        if self.ready_ns > frame.intended_ns { Flags::LOADER_LATE } else { 0 }
    }
}

/// What the frames of a run have in common.
pub(crate) struct Loader {
    pub shared: Arc<Shared>,
    pub plan: Plan,
    pub encoder: Arc<Encoder>,
    /// Who listens, if it is known.
    pub receivers: Option<Arc<Receivers>>,
    /// For a run in steps.
    pub stretches: Option<Stretches>,
    pub out: mpsc::SyncSender<FrameBatch>,
}

impl Loader {
    /// Reads the schedule and sends frames until the end, or until nobody takes them.
    pub fn run(self, path: &Path) {
        if let Err(error) = self.load(path) {
            self.shared.fail(error);
        }
    }

    fn load(&self, path: &Path) -> Result<(), Error> {
        let reader = Reader::open(path)?;
        let mut builder = Builder::new(self);
        let Some(mut span) = self.first() else { return Ok(()) };
        let mut first_op = 0;
        for lap in 0..self.laps() {
            for batch in reader.batches()? {
                for row in batch?.rows() {
                    let at_ns = lap * self.plan.meta.duration_ns + row.at_ns;
                    while span.run_ns(at_ns) >= span.stretch.until_ns || self.shared.stop.asked() > 0 {
                        builder.send();
                        let end_op = self.encoder.op(row.op, lap);
                        match self.next(std::mem::replace(&mut first_op, end_op)..end_op, builder.frames) {
                            Some(next) => span = next,
                            None => return Ok(()),
                        }
                    }
                    if span.stretch.only.has(&row) {
                        builder.add(&row, lap, at_ns, &mut span);
                    }
                    if builder.full() && !builder.send() {
                        return Ok(());
                    }
                }
            }
        }
        builder.send();
        if let Some(stretches) = &self.stretches {
            let end_op = self.encoder.op(0, self.laps());
            // Nobody listens if the run is over.
            let _ = stretches.loaded.send(Loaded { first_op, end_op, frames: builder.frames, spent: true });
        }
        Ok(())
    }

    fn laps(&self) -> i64 {
        match &self.stretches {
            None => i64::from(self.plan.loops),
            // As many as ops can be numbered.
            Some(_) if self.plan.may_loop => OPS_MAX / self.plan.meta.rows,
            Some(_) => 1,
        }
    }

    fn first(&self) -> Option<Span> {
        match &self.stretches {
            None => {
                let stretch = Stretch { tempo: self.plan.tempo.clone(), only: Only::All, start_ns: 0, until_ns: self.plan.until_ns };
                Some(Span { stretch, base_ns: Some(0) })
            }
            Some(stretches) => Some(Span { stretch: stretches.next.recv().ok()?, base_ns: None }),
        }
    }

    /// A stretch is loaded: the next, if there is one. `frames` counts those of the run so far.
    fn next(&self, ops: Range<i64>, frames: i64) -> Option<Span> {
        let stretches = self.stretches.as_ref()?;
        stretches.loaded.send(Loaded { first_op: ops.start, end_op: ops.end, frames, spent: false }).ok()?;
        Some(Span { stretch: stretches.next.recv().ok()?, base_ns: None })
    }
}

/// A stretch, and the place in the schedule where it began.
struct Span {
    stretch: Stretch,
    /// The offset that is due at its start: that of its first row.
    base_ns: Option<i64>,
}

impl Span {
    fn run_ns(&mut self, at_ns: i64) -> i64 {
        let base_ns = *self.base_ns.get_or_insert(at_ns);
        self.stretch.start_ns.saturating_add(self.stretch.tempo.run_ns(at_ns - base_ns))
    }
}

struct Builder<'a> {
    loader: &'a Loader,
    batch: FrameBatch,
    /// Handed on or held so far.
    frames: i64,
    at: wire::Offsets,
    buckets: HashMap<String, u32>,
    expected: HashMap<Vec<Expect>, u32>,
    /// What the row before expects, and its index: most rows expect the same.
    last_expected: (Vec<Expect>, u32),
    /// By answer: whether it comes to the receivers.
    theirs: Vec<bool>,
    inbox: Vec<u8>,
}

impl<'a> Builder<'a> {
    fn new(loader: &'a Loader) -> Builder<'a> {
        Builder {
            loader,
            batch: empty(),
            frames: 0,
            at: wire::Offsets::default(),
            buckets: HashMap::new(),
            expected: HashMap::new(),
            last_expected: (Vec::new(), NOTHING),
            theirs: loader.receivers.as_ref().map(|receivers| receivers.theirs(&loader.plan.meta)).unwrap_or_default(),
            inbox: Vec::new(),
        }
    }

    fn full(&self) -> bool {
        self.batch.frames.len() >= BATCH_FRAMES || self.batch.bytes.len() >= BATCH_BYTES
    }

    /// False when nobody takes frames any more.
    fn send(&mut self) -> bool {
        let mut batch = std::mem::replace(&mut self.batch, empty());
        batch.ready_ns = self.loader.shared.clock.now_ns();
        batch.frames.is_empty() || self.loader.out.send(batch).is_ok()
    }

    /// Encodes a row, or has it wait for its gate; `at_ns` is its offset with the laps before it.
    fn add(&mut self, row: &Row<'_>, lap: i64, at_ns: i64, span: &mut Span) {
        let intended_ns = span.run_ns(at_ns);
        self.frames += 1;
        let encoder = &self.loader.encoder;
        let mut frame = Frame {
            op: encoder.op(row.op, lap),
            intended_ns,
            session: row.session,
            action: row.action,
            connection: encoder.connection(row.session),
            end: 0,
            too_large: encoder.too_large(row.payload),
            key: row.key.unwrap_or(UNKEYED),
            opener: row.gate().map_or(UNOPENED, |gate| encoder.op(gate.op, lap)),
            bucket: row.bucket.map_or(NOTHING, |text| self.bucket(text)),
            expected: self.expected(row),
        };
        if let Some(releases) = &self.loader.shared.releases {
            if row.opens > 0 {
                releases.remember(frame.op, row.opens, row.gate().is_none().then_some(intended_ns), row.key);
            }
            if let Some(gate) = row.gate() {
                // A delay passes as fast as the schedule does.
                let delay_ns = span.run_ns(at_ns.saturating_add(gate.delay_ns)) - intended_ns;
                return releases.hold(Waiting { row: row.to_operation(), lap, frame }, gate, delay_ns);
            }
        }
        encoder.inbox(frame.connection, frame.action, frame.op, &mut self.inbox);
        let reply = (!self.inbox.is_empty()).then_some(self.inbox.as_slice());
        encoder.encode(&mut self.batch.bytes, row.target, reply, row.headers(), row.payload, &mut self.at);
        for slot in row.slots().flatten() {
            let start = start_of(&slot, &self.at);
            encoder.fill(slot, lap, intended_ns, &mut self.batch.bytes[start..start + usize::from(slot.width)]);
        }
        frame.end = self.batch.bytes.len();
        self.batch.frames.push(frame);
    }

    fn expected(&mut self, row: &Row<'_>) -> u32 {
        if row.expect().eq(self.last_expected.0.iter().copied()) {
            return self.last_expected.1;
        }
        let mut list: Vec<Expect> = row.expect().collect();
        if let Some(receivers) = &self.loader.receivers {
            receivers.expect(&self.theirs, row.audience, &mut list);
        }
        let shared = &self.loader.shared.expected;
        let index = *self.expected.entry(list.clone()).or_insert_with_key(|list| shared.push(list.clone().into()) as u32);
        if self.loader.receivers.is_none() {
            self.last_expected = (list, index);
        }
        index
    }

    fn bucket(&mut self, text: &str) -> u32 {
        if let Some(&index) = self.buckets.get(text) {
            return index;
        }
        let index = self.loader.shared.buckets.push(text.into()) as u32;
        self.buckets.insert(text.to_owned(), index);
        index
    }
}

/// Where a slot begins in a frame.
fn start_of(slot: &Slot, at: &wire::Offsets) -> usize {
    let part = match slot.part {
        Part::Target => at.subject,
        Part::Payload => at.payload,
        Part::Header(n) => at.header_values[usize::from(n)],
    };
    part + slot.offset as usize
}

fn empty() -> FrameBatch {
    FrameBatch { bytes: Vec::with_capacity(BATCH_BYTES + 64 * 1024), frames: Vec::with_capacity(BATCH_FRAMES), ready_ns: 0 }
}
