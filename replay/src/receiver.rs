//! The receiver thread: stamps each read, parses, decodes, hands the record on.

use crate::answer_log::{AnswerLog, Arrival};
use crate::connection::Connection;
use crate::decode::{Decoded, Decoder, Source};
use crate::shared::{Note, Shared};
use runlog::{Event, EventKind, Role};
use rustix::event::epoll;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use wire::{Frame, Message, ReadBuffer, Stream};

/// Reads of one connection before the others get their turn.
const READS_MAX: usize = 16;

/// A stream to listen to, with what arrived behind its handshake.
pub(crate) struct Incoming {
    pub connection: u16,
    pub generation: u32,
    pub stream: Arc<Stream>,
    pub buffer: ReadBuffer,
}

pub(crate) struct Receiver {
    pub shared: Arc<Shared>,
    pub decoder: Decoder,
    pub incoming: mpsc::Receiver<Incoming>,
    pub log: AnswerLog,
}

impl Receiver {
    /// Listens until told to finish.
    pub fn run(mut self) {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC).expect("the system gives an epoll");
        let mut open: HashMap<u16, Incoming> = HashMap::new();
        let mut ready: Vec<epoll::Event> = Vec::with_capacity(64);
        while !self.shared.finished() {
            while let Ok(incoming) = self.incoming.try_recv() {
                self.listen(&poller, &mut open, incoming);
            }
            let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            if let Some(releases) = &self.shared.releases {
                releases.expire(self.shared.clock.now_ns());
            }
            if epoll::wait(&poller, rustix::buffer::spare_capacity(&mut ready), Some(&timeout)).is_err() {
                continue;
            }
            let tokens: Vec<u16> = ready.drain(..).map(|event| event.data.u64() as u16).collect();
            for token in tokens {
                let Some(mut connection) = open.remove(&token) else { continue };
                match self.read(&mut connection) {
                    Ok(()) => drop(open.insert(token, connection)),
                    Err(why) => self.lost(&connection, &why),
                }
            }
        }
    }

    fn listen(&mut self, poller: &OwnedFd, open: &mut HashMap<u16, Incoming>, mut incoming: Incoming) {
        let data = epoll::EventData::new_u64(incoming.connection.into());
        if let Err(e) = epoll::add(poller, &*incoming.stream, data, epoll::EventFlags::IN) {
            return self.lost(&incoming, &e.to_string());
        }
        let now = self.shared.clock.now_ns();
        match self.parse(&mut incoming, now) {
            Ok(()) => drop(open.insert(incoming.connection, incoming)),
            Err(why) => self.lost(&incoming, &why),
        }
    }

    fn lost(&self, incoming: &Incoming, why: &str) {
        let connection = &self.shared.connections[usize::from(incoming.connection)];
        if connection.lose(incoming.generation) {
            let confirmed = connection.confirmed_ns.load(Relaxed);
            let event = Event::of(connection.index, self.shared.clock.now_ns(), EventKind::Lost, confirmed, Some(why));
            self.shared.note(Note::Event(event));
        }
    }

    fn read(&mut self, incoming: &mut Incoming) -> Result<(), String> {
        for _ in 0..READS_MAX {
            let stream = incoming.stream.clone();
            let mut room = 0;
            let read = incoming.buffer.fill(|free| {
                room = free.len();
                stream.read(free)
            });
            match read {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(n) => {
                    let now = self.shared.clock.now_ns();
                    self.parse(incoming, now)?;
                    // A read that left room has emptied the socket; asking again would cost a call for nothing.
                    if n < room && stream.is_plain() {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.to_string()),
            }
        }
        Ok(())
    }

    fn parse(&mut self, incoming: &mut Incoming, now_ns: i64) -> Result<(), String> {
        let shared = self.shared.clone();
        let connection = &shared.connections[usize::from(incoming.connection)];
        while let Some(frame) = incoming.buffer.next_frame().map_err(|e| e.to_string())? {
            match frame {
                Frame::Message(message) => self.message(connection, &message, now_ns),
                Frame::Ping => pong(connection, &incoming.stream),
                Frame::Pong => connection.pong_received(now_ns),
                Frame::Err(text) => {
                    self.shared.note(Note::Event(Event::of(connection.index, now_ns, EventKind::ServerError, 0, Some(text))));
                }
                Frame::Info(_) | Frame::Ok => {}
            }
        }
        Ok(())
    }

    fn message(&mut self, connection: &Connection, message: &Message<'_>, now_ns: i64) {
        let number = || connection.sources.get((message.sid as usize).wrapping_sub(1)).map_or(usize::MAX, |source| usize::from(*source));
        let source = if connection.role == Role::Publish { Source::Inbox } else { Source::Subject(number()) };
        let counters = &self.shared.counters;
        match self.decoder.decode(source, message) {
            Decoded::Ignored => {}
            Decoded::Foreign => drop(counters.foreign.fetch_add(1, Relaxed)),
            Decoded::Answer(answer) => {
                let (connection, recipient) = (connection.index, connection.recipient);
                self.log.push(&answer, Arrival { connection, recipient, received_ns: now_ns, phases: None, frame: None });
            }
        }
    }
}

/// Only the receiver writes to a connection for answers; on one that publishes, the pacer writes between frames.
fn pong(connection: &Connection, stream: &Stream) {
    if connection.role == Role::Answers {
        // A socket too full for six bytes has worse problems, which the next read shows.
        let _ = stream.write(b"PONG\r\n");
    } else {
        connection.queue_control(b"PONG\r\n");
    }
}
