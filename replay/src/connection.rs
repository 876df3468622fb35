use crate::options::Error;
use runlog::Role;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use wire::{Connected, Frame, ReadBuffer, Stream};

/// One connection of a run, as its threads see it. It may be lost and made anew; each stream is a generation.
pub(crate) struct Connection {
    pub index: u16,
    pub role: Role,
    /// `_INBOX.` and what makes it this run's and this connection's.
    pub inbox_prefix: String,
    /// Subjects to subscribe, by sid from 1.
    pub subjects: Vec<String>,
    /// Of each, its number among those of the decoder; the inbox of a publishing connection has none.
    pub sources: Vec<u16>,
    /// Who listens by it, where a subject does not say; 0 is everybody.
    pub recipient: u64,
    stream: Mutex<Option<Arc<Stream>>>,
    generation: AtomicU32,
    /// Bytes that another thread than the writer wants written: `PONG`s.
    control: Mutex<Vec<u8>>,
    /// Send times covered by the `PING`s under way.
    pings: Mutex<VecDeque<i64>>,
    /// Everything sent up to here reached the server, ns.
    pub confirmed_ns: AtomicI64,
    /// From the last `PING` that was answered to its `PONG`, ns.
    pub ping_ns: AtomicI64,
}

impl Connection {
    pub fn new(index: u16, role: Role, inbox_prefix: String, subjects: Vec<String>) -> Connection {
        Connection {
            index,
            role,
            inbox_prefix,
            subjects,
            sources: Vec::new(),
            recipient: 0,
            stream: Mutex::new(None),
            generation: AtomicU32::new(0),
            control: Mutex::default(),
            pings: Mutex::default(),
            confirmed_ns: AtomicI64::new(i64::MIN),
            ping_ns: AtomicI64::new(0),
        }
    }

    /// Changes whenever the stream does.
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn stream(&self) -> Option<Arc<Stream>> {
        self.stream.lock().expect("no panic while locked").clone()
    }

    pub fn install(&self, stream: Arc<Stream>) {
        self.control.lock().expect("no panic while locked").clear();
        self.pings.lock().expect("no panic while locked").clear();
        *self.stream.lock().expect("no panic while locked") = Some(stream);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Marks this generation's stream as lost. True for the first who notices.
    pub fn lose(&self, generation: u32) -> bool {
        let mut stream = self.stream.lock().expect("no panic while locked");
        if self.generation() != generation || stream.is_none() {
            return false;
        }
        if let Some(stream) = stream.take() {
            stream.shutdown();
        }
        self.generation.fetch_add(1, Ordering::Release);
        true
    }

    pub fn queue_control(&self, bytes: &[u8]) {
        self.control.lock().expect("no panic while locked").extend_from_slice(bytes);
    }

    pub fn take_control(&self) -> Vec<u8> {
        std::mem::take(&mut *self.control.lock().expect("no panic while locked"))
    }

    pub fn ping_sent(&self, covers_ns: i64) {
        self.pings.lock().expect("no panic while locked").push_back(covers_ns);
    }

    pub fn pong_received(&self, now_ns: i64) {
        if let Some(covered) = self.pings.lock().expect("no panic while locked").pop_front() {
            self.ping_ns.store(now_ns - covered, Ordering::Relaxed);
            self.confirmed_ns.fetch_max(covered, Ordering::Relaxed);
        }
    }

    /// Subscribes, and waits until the server has confirmed it. A publishing connection also sends itself a message
    /// through its own inbox, which proves its way back.
    pub fn prepare(&self, connected: &mut Connected) -> Result<(), Error> {
        let mut out = Vec::new();
        for (subject, sid) in self.subjects.iter().zip(1..) {
            wire::encode_subscribe(&mut out, subject, sid);
        }
        let probe = self.role == Role::Publish;
        if probe {
            out.extend_from_slice(format!("PUB {}.probe 0\r\n\r\n", self.inbox_prefix).as_bytes());
        }
        out.extend_from_slice(b"PING\r\n");
        let server = connected.server.to_string();
        let refused = |what: String| Error::Server(format!("{server} does not let us subscribe or publish: {what}; check the permissions"));
        write_all(&connected.stream, &out).map_err(|e| refused(e.to_string()))?;
        let (mut probed, mut ponged) = (!probe, false);
        while !(probed && ponged) {
            match connected.received.next_frame().map_err(|e| refused(e.to_string()))? {
                Some(Frame::Message(message)) => probed |= message.subject.ends_with(b".probe"),
                Some(Frame::Pong) => ponged = true,
                Some(Frame::Err(what)) => return Err(refused(what.to_owned())),
                Some(Frame::Ping) => write_all(&connected.stream, b"PONG\r\n").map_err(|e| refused(e.to_string()))?,
                Some(_) => {}
                None => fill(&connected.stream, &mut connected.received).map_err(refused)?,
            }
        }
        Ok(())
    }
}

const SETUP_TIMEOUT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

fn write_all(stream: &Stream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == ErrorKind::WouldBlock => wait(stream, PollFlags::OUT)?,
            Err(e) => return Err(e),
        }
    }
    while !stream.flush()? {
        wait(stream, PollFlags::OUT)?;
    }
    Ok(())
}

fn fill(stream: &Stream, buffer: &mut ReadBuffer) -> Result<(), String> {
    loop {
        match buffer.fill(|free| stream.read(free)) {
            Ok(0) => return Err("it closed the connection".into()),
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => wait(stream, PollFlags::IN).map_err(|e| e.to_string())?,
            Err(e) => return Err(e.to_string()),
        }
    }
}

fn wait(stream: &Stream, flags: PollFlags) -> std::io::Result<()> {
    let ready = poll(&mut [PollFd::new(stream, flags)], Some(&SETUP_TIMEOUT))?;
    if ready == 0 { Err(std::io::Error::new(ErrorKind::TimedOut, "no answer for 5 s")) } else { Ok(()) }
}
