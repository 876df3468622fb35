use super::exchange::{Body, Exchanges};
use crate::answer_log::{AnswerLog, Arrival};
use crate::decode::{Decoder, Heard};
use crate::sent_log::{SentLog, Written};
use crate::shared::SentRecord;
use hyper::HeaderMap;
use runlog::Phases;
use std::sync::atomic::Ordering::Release;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Gates that nobody answers are looked at this often.
const EXPIRE: Duration = Duration::from_millis(20);

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
        failed: Option<&'static str>,
        headers: HeaderMap,
        body: Body,
        received_ns: i64,
        phases: Box<Phases>,
    },
}

/// Logs what exchanges tell, in the order in which they do.
pub(crate) struct Collector {
    pub exchanges: Arc<Exchanges>,
    pub told: mpsc::Receiver<Told>,
    pub decoder: Decoder,
    pub sends: SentLog,
    pub answers: AnswerLog,
}

impl Collector {
    /// Logs until told to finish.
    pub fn run(mut self) {
        let shared = self.sends.shared.clone();
        while !shared.finished() {
            if let Ok(told) = self.told.recv_timeout(EXPIRE) {
                self.take(told);
            }
            if let Some(releases) = &shared.releases {
                releases.expire(shared.clock.now_ns());
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
            Told::Answered { op, action, failed, headers, body, received_ns, phases } => {
                let heard = Heard { status: phases.http_status, headers: &headers, body: &body.bytes, failed };
                if let Some(answer) = self.decoder.response(op, action, &heard) {
                    self.answers.push(&answer, Arrival { connection: 0, recipient: 0, received_ns, phases: Some(phases) });
                }
            }
        }
    }
}
