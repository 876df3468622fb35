//! The pacer thread: sleeps to absolute times, writes what is due, never waits for anything else.

use crate::connection::Connection;
use crate::loader::{Frame, FrameBatch};
use crate::options::OnDisconnect;
use crate::outbox::Outbox;
use crate::pacer::{self, Step};
use crate::ready::Ready;
use crate::release::{Release, Released};
use crate::sent_log::{SentLog, Written, record};
use crate::shared::{SentRecord, Shared, UNGATED};
use crate::spin::Spin;
use runlog::{EventKind, Flags, Outcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::ErrorKind;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use wire::Stream;

/// Between looks at connections that nothing is sent over, ns.
const LOOK_AFTER_NS: i64 = 20_000_000;
const LOOK_AFTER_AT_ONCE: usize = 64;
/// Sleep where the loader has nothing ready, ns; longer by as much each time, between steps.
const STARVED_NS: i64 = 100_000;
const STARVED_MAX: i64 = 20;
/// Does not sleep so shortly before a due time.
const SPIN_NS: i64 = 20_000;
/// Longest sleep: connections and signals are looked after at least this often, ns.
const NAP_NS: i64 = 50_000_000;
/// Bytes kept for a connection that takes no more, so that it does not hold up the others.
const OUTBOX_BYTES_MAX: usize = 64 << 20;
/// The same for the only one, which can hold up nothing but the loader.
const ONLY_OUTBOX_BYTES_MAX: usize = 256 << 10;
/// How often the server is asked to confirm what it got, ns.
const PING_NS: i64 = 200_000_000;

pub(crate) struct Sender {
    pub shared: Arc<Shared>,
    pub batches: mpsc::Receiver<FrameBatch>,
    /// Ops that had to wait for answers.
    pub released: Released,
    pub log: SentLog,
    pub rate_per_sec: f64,
    pub on_disconnect: OnDisconnect,
    /// Least time between two writes.
    pub write_spacing_ns: i64,
    /// How long what waits for a connection is kept once nothing more is due, ns.
    pub give_up_ns: i64,
}

/// The way to one connection.
struct Lane {
    outbox: Outbox<SentRecord>,
    stream: Option<Arc<Stream>>,
    generation: u32,
    full: bool,
    /// It is in [`Lanes::dirty`].
    dirty: bool,
    /// When it was last seen to take no more, ns.
    full_until_ns: i64,
    last_ping_ns: i64,
    sent_since_ping: bool,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane {
            outbox: Outbox::default(),
            stream: None,
            generation: 0,
            full: false,
            dirty: false,
            full_until_ns: i64::MIN,
            last_ping_ns: 0,
            sent_since_ping: false,
        }
    }
}

impl Sender {
    /// Sends until the last frame is written, or a signal asks for the end.
    pub fn run(mut self) {
        let mut lanes = Lanes::new(self.publishing().count());
        for (lane, connection) in lanes.all.iter_mut().zip(self.publishing()) {
            lane.take_over(connection);
        }
        let mut ready = Ready::default();
        let mut spin = Spin::new(SPIN_NS, self.rate_per_sec);
        let (mut next_write_ns, mut give_up_ns, mut starved) = (i64::MIN, None, 0);
        if let Some(releases) = &self.shared.releases {
            let me = std::thread::current();
            releases.wake_by(move || me.unpark());
        }
        while self.shared.stop.asked() == 0 {
            ready.refill(&self.batches);
            let now = self.shared.clock.now_ns();
            while let Some(release) = self.released.next(now) {
                self.send_released(&mut lanes, release);
            }
            let wait = match pacer::step(now, ready.intended_ns(), ready.last) {
                Step::Send(_) if now < next_write_ns => next_write_ns,
                Step::Send(n) => {
                    starved = 0;
                    // More may be due than goes out at once.
                    next_write_ns = if n < pacer::BURST_MAX { now.saturating_add(self.write_spacing_ns) } else { now };
                    let taken = self.send(&mut lanes, &mut ready, n);
                    self.shared.counters.due.fetch_add(taken as i64, Relaxed);
                    0
                }
                Step::Wait(t) => t,
                Step::Starved => {
                    starved += 1;
                    now + STARVED_NS * starved.min(STARVED_MAX)
                }
                Step::Done if self.any_waits() => now + NAP_NS,
                Step::Done if lanes.all.iter().all(|l| l.outbox.unwritten().is_empty()) => break,
                Step::Done if now > *give_up_ns.get_or_insert(now.saturating_add(self.give_up_ns)) => break,
                Step::Done => now + NAP_NS,
            };
            let wait = self.released.next_ns().map_or(wait, |t| wait.min(t));
            self.write_dirty(&mut lanes);
            if now >= lanes.next_look_ns {
                self.look_after(&mut lanes);
            }
            if wait > 0 {
                self.rest(&lanes, wait, spin.ns(now));
            } else if lanes.hold_up() {
                self.rest(&lanes, now + NAP_NS, 0);
            }
        }
        self.cancel(lanes, ready);
        self.shared.event(EventKind::SendingDone, 0, None);
        self.shared.sending_done.store(true, Relaxed);
    }

