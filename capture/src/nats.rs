//! Listening to live subjects: one thread reads, stamps and hands on, another writes down. Reading never waits for writing.

use crate::compose::{Composed, finish};
use crate::folder::{Folder, Ledger, Segments};
use crate::{Error, Policy, Redacted, Redactor};
use runlog::Captured;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wire::{Connected, Frame, ReadBuffer, Stream};

/// Messages of one read travel together; so many reads wait to be written, at most.
const READS_WAITING: usize = 4096;
/// Bytes that wait to be written, at most, unless it is said otherwise.
pub const BYTES_WAITING: u64 = 256 << 20;
/// Longest sleep of the reader: signals and time are looked after at least this often.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
const FLUSH: Duration = Duration::from_millis(500);
/// Pause after an attempt to connect anew that failed.
const RETRY: Duration = Duration::from_millis(200);

/// What to listen to, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub nats: wire::Options,
    /// Subjects, with wildcards.
    pub subjects: Vec<String>,
    /// Stop after this.
    pub duration: Option<Duration>,
    /// Stop after so many messages.
    pub max_messages: Option<u64>,
    /// What must not be recorded, beside credentials; `None` records everything.
    pub redact: Option<Policy>,
    /// Bytes that wait to be written, at most; what comes on top is dropped, and counted.
    pub waiting_bytes: u64,
}

/// What a capture is told while it goes on.
#[derive(Debug, Clone, Default)]
pub struct Control {
    stop: Arc<AtomicBool>,
    messages: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    ready: Arc<(Mutex<bool>, Condvar)>,
}

impl Control {
    /// Asks for the end.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Messages heard so far, and those dropped.
    pub fn heard(&self) -> (u64, u64) {
        (self.messages.load(Relaxed), self.dropped.load(Relaxed))
    }

    /// Waits until the server has confirmed the subscriptions.
    pub fn wait_ready(&self) {
        let (ready, told) = &*self.ready;
        let ready = ready.lock().expect("no panic while locked");
        drop(told.wait_while(ready, |ready| !*ready).expect("no panic while locked"));
    }

    fn set_ready(&self) {
        *self.ready.0.lock().expect("no panic while locked") = true;
        self.ready.1.notify_all();
    }
}

/// The wall clock once, and the monotonic one from then on.
struct Clock {
    began: Instant,
    began_ns: i64,
}

impl Clock {
    fn new() -> Clock {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { began: Instant::now(), began_ns: now.as_nanos() as i64 }
    }

    fn now_ns(&self) -> i64 {
        self.began_ns + self.began.elapsed().as_nanos() as i64
    }
}

/// Listens until it is time, and leaves a folder of segments at `dir`.
///
/// # Errors
/// [`Error`]: nobody is there, a subscription is refused, the folder cannot be written. A connection that is lost later is
/// made anew, and the time without it is in the ledger.
pub fn listen(options: &Options, dir: &Path, control: &Control) -> Result<Folder, Error> {
    let clock = Clock::new();
    let mut connected = wire::connect_any(&options.nats, 0)?;
    subscribe(&mut connected, &options.subjects)?;
    let mut folder = Folder::create(dir, &options.subjects, &connected.server.to_string(), clock.began_ns)?;
    let (batches, written) = mpsc::sync_channel::<Vec<Captured>>(READS_WAITING);
    let writer = {
        let (dir, control, redactor) = (dir.to_owned(), control.clone(), options.redact.clone().map(Redactor::new));
        std::thread::spawn(move || write(&dir, &written, &control, redactor))
    };
    control.set_ready();
    let mut listener = Listener { options, control, clock, batches, ledger: Ledger::default() };
    listener.run(connected);
    let Listener { mut ledger, batches, .. } = listener;
    drop(batches);
    ledger.redacted = writer.join().expect("the writer does not panic")?;
    (ledger.messages, ledger.dropped) = control.heard();
    ledger.messages -= ledger.dropped;
    folder.close(ledger)?;
    Ok(folder)
}

/// Writes down what is handed on, until nobody hands on any more.
fn write(dir: &Path, batches: &mpsc::Receiver<Vec<Captured>>, control: &Control, redactor: Option<Redactor>) -> Result<Redacted, Error> {
    let mut segments = Segments::create(dir, redactor);
    let mut flushed = Instant::now();
    loop {
        let batch = match batches.recv_timeout(FLUSH) {
            Ok(batch) => batch,
            Err(mpsc::RecvTimeoutError::Timeout) => Vec::new(),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        };
        for message in batch {
            control.bytes.fetch_sub(size(&message), Relaxed);
            // What cannot be written is not listened to.
            segments.push(message).inspect_err(|_| control.stop())?;
        }
        if flushed.elapsed() >= FLUSH {
            segments.flush().inspect_err(|_| control.stop())?;
            flushed = Instant::now();
        }
    }
    segments.close()
}

fn size(message: &Captured) -> u64 {
    (message.subject.len() + message.reply.len() + message.headers.len() + message.payload.len() + 64) as u64
}

struct Listener<'a> {
    options: &'a Options,
    control: &'a Control,
    clock: Clock,
    batches: mpsc::SyncSender<Vec<Captured>>,
    ledger: Ledger,
}

