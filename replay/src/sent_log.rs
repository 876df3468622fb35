use crate::loader::Frame;
use crate::shared::{Counters, NOTHING, SentRecord, Shared, UNGATED, answer_hash};
use runlog::{Flags, Outcome};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A send later than this is flagged with its cause, ns.
const LATE_NS: i64 = 1_000_000;

/// What one write got out, for the counters.
#[derive(Default)]
pub(crate) struct Written {
    pub ops: i64,
    bytes: i64,
    expected: i64,
    expected_hash: u64,
}

impl Written {
    pub fn add_to(&self, c: &Counters, sent_ns: i64) {
        if self.ops > 0 {
            c.sent.fetch_add(self.ops, Relaxed);
            c.sent_bytes.fetch_add(self.bytes, Relaxed);
            c.expected.fetch_add(self.expected, Relaxed);
            c.expected_hash.fetch_add(self.expected_hash, Relaxed);
            c.last_sent_ns.store(sent_ns, Relaxed);
        }
    }
}

/// The way of ops, sent or not, into the log.
pub(crate) struct SentLog {
    pub shared: Arc<Shared>,
    pub out: rtrb::Producer<SentRecord>,
}

impl SentLog {
    /// It is out whole.
    pub fn sent(&mut self, mut record: SentRecord, sent_ns: i64, written: &mut Written) {
        let lateness = sent_ns - record.intended_ns;
        if lateness > LATE_NS && record.flags & !Flags::GATED == 0 {
            record.flags |= Flags::WOKE_LATE;
        }
        record.sent_ns = Some(sent_ns);
        self.shared.counters.late(lateness);
        if let Some(live) = &self.shared.live {
            live.sent((record.op, record.key), record.action, record.intended_ns, sent_ns);
        }
        written.ops += 1;
        written.bytes += i64::from(record.bytes);
        if record.expected != NOTHING {
            for e in self.shared.expected[record.expected as usize].iter() {
                let count = e.count.unwrap_or(1);
                written.expected += i64::from(count);
                let keyed = self.shared.keyed.get(usize::from(e.answer)).copied().unwrap_or(false);
                let whose = if keyed { record.key } else { record.op };
                written.expected_hash = written.expected_hash.wrapping_add(answer_hash(whose, e.answer).wrapping_mul(count.into()));
            }
        }
        self.push(record);
    }

    pub fn push(&mut self, record: SentRecord) {
        if let Some(live) = &self.shared.live {
            live.unsent(record.outcome);
        }
        if record.outcome != Outcome::Sent as u8
            && let Some(releases) = &self.shared.releases
        {
            releases.unsent(record.op);
        }
        if self.out.push(record).is_err() {
            self.shared.counters.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// Of a frame that is not out yet.
pub(crate) fn record(frame: &Frame, bytes: u32, outcome: Outcome, flags: u16) -> SentRecord {
    SentRecord {
        op: frame.op,
        action: frame.action,
        session: frame.session,
        connection: frame.connection,
        intended_ns: frame.intended_ns,
        sent_ns: None,
        bytes,
        outcome: outcome as u8,
        flags,
        bucket: frame.bucket,
        expected: frame.expected,
        slip_ns: UNGATED,
        key: frame.key,
        opener: frame.opener,
    }
}
