//! The pacer thread: sleeps to absolute times, writes what is due, never waits for anything else.

use crate::clock::thread_cpu_ns;
use crate::connection::Connection;
use crate::loader::{Frame, FrameBatch};
use crate::options::OnDisconnect;
use crate::outbox::Outbox;
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

/// The way to one connection.
#[derive(Default)]
struct Lane {
    outbox: Outbox<SentRecord>,
    stream: Option<Arc<Stream>>,
    generation: u32,
    full: bool,
    last_ping_ns: i64,
    sent_since_ping: bool,
}

impl Sender {
    /// Sends until the last frame is written, or a signal asks for the end.
    pub fn run(mut self) {
        let mut lanes: Vec<Lane> = self.publishing().map(|_| Lane::default()).collect();
        self.write_all(&mut lanes);
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
                        self.enqueue(&mut lanes[usize::from(frame.connection)], frame, bytes, flags);
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
                Step::Done if lanes.iter().all(|l| l.outbox.unwritten().is_empty()) => break,
                Step::Done => now + NAP_NS,
            };
            self.write_all(&mut lanes);
            if wait > 0 {
                self.rest(&lanes, wait, spin.ns(now));
            }
        }
        // What a signal kept from the wire is logged as cancelled.
        for mut left in lanes.into_iter().flat_map(|lane| lane.outbox.into_waiting()) {
            left.outcome = Outcome::Cancelled as u8;
            self.log(left);
        }
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

    fn enqueue(&mut self, lane: &mut Lane, frame: &mut Frame, bytes: &[u8], mut flags: u16) {
        self.shared.counters.due.fetch_add(1, Relaxed);
        let down = lane.stream.is_none();
        if down {
            flags |= Flags::DISCONNECTED;
        }
        if lane.full {
            flags |= Flags::SOCKET_FULL;
        }
        let refused = if frame.too_large {
            Some(Outcome::TooLarge)
        } else if down && self.on_disconnect == OnDisconnect::Skip {
            Some(Outcome::Disconnected)
        } else if lane.outbox.unwritten().len() > OUTBOX_BYTES_MAX {
            Some(Outcome::Overflow)
        } else {
            None
        };
        let record = record(frame, bytes.len() as u32, refused.unwrap_or(Outcome::Sent), flags);
        if refused.is_some() {
            self.log(record);
        } else {
            lane.outbox.push_frame(bytes, record);
        }
    }

    fn write_all(&mut self, lanes: &mut [Lane]) {
        let shared = self.shared.clone();
        for (connection, lane) in shared.connections.iter().filter(|c| c.role == runlog::Role::Publish).zip(lanes) {
            if connection.generation() != lane.generation {
                lane.take_over(connection);
            }
            let Some(stream) = lane.stream.clone() else { continue };
            let now = shared.clock.now_ns();
            lane.outbox.push_control(&connection.take_control());
            if lane.sent_since_ping && now - lane.last_ping_ns >= PING_NS {
                // Its PONG confirms everything sent before.
                lane.outbox.push_control(b"PING\r\n");
                connection.ping_sent(now);
                (lane.last_ping_ns, lane.sent_since_ping) = (now, false);
            }
            if lane.outbox.unwritten().is_empty() {
                lane.full = !stream.flush().unwrap_or(true);
            } else {
                self.write(connection, lane, &stream);
            }
        }
    }

    /// One write; stamps and logs the frames that went out whole.
    fn write(&mut self, connection: &Connection, lane: &mut Lane, stream: &Stream) {
        let sent_ns = self.shared.clock.now_ns();
        let taken = match stream.write(lane.outbox.unwritten()) {
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => return self.lost(connection, lane, &e.to_string()),
        };
        let before = self.shared.counters.sent.load(Relaxed);
        lane.outbox.wrote(taken, |record| self.sent(record, sent_ns));
        lane.sent_since_ping |= self.shared.counters.sent.load(Relaxed) > before;
        let full = !lane.outbox.unwritten().is_empty();
        if full && !lane.full {
            // Those that come later are flagged as they come.
            lane.outbox.waiting_mut().for_each(|record| record.flags |= Flags::SOCKET_FULL);
        }
        lane.full = full;
    }

    /// A frame is out whole.
    fn sent(&mut self, mut record: SentRecord, sent_ns: i64) {
        let lateness = sent_ns - record.intended_ns;
        if lateness > LATE_NS && record.flags == 0 {
            record.flags = Flags::WOKE_LATE;
        }
        record.sent_ns = Some(sent_ns);
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

    fn lost(&self, connection: &Connection, lane: &mut Lane, why: &str) {
        if connection.lose(lane.generation) {
            let now = self.shared.clock.now_ns();
            let confirmed = connection.confirmed_ns.load(Relaxed);
            let event = runlog::Event::of(connection.index, now, EventKind::Lost, confirmed, Some(why));
            self.shared.note(crate::shared::Note::Event(event));
        }
        lane.take_over(connection);
    }

    /// Sleeps until `wake_ns`, or until a full socket takes more.
    fn rest(&self, lanes: &[Lane], wake_ns: i64, spin_ns: i64) {
        let now = self.shared.clock.now_ns();
        let wake_ns = wake_ns.min(now + NAP_NS);
        let full: Vec<&Arc<Stream>> = lanes.iter().filter(|l| l.full).filter_map(|l| l.stream.as_ref()).collect();
        if full.is_empty() {
            self.shared.clock.sleep_until(wake_ns, spin_ns);
        } else {
            let mut fds: Vec<PollFd<'_>> = full.iter().map(|s| PollFd::new(&***s, PollFlags::OUT)).collect();
            let timeout = Timespec { tv_sec: 0, tv_nsec: (wake_ns - now).clamp(0, NAP_NS) };
            // Whatever woke us, the next round looks at everything again.
            let _ = poll(&mut fds, Some(&timeout));
        }
    }

    fn log(&mut self, record: SentRecord) {
        if self.log.push(record).is_err() {
            self.shared.counters.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Lane {
    /// The connection has another stream, or none: what was cut off begins again.
    fn take_over(&mut self, connection: &Connection) {
        self.generation = connection.generation();
        self.stream = connection.stream();
        self.full = false;
        self.outbox.restart();
        if self.stream.is_none() {
            self.outbox.waiting_mut().for_each(|record| record.flags |= Flags::DISCONNECTED);
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
