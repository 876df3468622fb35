//! The log thread: takes records from the hot threads and writes the run folder.

use crate::decode::Whose;
use crate::shared::{AnswerRecord, NOTHING, Note, SentRecord, Shared, UNGATED, UNKEYED, UNOPENED};
use runlog::{Broadcast, Checked, Event, EventKind, Frame, Keyed, LogWriter, Metric, Phases, Reply, Sealer, Sent};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};

const DRAIN_NS: i64 = 10_000_000;
const FLUSH_NS: i64 = 500_000_000;
/// A record is in its buffer this long after its time stamp at the latest, ns.
const IN_BUFFER_NS: i64 = 100_000_000;

pub(crate) struct Logger {
    pub shared: Arc<Shared>,
    pub sent: rtrb::Consumer<SentRecord>,
    pub answers: rtrb::Consumer<AnswerRecord>,
    pub notes: mpsc::Receiver<Note>,
}

struct Logs {
    sends: LogWriter<Sent>,
    replies: LogWriter<Reply>,
    broadcasts: LogWriter<Broadcast>,
    keyed: LogWriter<Keyed>,
    phases: LogWriter<Phases>,
    frames: LogWriter<Frame>,
    checks: LogWriter<Checked>,
    events: LogWriter<Event>,
    metrics: LogWriter<Metric>,
}

impl Logger {
    /// Writes until told to finish, then closes everything.
    pub fn run(mut self, dir: &Path) -> Result<(), runlog::Error> {
        let sealer = Sealer::start();
        let mut logs = Logs {
            sends: LogWriter::create(dir, &sealer),
            replies: LogWriter::create(dir, &sealer),
            broadcasts: LogWriter::create(dir, &sealer),
            keyed: LogWriter::create(dir, &sealer),
            phases: LogWriter::create(dir, &sealer),
            frames: LogWriter::create(dir, &sealer),
            checks: LogWriter::create(dir, &sealer),
            events: LogWriter::create(dir, &sealer),
            metrics: LogWriter::create(dir, &sealer),
        };
        let clock = self.shared.clock;
        let mut last_flush = clock.now_ns();
        loop {
            let finishing = self.shared.logged.load(Relaxed);
            let started = clock.now_ns();
            self.drain(&mut logs)?;
            if finishing || started - last_flush >= FLUSH_NS {
                self.note_counters(&mut logs, started)?;
                let watermark = if finishing { started } else { started - IN_BUFFER_NS };
                logs.events.push(Event::new(started, EventKind::Flushed, watermark, None))?;
                logs.sends.flush()?;
                logs.replies.flush()?;
                logs.broadcasts.flush()?;
                logs.keyed.flush()?;
                logs.phases.flush()?;
                logs.frames.flush()?;
                logs.checks.flush()?;
                logs.metrics.flush()?;
                logs.events.flush()?;
                self.shared.counters.flushed_ns.store(watermark, Relaxed);
                last_flush = started;
            }
            if finishing {
                break;
            }
            clock.sleep_until(started + DRAIN_NS, 0);
        }
        logs.sends.close()?;
        logs.replies.close()?;
        logs.broadcasts.close()?;
        logs.keyed.close()?;
        logs.phases.close()?;
        logs.frames.close()?;
        logs.checks.close()?;
        logs.metrics.close()?;
        logs.events.close()?;
        sealer.finish()
    }

    fn drain(&mut self, logs: &mut Logs) -> Result<(), runlog::Error> {
        let counters = &self.shared.counters;
        counters.queued_sends.fetch_max(self.sent.slots() as i64, Relaxed);
        counters.queued_answers.fetch_max(self.answers.slots() as i64, Relaxed);
        while let Ok(r) = self.sent.pop() {
            logs.sends.push(Sent {
                op: r.op,
                action: r.action,
                bucket: (r.bucket != NOTHING).then(|| self.shared.buckets[r.bucket as usize].clone()),
                session: r.session,
                connection: r.connection,
                intended_ns: r.intended_ns,
                sent_ns: r.sent_ns,
                bytes: r.bytes,
                outcome: r.outcome,
                flags: r.flags,
                expected: self.shared.expected[r.expected as usize].clone(),
                slip_ns: (r.slip_ns != UNGATED).then_some(r.slip_ns),
                key: (r.key != UNKEYED).then_some(r.key),
                opener: (r.opener != UNOPENED).then_some(r.opener),
            })?;
        }
        while let Ok(r) = self.answers.pop() {
            let AnswerRecord { whose, answer, status, connection, received_ns, bytes, recipient, code, broadcast, more } = r;
            if let Some(more) = more {
                more.phases.map(|phases| logs.phases.push(phases)).transpose()?;
                more.checked.map(|checked| logs.checks.push(checked)).transpose()?;
                more.frame.map(|frame| logs.frames.push(frame)).transpose()?;
                if more.no_answer {
                    continue;
                }
            }
            match whose {
                Whose::Key(key) => logs.keyed.push(Keyed { key, answer, received_ns, connection, status, code, bytes, recipient })?,
                Whose::Op(op) if broadcast => {
                    logs.broadcasts.push(Broadcast { op, answer, received_ns, connection, status, code, bytes, recipient })?;
                }
                Whose::Op(op) => logs.replies.push(Reply { op, answer, received_ns, connection, status, code, bytes })?,
            }
        }
        while let Ok(note) = self.notes.try_recv() {
            match note {
                Note::Event(event) => logs.events.push(event)?,
                Note::Metric(metric) => logs.metrics.push(metric)?,
            }
        }
        Ok(())
    }

    /// Cumulative counters of what the logs do not show row by row.
    fn note_counters(&self, logs: &mut Logs, t_ns: i64) -> Result<(), runlog::Error> {
        let counters = &self.shared.counters;
        for (kind, value) in [(EventKind::Foreign, &counters.foreign), (EventKind::Dropped, &counters.dropped)] {
            let value = value.load(Relaxed);
            if value > 0 {
                logs.events.push(Event::new(t_ns, kind, value, None))?;
            }
        }
        Ok(())
    }
}
