//! WebSockets: a session has one at a time, and its ops go to it one after the other.

use super::collector::{Pushed, Told};
use super::exchange::{BODY_MAX, Exchanges, Failure, Outcomes, failure, no_phases};
use super::request::{self, Parts};
use crate::shared::SentRecord;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper::HeaderMap;
use hyper::body::Bytes;
use runlog::{Flags, Frame, Outcome, Phases};
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Bytes read at a time: there may be thousands of sockets.
const READ_BYTES: usize = 8 << 10;

type Stream = WebSocketStream<Box<dyn super::exchange::Wire>>;

/// The queues of all sessions that have ops over WebSockets.
pub(crate) struct Sockets {
    exchanges: Arc<Exchanges>,
    queues: Mutex<HashMap<u32, Arc<Queue>>>,
}

#[derive(Default)]
struct Queue {
    ops: Mutex<VecDeque<(SentRecord, Bytes)>>,
    more: Notify,
}

impl Sockets {
    pub fn new(exchanges: Arc<Exchanges>) -> Sockets {
        Sockets { exchanges, queues: Mutex::default() }
    }

    /// The next op of its session.
    pub fn hand(&self, record: SentRecord, frame: Bytes) {
        let mut queues = self.queues.lock().expect("no panic while locked");
        let queue = queues.entry(record.session).or_insert_with(|| {
            let queue = Arc::new(Queue::default());
            tokio::spawn(Session::new(self.exchanges.clone(), record.session).run(queue.clone()));
            queue
        });
        queue.ops.lock().expect("no panic while locked").push_back((record, frame));
        queue.more.notify_one();
    }

    /// What has not begun will not.
    pub fn cancel(&self) {
        for queue in self.queues.lock().expect("no panic while locked").values() {
            for (record, frame) in queue.ops.lock().expect("no panic while locked").drain(..) {
                self.exchanges.waiting_bytes.fetch_sub(frame.len() as i64, Relaxed);
                self.exchanges.refuse(record, Outcome::Cancelled);
            }
        }
    }
}

/// A session, and its WebSocket if it has one.
struct Session {
    exchanges: Arc<Exchanges>,
    number: u32,
    socket: Option<Socket>,
    /// Ops due before were kept waiting: by the connection that was being opened or closed, or by a socket that was full.
    held: (i64, u16),
}

struct Socket {
    sink: SplitSink<Stream, Message>,
    /// True once it has ended.
    ended: watch::Receiver<bool>,
    /// Its end was asked for.
    closing: Arc<AtomicBool>,
    reader: Reader,
    reading: AbortHandle,
}

impl Socket {
    /// It is of no more use, and its end did not come by itself.
    fn give_up(self, code: &'static str) {
        // Nothing else runs between the look and the abort: all of it is one thread's.
        if !*self.ended.borrow() {
            self.reading.abort();
            self.reader.ended(Some(code.into()));
        }
    }
}

impl Session {
    fn new(exchanges: Arc<Exchanges>, number: u32) -> Session {
        Session { exchanges, number, socket: None, held: (i64::MIN, 0) }
    }

    async fn run(mut self, queue: Arc<Queue>) {
        loop {
            let next = queue.ops.lock().expect("no panic while locked").pop_front();
            let Some((mut record, frame)) = next else {
                queue.more.notified().await;
                continue;
            };
            self.exchanges.waiting_bytes.fetch_sub(frame.len() as i64, Relaxed);
            if record.intended_ns < self.held.0 {
                record.flags |= self.held.1;
            }
            self.socket.take_if(|socket| *socket.ended.borrow());
            match request::parts(&frame) {
                Ok(parts) if parts.method() == "OPEN" => self.open(record, parts).await,
                Ok(parts) if parts.method() == "SEND" => self.send(record, parts).await,
                Ok(parts) if parts.method() == "CLOSE" => self.close(record).await,
                _ => self.exchanges.refuse(record, Outcome::BindFailed),
            }
        }
    }

    fn now_ns(&self) -> i64 {
        self.exchanges.shared.clock.now_ns()
    }

