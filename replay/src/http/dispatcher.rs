use super::collector::Told;
use super::exchange::{Exchanges, WAITING_MAX, Way};
use super::websocket::Sockets;
use crate::clock::Alarm;
use crate::loader::{Frame, FrameBatch};
use crate::pacer::{self, Step};
use crate::ready::Ready;
use crate::release::{Release, Released};
use crate::sent_log::record;
use crate::shared::{SentRecord, Shared, UNGATED};
use crate::spin::Spin;
use hyper::body::Bytes;
use runlog::{EventKind, Flags, Outcome};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, mpsc};
use tokio::sync::Notify;

/// Sleep where the loader has nothing ready, ns.
const STARVED_NS: i64 = 100_000;
/// Does not sleep so shortly before a due time, but looks for responses: to be woken takes tens of microseconds.
const SPIN_NS: i64 = 60_000;
/// Longest sleep: signals are looked after at least this often, ns.
const NAP_NS: i64 = 20_000_000;

/// Looks this often whether the run is over, once everything has begun, ns.
const REST_NS: i64 = 5_000_000;

/// Starts exchanges at their times, and is the thread on which they run: what is due goes out without a word between threads.
pub(crate) struct Dispatcher {
    pub shared: Arc<Shared>,
    pub batches: mpsc::Receiver<FrameBatch>,
    pub released: Released,
    pub exchanges: Arc<Exchanges>,
    pub sockets: Sockets,
    pub told: mpsc::Sender<Told>,
    /// Of the whole run, at its peak.
    pub rate_per_sec: f64,
    /// What falls within it begins together, ns; where there is such, CPU matters more than the time.
    pub write_spacing_ns: i64,
    /// How long what waits for a connection is kept once nothing more is due, ns.
    pub give_up_ns: i64,
}

impl Dispatcher {
    /// Dispatches until the last op has begun, or a signal asks for the end; then exchanges go on until the run is over.
    pub fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the system gives files");
        let shared = self.shared.clone();
        runtime.block_on(async {
            let alarm = Alarm::new(shared.clock).expect("the system gives files");
            self.dispatch(&alarm).await;
            while !shared.finished() {
                alarm.wait_until(shared.clock.now_ns() + REST_NS).await;
            }
        });
        // Requests whose responses nobody waits for any more.
        runtime.shutdown_background();
    }

    async fn dispatch(mut self, alarm: &Alarm) {
        let (mut ready, mut give_up_ns, mut next_start_ns) = (Ready::default(), None, i64::MIN);
        let mut spin = Spin::new(if self.write_spacing_ns > 0 { 0 } else { SPIN_NS }, self.rate_per_sec);
        let released = Arc::new(Notify::new());
        if let Some(releases) = &self.shared.releases {
            let wake = released.clone();
            releases.wake_by(move || wake.notify_one());
        }
        while self.shared.stop.asked() == 0 {
            ready.refill(&self.batches);
            let now = self.shared.clock.now_ns();
            while let Some(release) = self.released.next(now) {
                self.start_released(release);
            }
            let wait = match pacer::step(now, ready.intended_ns(), ready.last) {
                Step::Send(_) if now < next_start_ns => next_start_ns,
                Step::Send(n) => {
                    // More may be due than begins at once.
                    next_start_ns = if n < pacer::BURST_MAX { now.saturating_add(self.write_spacing_ns) } else { now };
                    for _ in 0..n {
                        let Some((frame, bytes, flags)) = ready.front() else { break };
                        self.start(frame, bytes, flags, UNGATED);
                        ready.advance(1);
                    }
                    self.shared.counters.due.fetch_add(n as i64, Relaxed);
                    // What has begun goes out before more does.
                    tokio::task::yield_now().await;
                    continue;
                }
                Step::Wait(t) => t,
                Step::Starved => now + STARVED_NS,
                Step::Done if self.any_waits() => now + NAP_NS,
                Step::Done if self.exchanges.unlogged.load(Acquire) == 0 => break,
                Step::Done if now > *give_up_ns.get_or_insert(now.saturating_add(self.give_up_ns)) => break,
                Step::Done => now + NAP_NS,
            };
            let wait = self.released.next_ns().map_or(wait, |t| wait.min(t)).min(now + NAP_NS);
            let wake = wait - spin.ns(now);
            if now >= wake {
                // Responses that are there are taken meanwhile.
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = alarm.wait_until(wake) => {}
                () = released.notified() => {}
            }
        }
        self.cancel(ready);
        self.shared.event(EventKind::SendingDone, 0, None);
        self.shared.sending_done.store(true, Relaxed);
    }

    /// Whether an op is yet to be released, or was and has not begun.
    fn any_waits(&mut self) -> bool {
        // In this order: what is no longer held is with the released.
        self.shared.releases.as_ref().is_some_and(|releases| releases.held() > 0) || !self.released.is_empty()
    }

    fn start(&self, frame: &Frame, bytes: &[u8], flags: u16, slip_ns: i64) {
        if self.exchanges.waiting_bytes.load(Relaxed) > WAITING_MAX {
            return self.refuse(frame, Outcome::Overflow, flags, slip_ns);
        }
        let record = SentRecord { slip_ns, ..record(frame, bytes.len() as u32, Outcome::Sent, flags) };
        self.exchanges.unlogged.fetch_add(1, Relaxed);
        self.exchanges.waiting_bytes.fetch_add(bytes.len() as i64, Relaxed);
        let bytes = Bytes::copy_from_slice(bytes);
        match self.exchanges.way(record.action) {
            Way::Http => drop(tokio::spawn(self.exchanges.clone().run(record, bytes))),
            Way::WebSocket => self.sockets.hand(record, bytes),
            Way::Local => self.exchanges.locally(record, &bytes),
        }
    }

    /// Starts an op whose gate decided, or tells why not.
    fn start_released(&self, release: Release) {
        self.shared.counters.due.fetch_add(1, Relaxed);
        let Release { frame, bytes, slip_ns, refused } = release;
        match refused {
            Some(outcome) => self.refuse(&frame, outcome, Flags::GATED, slip_ns),
            None => self.start(&frame, &bytes, Flags::GATED, slip_ns),
        }
    }

    fn refuse(&self, frame: &Frame, outcome: Outcome, flags: u16, slip_ns: i64) {
        self.exchanges.unlogged.fetch_add(1, Relaxed);
        // The collector ends after us.
        let _ = self.told.send(Told::Refused(SentRecord { slip_ns, ..record(frame, 0, outcome, flags) }));
    }

    /// What a signal, or a connection that did not come free, kept from beginning is logged as such.
    fn cancel(&mut self, mut ready: Ready) {
        let now = self.shared.clock.now_ns();
        self.exchanges.cancel();
        self.sockets.cancel();
        let held = self.shared.releases.as_ref().map(|releases| releases.take_all()).unwrap_or_default();
        for frame in held.iter().filter(|frame| frame.intended_ns <= now) {
            self.refuse(frame, Outcome::Cancelled, Flags::GATED, 0);
        }
        while let Some(Release { frame, slip_ns, refused, .. }) = self.released.next(now) {
            self.refuse(&frame, refused.unwrap_or(Outcome::Cancelled), Flags::GATED, slip_ns);
        }
        while let Some((frame, ..)) = ready.front().filter(|(frame, ..)| frame.intended_ns <= now) {
            self.refuse(frame, Outcome::Cancelled, 0, UNGATED);
            ready.advance(1);
        }
    }
}
