//! What an op of this run looks like on the wire: ids, times and the reply inbox.

use crate::connection::Connection;
use crate::http::request;
use crate::options::{Plan, Transport};
use schedule::{Id, IdKey, Slot, SlotKind, units};
use std::io::Write;
use wire::Offsets;

/// What all ops of a run have in common.
pub(crate) struct Encoder {
    key: IdKey,
    /// Wall clock at the anchor, epoch ns.
    anchor_epoch_ns: i64,
    /// Rows of a lap.
    rows: i64,
    /// Nominal time between ops: the time in request ids follows from the op alone.
    op_ms: f64,
    /// By action: whether an inbox belongs to it.
    wants_inbox: Vec<bool>,
    /// Inbox prefixes of the publishing connections.
    prefixes: Vec<String>,
    /// Bytes that the server takes at a time.
    max_payload: usize,
    transport: Transport,
}

impl Encoder {
    pub fn new(plan: &Plan, key: IdKey, anchor_epoch_ns: i64, max_payload: usize, connections: &[Connection]) -> Encoder {
        let publishing = connections.iter().filter(|c| c.role == runlog::Role::Publish);
        Encoder {
            key,
            anchor_epoch_ns,
            rows: plan.meta.rows,
            op_ms: plan.meta.duration_ns as f64 / plan.meta.rows as f64 / 1e6,
            wants_inbox: (0..plan.meta.actions.len()).map(|action| plan.meta.wants_inbox(action as u16)).collect(),
            prefixes: publishing.map(|c| c.inbox_prefix.clone()).collect(),
            max_payload,
            transport: plan.transport,
        }
    }

    /// Appends the frame of an op, and says where its parts begin.
    pub fn encode<'a>(
        &self,
        out: &mut Vec<u8>,
        target: &str,
        reply: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone,
        payload: &[u8],
        at: &mut Offsets,
    ) {
        match self.transport {
            Transport::Nats => wire::encode_publish(out, target, reply, headers, payload, at),
            Transport::Web => request::encode(out, target, headers, payload, at),
        }
    }

    /// The connection that a session keeps to.
    pub fn connection(&self, session: u32) -> u16 {
        (session as usize % self.prefixes.len().max(1)) as u16
    }

    /// The number in the run of row `row` of a lap.
    pub fn op(&self, row: i64, lap: i64) -> i64 {
        row + lap * self.rows
    }

    /// Whether the server would not take it.
    pub fn too_large(&self, payload: &[u8]) -> bool {
        payload.len() > self.max_payload
    }

    /// Writes an op's reply inbox to `out`, which is empty afterwards if its action has none.
    pub fn inbox(&self, connection: u16, action: u16, op: i64, out: &mut Vec<u8>) {
        out.clear();
        if self.transport == Transport::Nats && self.wants_inbox[usize::from(action)] {
            out.extend_from_slice(self.prefixes[usize::from(connection)].as_bytes());
            // The action tells which rules apply to what comes back.
            write!(out, ".{action}.").expect("a Vec takes everything");
            let token = out.len();
            out.resize(token + 20, 0);
            self.key.write_base62(Id { op, ordinal: Id::INBOX }, &mut out[token..]);
        }
    }

    /// Fills a slot of an op that is due at `intended_ns`; `out` is as wide as the slot.
    pub fn fill(&self, slot: Slot, lap: i64, intended_ns: i64, out: &mut [u8]) {
        let id = Id { op: self.op(slot.op, lap), ordinal: slot.ordinal };
        let wall_ms = (self.anchor_epoch_ns + intended_ns) / 1_000_000;
        match slot.kind {
            SlotKind::Message => self.key.write_base62(id, out),
            SlotKind::Request => {
                let nominal_ms = (id.op as f64 * self.op_ms) as i64;
                self.key.write_uuid(id, self.anchor_epoch_ns / 1_000_000 + nominal_ms, out);
            }
            SlotKind::EpochMs => units::write_digits(wall_ms, out),
            SlotKind::Rfc3339 => units::write_rfc3339(wall_ms, out),
            SlotKind::Fresh => self.key.write_fresh(id, out),
        }
    }
}