    /// Says that an op is out, and when.
    fn sent(&self, record: &mut SentRecord) -> i64 {
        let now_ns = self.now_ns();
        record.sent_ns = Some(now_ns);
        self.exchanges.tell(Told::Sent(*record));
        now_ns
    }

    fn answered(&self, record: &SentRecord, outcome: Outcomes<()>, phases: Option<Phases>) {
        let mut body = self.exchanges.body();
        let failed = outcome.err().map(|Failure { class, why }| {
            body.take(why.as_bytes());
            class
        });
        let (op, action, received_ns) = (record.op, record.action, self.now_ns());
        let (headers, sent) = (HeaderMap::new(), Bytes::new());
        self.exchanges.tell(Told::Answered { op, action, failed, headers, body, sent, received_ns, phases: phases.map(Box::new) });
    }

    async fn open(&mut self, mut record: SentRecord, parts: Parts<'_>) {
        let Ok((server, mut request)) = request::upgrade(&parts, &self.exchanges.places, &self.exchanges.options) else {
            return self.exchanges.refuse(record, Outcome::BindFailed);
        };
        let sent_ns = self.sent(&mut record);
        let mut phases = no_phases(record.op);
        if self.socket.is_some() {
            let why = "the session has a WebSocket that is open; close it first";
            return self.answered(&record, Err(failure("already_open", &why)), None);
        }
        let exchanges = self.exchanges.clone();
        let cookies = exchanges.jars.as_ref().and_then(|jars| Some((jars, jars.add(record.session, &server, &mut request)?)));
        let course = async {
            let (number, wire) = exchanges.connect(&server, false, &mut phases).await?;
            phases.connection = number;
            let began_ns = exchanges.shared.clock.now_ns();
            let limit = exchanges.options.connect_timeout;
            let config = WebSocketConfig::default()
                .read_buffer_size(READ_BYTES)
                .max_message_size(Some(BODY_MAX as usize))
                .max_frame_size(Some(BODY_MAX as usize));
            let late = |_| failure("connect_timeout", &format!("the server did not say in {limit:?} that it speaks WebSocket"));
            let opened = timeout(limit, client_async_with_config(request, wire, Some(config))).await.map_err(late)?;
            let first_byte_ns = Some(exchanges.shared.clock.now_ns() - began_ns);
            match opened {
                Ok((stream, response)) => {
                    (phases.http_status, phases.first_byte_ns) = (response.status().as_u16(), first_byte_ns);
                    if let Some((jars, url)) = cookies {
                        jars.keep(record.session, &url, response.headers());
                    }
                    Ok(stream)
                }
                Err(error) => Err(refused(&error)),
            }
        };
        let opened = timeout(self.exchanges.patience(&record, sent_ns), course).await;
        self.held = (self.now_ns(), Flags::DISCONNECTED);
        // No answer in all that time: the log will show it.
        let Ok(opened) = opened else { return };
        let outcome = opened.map(|stream| self.install(&record, stream));
        self.answered(&record, outcome, Some(phases));
    }

    fn install(&mut self, record: &SentRecord, stream: Stream) {
        let (sink, stream) = stream.split();
        let (end, ended) = watch::channel(false);
        let closing = Arc::new(AtomicBool::new(false));
        let (opener, session) = ((record.op, record.action), self.number);
        let reader = Reader { exchanges: self.exchanges.clone(), opener, session, closing: closing.clone() };
        let own = reader.clone();
        let reading = tokio::spawn(async move {
            own.run(stream).await;
            end.send_replace(true);
        });
        self.socket = Some(Socket { sink, ended, closing, reader, reading: reading.abort_handle() });
    }

