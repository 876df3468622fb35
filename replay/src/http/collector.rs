use super::exchange::{Body, Exchanges, Way};
use crate::answer_log::{AnswerLog, Arrival};
use crate::decode::{Decoder, Framed, Heard};
use crate::sent_log::{SentLog, Written};
use crate::shared::SentRecord;
use hyper::HeaderMap;
use hyper::body::Bytes;
use runlog::{Frame, Phases, Status};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Release;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Gates that nobody answers are looked at this often.
const EXPIRE: Duration = Duration::from_millis(20);
/// Where nothing waits for an answer, what is told is taken this often: waking for each costs more than logging it.
const LOOK_NS: i64 = 5_000_000;

/// What happens to ops.
pub(crate) enum Told {
    /// With the time at which it was.
    Sent(SentRecord),
    /// It was not sent, as its outcome says.
    Refused(SentRecord),
    Answered {
        op: i64,
        action: u16,
        /// Of an error on the way.
        failed: Option<Cow<'static, str>>,
        headers: HeaderMap,
        body: Body,
        /// What it answers, if a check is about that.
        sent: Bytes,
        received_ns: i64,
        /// `None` for what was no exchange over HTTP.
        phases: Option<Box<Phases>>,
    },
    /// Over the WebSocket of a session.
    Frame(Pushed),
}

/// A frame, or the end of a WebSocket.
pub(crate) struct Pushed {
    /// The op that opened it, and its action.
    pub opener: (i64, u16),
    pub session: u32,
    /// Its opcode.
    pub kind: u8,
    pub body: Body,
    pub bytes: u32,
    pub received_ns: i64,
    /// Class of an error on the way, or how it ended.
    pub code: Option<Cow<'static, str>>,
}

/// Logs what exchanges tell, in the order in which they do.
pub(crate) struct Collector {
    pub exchanges: Arc<Exchanges>,
    pub told: mpsc::Receiver<Told>,
    pub decoder: Decoder,
    pub sends: SentLog,
    pub answers: AnswerLog,
    /// By session: the op that opened its WebSocket, and which pushes came already.
    pub pushed: HashMap<u32, (i64, Vec<u8>)>,
}

impl Collector {
    /// Logs until told to finish.
    pub fn run(mut self) {
        let shared = self.sends.shared.clone();
        while !shared.finished() {
            match &shared.releases {
                Some(releases) => {
                    if let Ok(told) = self.told.recv_timeout(EXPIRE) {
                        self.take(told);
                    }
                    releases.expire(shared.clock.now_ns());
                }
                None => shared.clock.sleep_until(shared.clock.now_ns() + LOOK_NS, 0),
            }
            while let Ok(told) = self.told.try_recv() {
                self.take(told);
            }
        }
        while let Ok(told) = self.told.try_recv() {
            self.take(told);
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Sent(record) => {
                let (sent_ns, mut written) = (record.sent_ns.unwrap_or(record.intended_ns), Written::default());
                self.sends.sent(record, sent_ns, &mut written);
                written.add_to(&self.sends.shared.counters, sent_ns);
                // Whoever sees none left must see what they counted.
                self.exchanges.unlogged.fetch_sub(1, Release);
            }
            Told::Refused(record) => {
                self.sends.push(record);
                self.exchanges.unlogged.fetch_sub(1, Release);
            }
            Told::Answered { op, action, failed, headers, body, sent, received_ns, phases } => {
                // What has no status of its own is fine by itself.
                let status = phases.as_ref().map_or(200, |phases| phases.http_status);
                let heard = Heard { status, headers: &headers, body: &body.bytes, sent: &sent, failed: failed.as_deref() };
                if let Some(answer) = self.decoder.response(op, action, &heard) {
                    // What goes nowhere takes as long as it is looked at.
                    let local = self.exchanges.way(action) == Way::Local;
                    let received_ns = if local { self.sends.shared.clock.now_ns() } else { received_ns };
                    self.answers
                        .push(&answer, Arrival { connection: 0, recipient: 0, received_ns, phases: phases.map(|p| *p), frame: None });
                }
            }
            Told::Frame(pushed) => self.frame(&pushed),
        }
    }

    fn frame(&mut self, pushed: &Pushed) {
        let Pushed { opener: (op, action), session, kind, ref body, bytes, received_ns, ref code } = *pushed;
        let code_text = code.as_deref().map(Into::into);
        let mut frame = Frame { op, action, session, answer: Frame::OTHER, kind, received_ns, stamp_ns: None, bytes, code: code_text };
        if matches!(kind, Frame::OPEN | Frame::CLOSE) {
            self.pushed.remove(&session);
            return self.answers.frame(None, frame);
        }
        let heard = Heard { status: 200, headers: &HeaderMap::new(), body: &body.bytes, sent: b"", failed: code.as_deref() };
        let decoded = self.decoder.frame(op, action, &heard);
        let (answer, stamp_epoch_ns) = match &decoded {
            Framed::Other => return self.answers.frame(None, frame),
            Framed::Reply(answer) => (answer, None),
            Framed::OfSocket { answer, stamp_epoch_ns, .. } => (answer, *stamp_epoch_ns),
        };
        frame.answer = answer.answer;
        frame.stamp_ns = stamp_epoch_ns.map(|ns| ns - self.sends.shared.clock.anchor_epoch_ns());
        if let Framed::OfSocket { push: true, .. } = decoded {
            let (of, seen) = self.pushed.entry(session).or_default();
            if *of != op {
                (*of, *seen) = (op, Vec::new());
            }
            if seen.contains(&answer.answer) {
                return self.answers.frame(Some(answer), frame);
            }
            seen.push(answer.answer);
        }
        if answer.status == Status::Error {
            frame.code = answer.code.as_deref().map(Into::into);
        }
        self.answers.push(answer, Arrival { connection: 0, recipient: 0, received_ns, phases: None, frame: Some(frame) });
    }
}
