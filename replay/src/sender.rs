//! The pacer thread: sleeps to absolute times, writes what is due, never waits for anything else.

use crate::clock::thread_cpu_ns;
use crate::connection::Connection;
use crate::loader::{Frame, FrameBatch};
use crate::options::OnDisconnect;
use crate::pacer::{self, Step};
use crate::shared::{SentRecord, Shared, answer_hash};
use runlog::{EventKind, Flags, Outcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use wire::Stream;

/// Longest sleep: connections and signals are looked after at least this often, ns.
const NAP_NS: i64 = 50_000_000;
/// A send later than this is flagged with its cause, ns.
const LATE_NS: i64 = 1_000_000;
/// Bytes kept for a connection that takes no more.
const OUTBOX_BYTES_MAX: usize = 64 << 20;
/// How often the server is asked to confirm what it got, ns.
const PING_NS: i64 = 200_000_000;
/// Above this rate nothing is gained by spinning.
const SPIN_RATE_MAX: f64 = 20_000.0;
const SPIN_NS: i64 = 20_000;
/// Of a core, above which the spin is dropped.
const OWN_CPU_MAX: f64 = 0.8;

pub(crate) struct Sender {
    pub shared: Arc<Shared>,
    pub batches: mpsc::Receiver<FrameBatch>,
    pub log: rtrb::Producer<SentRecord>,
    pub rate_per_sec: f64,
    pub on_disconnect: OnDisconnect,
}

/// What waits to be written to one connection.
struct Outbox {
    bytes: Vec<u8>,
    /// Bytes of `bytes` already written.
    written: usize,
    /// Records of frames not yet wholly written, with the end of each in `bytes`.
    waiting: VecDeque<(usize, SentRecord)>,
    stream: Option<Arc<Stream>>,
    generation: u32,
    full: bool,
    last_ping_ns: i64,
    sent_since_ping: bool,
}

impl Outbox {
    fn new() -> Outbox {
        Outbox {
            bytes: Vec::new(),
            written: 0,
            waiting: VecDeque::new(),
            stream: None,
            generation: 0,
            full: false,
            last_ping_ns: 0,
            sent_since_ping: false,
        }
    }

    fn has_bytes(&self) -> bool {
        self.written < self.bytes.len()
    }

    /// Forgets what was written; a frame cut by the loss of its connection begins again.
    fn rewind_to_frame(&mut self, frame_start: usize) {
        self.bytes.drain(..frame_start);
        self.waiting.iter_mut().for_each(|(end, _)| *end -= frame_start);
        self.written = 0;
    }
}

impl Sender {
    /// Sends until the last frame is written, or a signal asks for the end.
    pub fn run(mut self) {
        let mut outboxes: Vec<Outbox> = self.publishing().map(|_| Outbox::new()).collect();
        let mut ready: VecDeque<FrameBatch> = VecDeque::new();
        // Frames and bytes of the first batch that are gone.
        let (mut next, mut offset) = (0, 0);
        let mut last = false;
        let mut spin = Spin::new(self.rate_per_sec);
        while self.shared.stop.asked() == 0 {
            last |= self.take_ready(&mut ready);
            let now = self.shared.clock.now_ns();
            let intended = ready.iter().enumerate().flat_map(|(i, b)| &b.frames[if i == 0 { next } else { 0 }..]).map(|f| f.intended_ns);
            let wait = match pacer::step(now, intended, last) {
                Step::Send(n) => {
                    for _ in 0..n {
                        let batch = &mut ready[0];
                        let frame = &mut batch.frames[next];
                        let bytes = &batch.bytes[offset..frame.end];
                        let flags = if batch.ready_ns > frame.intended_ns { Flags::LOADER_LATE } else { 0 };
                        self.enqueue(&mut outboxes[usize::from(frame.connection)], frame, bytes, flags);
                        offset = frame.end;
                        next += 1;
                        if next == batch.frames.len() {
                            ready.pop_front();
                            (next, offset) = (0, 0);
                        }
                    }
                    0
                }
                Step::Wait(t) => t,
                Step::Starved => now + 100_000,
                Step::Done if outboxes.iter().all(|o| !o.has_bytes()) => break,
                Step::Done => now + NAP_NS,
            };
            self.write_all(&mut outboxes);
            if wait > 0 {
                self.rest(&outboxes, wait, spin.ns(now));
            }
        }
        self.finish(&mut outboxes);
        let now = self.shared.clock.now_ns();
        for (i, batch) in ready.iter_mut().enumerate() {
            let first = if i == 0 { next } else { 0 };
            for frame in batch.frames[first..].iter_mut().take_while(|f| f.intended_ns <= now) {
                self.log(record(frame, 0, Outcome::Cancelled, 0));
            }
        }
        self.shared.event(EventKind::SendingDone, 0, None);
        self.shared.sending_done.store(true, Relaxed);
    }

    fn publishing(&self) -> impl Iterator<Item = &Connection> {
        self.shared.connections.iter().filter(|c| c.role == runlog::Role::Publish)
    }

    /// Takes what the loader has ready; true once there will be no more.
    fn take_ready(&self, ready: &mut VecDeque<FrameBatch>) -> bool {
        while ready.len() < 2 {
            match self.batches.try_recv() {
                Ok(batch) => ready.push_back(batch),
                Err(mpsc::TryRecvError::Empty) => return false,
                Err(mpsc::TryRecvError::Disconnected) => return true,
            }
        }
        false
    }

    fn enqueue(&mut self, outbox: &mut Outbox, frame: &mut Frame, bytes: &[u8], mut flags: u16) {
        self.shared.counters.due.fetch_add(1, Relaxed);
        let down = outbox.stream.is_none();
        if down {
            flags |= Flags::DISCONNECTED;
        }
        if outbox.full {
            flags |= Flags::SOCKET_FULL;
        }
        let refused = if frame.too_large {
            Some(Outcome::TooLarge)
        } else if down && outbox.generation > 0 && self.on_disconnect == OnDisconnect::Skip {
            Some(Outcome::Disconnected)
        } else if outbox.bytes.len() - outbox.written > OUTBOX_BYTES_MAX {
            Some(Outcome::Overflow)
        } else {
            None
        };
        let record = record(frame, bytes.len() as u32, refused.unwrap_or(Outcome::Sent), flags);
        if refused.is_some() {
            self.log(record);
        } else {
            outbox.bytes.extend_from_slice(bytes);
            outbox.waiting.push_back((outbox.bytes.len(), record));
        }
    }

    fn write_all(&mut self, outboxes: &mut [Outbox]) {
        let shared = self.shared.clone();
        for (connection, outbox) in shared.connections.iter().filter(|c| c.role == runlog::Role::Publish).zip(outboxes) {
            if connection.generation() != outbox.generation {
                outbox.generation = connection.generation();
                outbox.stream = connection.stream();
                outbox.full = false;
            }
            let Some(stream) = outbox.stream.clone() else { continue };
            let now = shared.clock.now_ns();
            if !outbox.has_bytes() {
                // Between frames: other threads' bytes may go, and a PING that asks what arrived.
                let mut control = connection.take_control();
                if outbox.sent_since_ping && now - outbox.last_ping_ns >= PING_NS {
                    control.extend_from_slice(b"PING\r\n");
                    connection.ping_sent(now);
                    (outbox.last_ping_ns, outbox.sent_since_ping) = (now, false);
                }
                outbox.bytes.splice(..outbox.written, control);
                outbox.written = 0;
            }
            if outbox.has_bytes() {
                self.write(connection, outbox, &stream);
            } else {
                outbox.full = !stream.flush().unwrap_or(true);
            }
        }
    }

    /// One write; stamps and logs the frames that went out whole.
    fn write(&mut self, connection: &Connection, outbox: &mut Outbox, stream: &Stream) {
        let sent_ns = self.shared.clock.now_ns();
        match stream.write(&outbox.bytes[outbox.written..]) {
            Ok(n) => {
                outbox.written += n;
                outbox.full = outbox.has_bytes();
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => outbox.full = true,
            Err(e) => return self.lost(connection, outbox, &e.to_string()),
        }
        while outbox.waiting.front().is_some_and(|(end, _)| *end <= outbox.written) {
            let (_, mut record) = outbox.waiting.pop_front().expect("just seen");
            let lateness = sent_ns - record.intended_ns;
            if lateness > LATE_NS && record.flags == 0 {
                record.flags = Flags::WOKE_LATE;
            }
            record.sent_ns = Some(sent_ns);
            outbox.sent_since_ping = true;
            let c = &self.shared.counters;
            c.late(lateness);
            c.sent.fetch_add(1, Relaxed);
            c.sent_bytes.fetch_add(i64::from(record.bytes), Relaxed);
            for e in record.expected.iter() {
                let count = e.count.unwrap_or(1);
                c.expected.fetch_add(count.into(), Relaxed);
                c.expected_hash.fetch_add(answer_hash(record.op, e.answer).wrapping_mul(count.into()), Relaxed);
            }
            c.last_sent_ns.store(sent_ns, Relaxed);
            self.log(record);
        }
        if outbox.full {
            outbox.waiting.iter_mut().for_each(|(_, record)| record.flags |= Flags::SOCKET_FULL);
        }
        if !outbox.has_bytes() {
            outbox.bytes.clear();
            outbox.written = 0;
        }
    }

    fn lost(&self, connection: &Connection, outbox: &mut Outbox, why: &str) {
        if connection.lose(outbox.generation) {
            let now = self.shared.clock.now_ns();
            let confirmed = connection.confirmed_ns.load(Relaxed);
            let event = runlog::Event::of(connection.index, now, EventKind::Lost, confirmed, Some(why));
            self.shared.note(crate::shared::Note::Event(event));
        }
        let frame_start = outbox.waiting.front().map_or(outbox.bytes.len(), |(end, record)| end - record.bytes as usize);
        outbox.rewind_to_frame(frame_start);
        outbox.waiting.iter_mut().for_each(|(_, record)| record.flags |= Flags::DISCONNECTED);
        outbox.generation = connection.generation();
        outbox.stream = None;
    }

    /// Sleeps until `wake_ns`, or until a full socket takes more.
    fn rest(&self, outboxes: &[Outbox], wake_ns: i64, spin_ns: i64) {
        let now = self.shared.clock.now_ns();
        let wake_ns = wake_ns.min(now + NAP_NS);
        let full: Vec<&Arc<Stream>> = outboxes.iter().filter(|o| o.full).filter_map(|o| o.stream.as_ref()).collect();
        if full.is_empty() {
            self.shared.clock.sleep_until(wake_ns, spin_ns);
        } else {
            let mut fds: Vec<PollFd<'_>> = full.iter().map(|s| PollFd::new(&***s, PollFlags::OUT)).collect();
            let timeout = Timespec { tv_sec: 0, tv_nsec: (wake_ns - now).clamp(0, NAP_NS) };
            // Whatever woke us, the next round looks at everything again.
            let _ = poll(&mut fds, Some(&timeout));
        }
    }

    /// What a signal kept from the wire is logged as cancelled.
    fn finish(&mut self, outboxes: &mut [Outbox]) {
        for outbox in outboxes {
            for (_, mut record) in std::mem::take(&mut outbox.waiting) {
                record.outcome = Outcome::Cancelled as u8;
                self.log(record);
            }
        }
    }

    fn log(&mut self, record: SentRecord) {
        if self.log.push(record).is_err() {
            self.shared.counters.dropped.fetch_add(1, Relaxed);
        }
    }
}

fn record(frame: &mut Frame, bytes: u32, outcome: Outcome, flags: u16) -> SentRecord {
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
        bucket: frame.bucket.take(),
        expected: frame.expected.clone(),
    }
}

/// How long to spin before a due time: not at high rates, and not when it costs too much of a core.
struct Spin {
    ns: i64,
    since: (i64, i64),
}

impl Spin {
    fn new(rate_per_sec: f64) -> Spin {
        Spin { ns: if rate_per_sec <= SPIN_RATE_MAX { SPIN_NS } else { 0 }, since: (0, thread_cpu_ns()) }
    }

    fn ns(&mut self, now_ns: i64) -> i64 {
        if self.ns > 0 && now_ns - self.since.0 > 1_000_000_000 {
            let cpu = thread_cpu_ns();
            if (cpu - self.since.1) as f64 > OWN_CPU_MAX * (now_ns - self.since.0) as f64 {
                self.ns = 0;
            }
            self.since = (now_ns, cpu);
        }
        self.ns
    }
}