impl Listener<'_> {
    fn run(&mut self, mut connected: Connected) {
        loop {
            let why = self.hear(&connected.stream, &mut connected.received);
            if self.over() {
                return;
            }
            let lost_ns = self.clock.now_ns();
            self.ledger.complaints.push(why);
            connected = loop {
                if self.over() {
                    self.ledger.gaps.push((lost_ns, self.clock.now_ns()));
                    return;
                }
                match wire::connect_any(&self.options.nats, 0).map_err(Error::from).and_then(|mut connected| {
                    subscribe(&mut connected, &self.options.subjects)?;
                    Ok(connected)
                }) {
                    Ok(connected) => break connected,
                    Err(_) => std::thread::sleep(RETRY),
                }
            };
            self.ledger.gaps.push((lost_ns, self.clock.now_ns()));
        }
    }

    fn over(&self) -> bool {
        let too_long = self.options.duration.is_some_and(|duration| self.clock.began.elapsed() >= duration);
        let enough = self.options.max_messages.is_some_and(|max| self.control.messages.load(Relaxed) >= max);
        too_long || enough || self.control.stop.load(Relaxed)
    }

    /// Reads until it is over, or the connection is lost: why.
    fn hear(&mut self, stream: &Stream, buffer: &mut ReadBuffer) -> String {
        loop {
            let t_ns = self.clock.now_ns();
            if let Err(why) = self.hand_on(stream, buffer, t_ns) {
                return why;
            }
            if self.over() {
                return String::new();
            }
            match buffer.fill(|free| stream.read(free)) {
                Ok(0) => return "the server closed the connection".into(),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    // Whatever ended the wait, the next round looks again.
                    let _ = poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&NAP));
                }
                Err(e) => return e.to_string(),
            }
        }
    }

    /// Stamps and hands on what is in the buffer.
    fn hand_on(&mut self, stream: &Stream, buffer: &mut ReadBuffer, t_ns: i64) -> Result<(), String> {
        let mut batch = Vec::new();
        while let Some(frame) = buffer.next_frame().map_err(|e| e.to_string())? {
            match frame {
                Frame::Message(m) => batch.push(Captured {
                    t_ns,
                    subject: m.subject.to_vec(),
                    reply: m.reply.unwrap_or_default().to_vec(),
                    headers: m.headers.to_vec(),
                    payload: m.payload.to_vec(),
                }),
                // A socket too full for six bytes has worse problems, which the next read shows.
                Frame::Ping => drop(stream.write(b"PONG\r\n")),
                Frame::Err(what) => self.ledger.complaints.push(what.to_owned()),
                Frame::Pong | Frame::Info(_) | Frame::Ok => {}
            }
        }
        if let Some(max) = self.options.max_messages {
            batch.truncate(max.saturating_sub(self.control.messages.load(Relaxed)) as usize);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let (n, bytes) = (batch.len() as u64, batch.iter().map(size).sum());
        self.control.messages.fetch_add(n, Relaxed);
        let room = self.control.bytes.fetch_add(bytes, Relaxed) + bytes <= self.options.waiting_bytes;
        if !room || self.batches.try_send(batch).is_err() {
            self.control.bytes.fetch_sub(bytes, Relaxed);
            self.control.dropped.fetch_add(n, Relaxed);
        }
        Ok(())
    }
}

/// Subscribes, and waits until the server has confirmed it.
fn subscribe(connected: &mut Connected, subjects: &[String]) -> Result<(), Error> {
    let server = connected.server.to_string();
    let refused = |what: String| Error::Server(format!("{server} does not let us subscribe: {what}; check the permissions"));
    let mut out = Vec::new();
    for (subject, sid) in subjects.iter().zip(1..) {
        wire::encode_subscribe(&mut out, subject, sid);
    }
    out.extend_from_slice(b"PING\r\n");
    let mut left = out.as_slice();
    while !left.is_empty() {
        match connected.stream.write(left) {
            Ok(n) => left = &left[n..],
            Err(e) if e.kind() == ErrorKind::WouldBlock => drop(poll(&mut [PollFd::new(&connected.stream, PollFlags::OUT)], Some(&NAP))),
            Err(e) => return Err(refused(e.to_string())),
        }
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match connected.received.next_frame().map_err(|e| refused(e.to_string()))? {
            Some(Frame::Pong) => return Ok(()),
            Some(Frame::Err(what)) => return Err(refused(what.to_owned())),
            Some(_) => {}
            None if Instant::now() > deadline => return Err(refused("no answer for 5 s".into())),
            None => match connected.received.fill(|free| connected.stream.read(free)) {
                Ok(0) => return Err(refused("it closed the connection".into())),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => drop(poll(&mut [PollFd::new(&connected.stream, PollFlags::IN)], Some(&NAP))),
                Err(e) => return Err(refused(e.to_string())),
            },
        }
    }
}

/// What a whole capture comes to: [`listen`], then [`finish`], and nothing is left but the schedule.
///
/// # Errors
/// As both.
pub fn capture(options: &Options, rules: &crate::Rules, name: &str, output: &Path, control: &Control) -> Result<Composed, Error> {
    let folder = listen(options, &Folder::beside(output), control)?;
    finish(&folder, rules, name, output)
}
