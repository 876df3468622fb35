//! The receiver thread: stamps each read, parses, decodes, hands the record on.

use crate::connection::Connection;
use crate::decode::{Answer, Decoded, Decoder, Source, Whose};
use crate::shared::{AnswerRecord, Note, Shared, answer_hash};
use runlog::{Event, EventKind, Role, Status};
use rustix::event::epoll;
use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use wire::{Frame, Message, ReadBuffer, Stream};

/// Reads of one connection before the others get their turn.
const READS_MAX: usize = 16;
/// Distinct error classes; the rest are `other`.
const CLASSES_MAX: usize = 256;
/// Characters kept of the first body of an error class.
const BODY_CHARS: usize = 200;

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
    pub log: rtrb::Producer<AnswerRecord>,
    pub codes: HashMap<String, Arc<str>>,
    pub noted: HashSet<(u8, Arc<str>)>,
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
                counters.answers.fetch_add(1, Relaxed);
                let (Whose::Op(id) | Whose::Key(id)) = answer.whose;
                counters.answers_hash.fetch_add(answer_hash(id, answer.answer), Relaxed);
                counters.last_answer_ns.store(now_ns, Relaxed);
                if let Some(releases) = &self.shared.releases {
                    releases.answered(answer.whose, answer.answer, answer.status != Status::Error, now_ns, message.payload);
                }
                let code = answer.code.as_deref().map(|text| intern(&mut self.codes, text));
                if let Some(live) = &self.shared.live {
                    live.answered(answer.whose, answer.answer, answer.status, code.as_deref(), now_ns);
                }
                if let (Status::Error, Some(code)) = (answer.status, &code) {
                    note_first(&self.shared, &mut self.noted, &answer, code, now_ns);
                }
                let record = AnswerRecord {
                    whose: answer.whose,
                    answer: answer.answer,
                    broadcast: answer.broadcast,
                    status: answer.status as u8,
                    connection: connection.index,
                    received_ns: now_ns,
                    bytes: message.payload.len() as u32,
                    recipient: if answer.recipient == 0 { connection.recipient } else { answer.recipient },
                    code,
                };
                if self.log.push(record).is_err() {
                    self.shared.counters.dropped.fetch_add(1, Relaxed);
                }
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

fn intern(codes: &mut HashMap<String, Arc<str>>, text: &str) -> Arc<str> {
    if let Some(code) = codes.get(text) {
        return code.clone();
    }
    let text = if codes.len() < CLASSES_MAX { text } else { "other" };
    codes.entry(text.to_owned()).or_insert_with(|| text.into()).clone()
}

/// Keeps the first body of each error class.
fn note_first(shared: &Shared, noted: &mut HashSet<(u8, Arc<str>)>, answer: &Answer<'_>, code: &Arc<str>, now_ns: i64) {
    if noted.insert((answer.answer, code.clone())) {
        let body: String = String::from_utf8_lossy(answer.payload).chars().take(BODY_CHARS).collect();
        let (Whose::Op(id) | Whose::Key(id)) = answer.whose;
        shared.note(Note::Event(Event::new(now_ns, EventKind::FirstError, id, Some(&format!("{code}: {body}")))));
    }
}