    fn publishing(&self) -> impl Iterator<Item = &Connection> {
        self.shared.connections.iter().filter(|c| c.role == runlog::Role::Publish)
    }

    /// Whether an op is yet to be released, or was and is not yet sent.
    fn any_waits(&mut self) -> bool {
        // In this order: what is no longer held is with the released.
        self.shared.releases.as_ref().is_some_and(|releases| releases.held() > 0) || !self.released.is_empty()
    }

    /// Hands an op whose gate decided to its connection, or logs why not.
    fn send_released(&mut self, lanes: &mut Lanes, release: Release) {
        self.shared.counters.due.fetch_add(1, Relaxed);
        let Release { frame, bytes, slip_ns, refused } = release;
        if let Some(outcome) = refused {
            return self.log.push(SentRecord { slip_ns, ..record(&frame, 0, outcome, Flags::GATED) });
        }
        let connection = usize::from(frame.connection);
        self.enqueue(&mut lanes.all[connection], &frame, &bytes, Flags::GATED, slip_ns);
        lanes.mark(connection);
    }

    /// What a signal, or a connection that did not come back, kept from the wire is logged as such.
    fn cancel(&mut self, lanes: Lanes, mut ready: Ready) {
        let now = self.shared.clock.now_ns();
        let held = self.shared.releases.as_ref().map(|releases| releases.take_all()).unwrap_or_default();
        for frame in held.iter().filter(|frame| frame.intended_ns <= now) {
            self.log.push(SentRecord { slip_ns: 0, ..record(frame, 0, Outcome::Cancelled, Flags::GATED) });
        }
        while let Some(Release { frame, slip_ns, refused, .. }) = self.released.next(now) {
            self.log.push(SentRecord { slip_ns, ..record(&frame, 0, refused.unwrap_or(Outcome::Cancelled), Flags::GATED) });
        }
        for lane in lanes.all {
            let outcome = if lane.stream.is_none() { Outcome::Disconnected } else { Outcome::Cancelled };
            for mut left in lane.outbox.into_waiting() {
                left.outcome = outcome as u8;
                self.log.push(left);
            }
        }
        while let Some((frame, _, _)) = ready.front().filter(|(frame, _, _)| frame.intended_ns <= now) {
            self.log.push(record(frame, 0, Outcome::Cancelled, 0));
            ready.advance(1);
        }
    }

    /// Hands at most `n` frames to their connections; how many it were.
    fn send(&mut self, lanes: &mut Lanes, ready: &mut Ready, n: usize) -> usize {
        if let [lane] = lanes.all.as_mut_slice()
            && lane.outbox.unwritten().is_empty()
        {
            let taken = self.write_through(lane, ready, n);
            if taken > 0 {
                lanes.mark(0);
                return taken;
            }
        }
        let mut taken = 0;
        while taken < n && !lanes.hold_up() {
            let Some((frame, bytes, flags)) = ready.front() else { break };
            let connection = usize::from(frame.connection);
            self.enqueue(&mut lanes.all[connection], frame, bytes, flags, UNGATED);
            lanes.mark(connection);
            ready.advance(1);
            taken += 1;
        }
        taken
    }

