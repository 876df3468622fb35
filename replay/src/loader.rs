//! Turns rows of the schedule into frames that need no more work: encoded, ids and times filled in.

use crate::options::{Error, Plan};
use crate::shared::{NOTHING, Shared};
use runlog::Flags;
use schedule::{Expect, Id, IdKey, Part, Reader, Row, Slot, SlotKind, units};
use std::collections::HashMap;
use std::io::Write;
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
    pub key: IdKey,
    /// Wall clock at the anchor, epoch ns.
    pub anchor_epoch_ns: i64,
    pub max_payload: usize,
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
        for lap in 0..i64::from(self.plan.loops) {
            for batch in reader.batches()? {
                for row in batch?.rows() {
                    let intended_ns = self.plan.tempo.run_ns(lap * self.plan.meta.duration_ns + row.at_ns);
                    if intended_ns >= self.plan.until_ns || self.shared.stop.asked() > 0 {
                        builder.send();
                        return Ok(());
                    }
                    builder.add(&row, lap, intended_ns);
                    if builder.full() && !builder.send() {
                        return Ok(());
                    }
                }
            }
        }
        builder.send();
        Ok(())
    }
}

struct Builder<'a> {
    loader: &'a Loader,
    batch: FrameBatch,
    at: wire::Offsets,
    buckets: HashMap<String, u32>,
    expected: HashMap<Vec<Expect>, u32>,
    /// What the row before expects, and its index: most rows expect the same.
    last_expected: (Vec<Expect>, u32),
    inbox: Vec<u8>,
    /// Number of publishing connections.
    publishing: usize,
    /// Nominal time between ops: the time in request ids follows from the op alone.
    op_ms: f64,
}

impl<'a> Builder<'a> {
    fn new(loader: &'a Loader) -> Builder<'a> {
        Builder {
            loader,
            batch: empty(),
            at: wire::Offsets::default(),
            buckets: HashMap::new(),
            expected: HashMap::new(),
            last_expected: (Vec::new(), NOTHING),
            inbox: Vec::new(),
            publishing: loader.shared.connections.iter().filter(|c| c.role == runlog::Role::Publish).count(),
            op_ms: loader.plan.meta.duration_ns as f64 / loader.plan.meta.rows as f64 / 1e6,
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

    fn add(&mut self, row: &Row<'_>, lap: i64, intended_ns: i64) {
        let loader = self.loader;
        let connection = (row.session as usize % self.publishing) as u16;
        let op = row.op + lap * loader.plan.meta.rows;
        self.inbox.clear();
        if loader.plan.meta.wants_inbox(row.action) {
            self.inbox.extend_from_slice(loader.shared.connections[usize::from(connection)].inbox_prefix.as_bytes());
            // The action tells which rules apply to what comes back.
            write!(self.inbox, ".{}.", row.action).expect("a Vec takes everything");
            let token = self.inbox.len();
            self.inbox.resize(token + 20, 0);
            loader.key.write_base62(Id { op, ordinal: Id::INBOX }, &mut self.inbox[token..]);
        }
        let reply = (!self.inbox.is_empty()).then_some(self.inbox.as_slice());
        wire::encode_publish(&mut self.batch.bytes, row.target, reply, row.headers(), row.payload, &mut self.at);
        for slot in row.slots().flatten() {
            self.fill(slot, lap, intended_ns);
        }
        let expected = self.expected(row);
        let bucket = row.bucket.map_or(NOTHING, |text| self.bucket(text));
        self.batch.frames.push(Frame {
            op,
            intended_ns,
            session: row.session,
            action: row.action,
            connection,
            end: self.batch.bytes.len(),
            too_large: row.payload.len() > loader.max_payload,
            bucket,
            expected,
        });
    }

    fn fill(&mut self, slot: Slot, lap: i64, intended_ns: i64) {
        let start = match slot.part {
            Part::Target => self.at.subject,
            Part::Payload => self.at.payload,
            Part::Header(n) => self.at.header_values[usize::from(n)],
        } + slot.offset as usize;
        let out = &mut self.batch.bytes[start..start + usize::from(slot.width)];
        let id = Id { op: slot.op + lap * self.loader.plan.meta.rows, ordinal: slot.ordinal };
        let key = &self.loader.key;
        let wall_ms = (self.loader.anchor_epoch_ns + intended_ns) / 1_000_000;
        match slot.kind {
            SlotKind::Message => key.write_base62(id, out),
            SlotKind::Request => {
                let nominal_ms = (id.op as f64 * self.op_ms) as i64;
                key.write_uuid(id, self.loader.anchor_epoch_ns / 1_000_000 + nominal_ms, out);
            }
            SlotKind::EpochMs => units::write_digits(wall_ms, out),
            SlotKind::Rfc3339 => units::write_rfc3339(wall_ms, out),
            SlotKind::Fresh => key.write_fresh(id, out),
        }
    }

    fn expected(&mut self, row: &Row<'_>) -> u32 {
        if row.expect().eq(self.last_expected.0.iter().copied()) {
            return self.last_expected.1;
        }
        let list: Vec<Expect> = row.expect().collect();
        let shared = &self.loader.shared.expected;
        let index = *self.expected.entry(list.clone()).or_insert_with_key(|list| shared.push(list.clone().into()) as u32);
        self.last_expected = (list, index);
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

fn empty() -> FrameBatch {
    FrameBatch { bytes: Vec::with_capacity(BATCH_BYTES + 64 * 1024), frames: Vec::with_capacity(BATCH_FRAMES), ready_ns: 0 }
}