    async fn send(&mut self, mut record: SentRecord, parts: Parts<'_>) {
        if self.socket.is_none() {
            return self.exchanges.refuse(record, Outcome::Disconnected);
        }
        let message = match String::from_utf8(parts.payload.to_vec()) {
            Ok(text) => Message::text(text),
            Err(bytes) => Message::binary(bytes.into_bytes()),
        };
        let sent_ns = self.sent(&mut record);
        let patience = self.exchanges.patience(&record, sent_ns);
        let Some(socket) = &mut self.socket else { return };
        let written = timeout(patience, socket.sink.send(message)).await;
        self.held = (self.now_ns(), Flags::SOCKET_FULL);
        match written {
            Ok(Ok(())) => {}
            // How it ended, the reader tells.
            Ok(Err(_)) => self.socket = None,
            // What is half written cannot be gone on with.
            Err(_) => self.socket.take().into_iter().for_each(|socket| socket.give_up("write_timeout")),
        }
    }

    async fn close(&mut self, mut record: SentRecord) {
        let Some(mut socket) = self.socket.take() else { return self.exchanges.refuse(record, Outcome::Disconnected) };
        let sent_ns = self.sent(&mut record);
        // What does not end in time is ended by us, while somebody still listens.
        let timeout_of = self.exchanges.manners[usize::from(record.action)].timeout;
        let patience = self.exchanges.patience(&record, sent_ns).saturating_sub(timeout_of).max(Duration::from_millis(1));
        socket.closing.store(true, Relaxed);
        let goodbye = async {
            // The reader sees the end, whether or not this was written.
            let _ = socket.sink.close().await;
            let _ = socket.ended.wait_for(|ended| *ended).await;
        };
        let ended = timeout(patience, goodbye).await;
        self.held = (self.now_ns(), Flags::DISCONNECTED);
        match ended {
            Ok(()) => self.answered(&record, Ok(()), None),
            Err(_) => socket.give_up("unclosed"),
        }
    }
}

/// Tells what comes over a WebSocket.
#[derive(Clone)]
struct Reader {
    exchanges: Arc<Exchanges>,
    opener: (i64, u16),
    session: u32,
    closing: Arc<AtomicBool>,
}

impl Reader {
    async fn run(self, mut stream: SplitStream<Stream>) {
        self.pushed(Frame::OPEN, self.exchanges.body(), 0, None);
        let mut end: Cow<'static, str> = "closed".into();
        while let Some(message) = stream.next().await {
            match message {
                Ok(Message::Text(text)) => self.tell(1, text.as_bytes()),
                Ok(Message::Binary(data)) => self.tell(2, &data),
                Ok(Message::Close(frame)) => end = frame.map_or("closed".into(), |frame| u16::from(frame.code).to_string().into()),
                // Pings are answered by the library.
                Ok(_) => {}
                Err(Error::ConnectionClosed) => break,
                Err(error) => {
                    end = broken(&error);
                    break;
                }
            }
        }
        self.ended((!self.closing.load(Relaxed)).then_some(end));
    }

    fn ended(&self, code: Option<Cow<'static, str>>) {
        self.pushed(Frame::CLOSE, self.exchanges.body(), 0, code);
    }

    fn tell(&self, kind: u8, data: &[u8]) {
        let mut body = self.exchanges.body();
        // A message that found no room is told by its size alone.
        let code = (!body.take(data)).then(|| {
            body = self.exchanges.body();
            Cow::from("no_room")
        });
        self.pushed(kind, body, data.len() as u32, code);
    }

    fn pushed(&self, kind: u8, body: super::exchange::Body, bytes: u32, code: Option<Cow<'static, str>>) {
        let received_ns = self.exchanges.shared.clock.now_ns();
        self.exchanges.tell(Told::Frame(Pushed { opener: self.opener, session: self.session, kind, body, bytes, received_ns, code }));
    }
}

/// Why there is no WebSocket.
fn refused(error: &Error) -> Failure {
    match error {
        Error::Http(response) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            failure(response.status().as_u16().to_string(), &body)
        }
        error => failure(broken(error), error),
    }
}

fn broken(error: &Error) -> Cow<'static, str> {
    match error {
        Error::Io(_) => "reset",
        Error::Capacity(_) => "body_too_large",
        Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => "reset",
        _ => "protocol",
    }
    .into()
}