    /// From the batch straight to the socket, if there is but one and nothing waits for it. What it does not take goes to
    /// the outbox.
    fn write_through(&mut self, lane: &mut Lane, ready: &mut Ready, n: usize) -> usize {
        let shared = self.shared.clone();
        let connection = &shared.connections[0];
        let Some(stream) = lane.stream.clone().filter(|_| connection.generation() == lane.generation) else { return 0 };
        let Some(batch) = ready.batches.front() else { return 0 };
        let frames = &batch.frames[ready.next..(ready.next + n).min(batch.frames.len())];
        let frames = &frames[..frames.iter().position(|f| f.too_large).unwrap_or(frames.len())];
        let Some(last) = frames.last() else { return 0 };
        let bytes = &batch.bytes[ready.offset..last.end];
        let sent_ns = shared.clock.now_ns();
        let taken = match stream.write(bytes) {
            Ok(taken) => taken,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => {
                self.lost(connection, lane, &e.to_string());
                return 0;
            }
        };
        let (mut written, mut start) = (Written::default(), ready.offset);
        for frame in frames {
            let whole = frame.end <= ready.offset + taken;
            if !whole && !lane.full {
                (lane.full, lane.full_until_ns) = (true, sent_ns);
            }
            let record = record(frame, (frame.end - start) as u32, Outcome::Sent, lane.flags(frame, batch.late(frame)));
            if whole {
                self.log.sent(record, sent_ns, &mut written);
            } else {
                lane.outbox.push_frame(&batch.bytes[start..frame.end], record);
                lane.outbox.wrote((ready.offset + taken).saturating_sub(start).min(frame.end - start), |_| {});
            }
            start = frame.end;
        }
        lane.sent_since_ping |= written.ops > 0;
        written.add_to(&shared.counters, sent_ns);
        let taken = frames.len();
        ready.advance(taken);
        taken
    }

    fn enqueue(&mut self, lane: &mut Lane, frame: &Frame, bytes: &[u8], flags: u16, slip_ns: i64) {
        let down = lane.stream.is_none();
        let refused = if frame.too_large {
            Some(Outcome::TooLarge)
        } else if down && self.on_disconnect == OnDisconnect::Skip {
            Some(Outcome::Disconnected)
        } else if lane.outbox.unwritten().len() > OUTBOX_BYTES_MAX {
            Some(Outcome::Overflow)
        } else {
            None
        };
        let record = record(frame, bytes.len() as u32, refused.unwrap_or(Outcome::Sent), lane.flags(frame, flags));
        let record = SentRecord { slip_ns, ..record };
        if refused.is_some() {
            self.log.push(record);
        } else {
            lane.outbox.push_frame(bytes, record);
        }
    }

    /// Writes what waits; connections that took everything are clean.
    fn write_dirty(&mut self, lanes: &mut Lanes) {
        let shared = self.shared.clone();
        let mut dirty = std::mem::take(&mut lanes.dirty);
        dirty.retain(|&i| {
            let (connection, lane) = (&shared.connections[i], &mut lanes.all[i]);
            if connection.generation() != lane.generation {
                lane.take_over(connection);
            }
            if let Some(stream) = lane.stream.clone() {
                if lane.outbox.unwritten().is_empty() {
                    lane.full = !stream.flush().unwrap_or(true);
                } else {
                    self.write(connection, lane, &stream);
                }
            }
            lane.dirty = lane.full || !lane.outbox.unwritten().is_empty();
            lane.dirty
        });
        lanes.dirty = dirty;
    }

    /// What every connection needs now and then, whether or not anything is sent: answers to `PING`s, `PING`s of our own, a
    /// new stream.
    fn look_after(&mut self, lanes: &mut Lanes) {
        let shared = self.shared.clone();
        let now = shared.clock.now_ns();
        for i in lanes.turn(now) {
            let (connection, lane) = (&shared.connections[i], &mut lanes.all[i]);
            if connection.generation() != lane.generation {
                lane.take_over(connection);
                lanes.mark(i);
                continue;
            }
            if lane.stream.is_none() {
                continue;
            }
            let control = connection.take_control();
            let ping = lane.sent_since_ping && now - lane.last_ping_ns >= PING_NS;
            lane.outbox.push_control(&control);
            if ping {
                // Its PONG confirms everything sent before.
                lane.outbox.push_control(b"PING\r\n");
                connection.ping_sent(now);
                (lane.last_ping_ns, lane.sent_since_ping) = (now, false);
            }
            if ping || !control.is_empty() {
                lanes.mark(i);
            }
        }
        self.write_dirty(lanes);
    }

    /// One write; stamps and logs the frames that went out whole.
    fn write(&mut self, connection: &Connection, lane: &mut Lane, stream: &Stream) {
        let sent_ns = self.shared.clock.now_ns();
        let taken = match stream.write(lane.outbox.unwritten()) {
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => return self.lost(connection, lane, &e.to_string()),
        };
        let mut written = Written::default();
        lane.outbox.wrote(taken, |record| self.log.sent(record, sent_ns, &mut written));
        lane.sent_since_ping |= written.ops > 0;
        written.add_to(&self.shared.counters, sent_ns);
        let full = !lane.outbox.unwritten().is_empty();
        if full {
            lane.full_until_ns = sent_ns;
        }
        if full && !lane.full {
            // Those that come later are flagged as they come.
            lane.outbox.waiting_mut().for_each(|record| record.flags |= Flags::SOCKET_FULL);
        }
        lane.full = full;
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
    fn rest(&self, lanes: &Lanes, wake_ns: i64, spin_ns: i64) {
        let now = self.shared.clock.now_ns();
        let wake_ns = wake_ns.min(now + NAP_NS);
        let full: Vec<&Arc<Stream>> = lanes.full().filter_map(|lane| lane.stream.as_ref()).collect();
        if full.is_empty() && self.released.expected() {
            self.shared.clock.park_until(wake_ns);
        } else if full.is_empty() {
            self.shared.clock.sleep_until(wake_ns, spin_ns);
        } else {
            let mut fds: Vec<PollFd<'_>> = full.iter().map(|s| PollFd::new(&***s, PollFlags::OUT)).collect();
            let timeout = Timespec { tv_sec: 0, tv_nsec: (wake_ns - now).clamp(0, NAP_NS) };
            // Whatever woke us, the next round looks at everything again.
            let _ = poll(&mut fds, Some(&timeout));
        }
    }
}

/// The ways to all publishing connections, which come first among the connections.
struct Lanes {
    all: Vec<Lane>,
    /// Those that were given something, or did not take everything.
    dirty: Vec<usize>,
    /// The next to be looked after, and when.
    next_look: usize,
    next_look_ns: i64,
}

impl Lanes {
    fn new(n: usize) -> Lanes {
        Lanes { all: (0..n).map(|_| Lane::default()).collect(), dirty: Vec::new(), next_look: 0, next_look_ns: i64::MIN }
    }

    fn mark(&mut self, i: usize) {
        if !std::mem::replace(&mut self.all[i].dirty, true) {
            self.dirty.push(i);
        }
    }

    /// Some of them, so that thousands do not make one send late; all in [`LOOK_AFTER_NS`].
    fn turn(&mut self, now_ns: i64) -> std::ops::Range<usize> {
        let turns = self.all.len().div_ceil(LOOK_AFTER_AT_ONCE).max(1);
        let from = self.next_look;
        let to = (from + LOOK_AFTER_AT_ONCE).min(self.all.len());
        self.next_look = if to == self.all.len() { 0 } else { to };
        self.next_look_ns = now_ns + LOOK_AFTER_NS / turns as i64;
        from..to
    }

    fn full(&self) -> impl Iterator<Item = &Lane> {
        self.dirty.iter().map(|&i| &self.all[i]).filter(|lane| lane.full)
    }

    /// Whether nothing more should be taken from the loader: the only connection takes no more.
    fn hold_up(&self) -> bool {
        matches!(self.all.as_slice(), [lane] if lane.stream.is_some() && lane.outbox.unwritten().len() > ONLY_OUTBOX_BYTES_MAX)
    }
}

impl Lane {
    /// Why a frame handed over now is, or will be, late.
    fn flags(&self, frame: &Frame, mut flags: u16) -> u16 {
        if self.stream.is_none() {
            flags |= Flags::DISCONNECTED;
        }
        if self.full || frame.intended_ns <= self.full_until_ns {
            flags |= Flags::SOCKET_FULL;
        }
        flags
    }

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
