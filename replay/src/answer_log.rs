use crate::decode::{Answer, Whose};
use crate::shared::{AnswerRecord, More, Note, Shared, answer_hash};
use runlog::{Checked, Event, EventKind, Frame, Phases, Status};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Distinct error classes; the rest are `other`.
const CLASSES_MAX: usize = 256;
/// Characters kept of the first body of an error class.
const BODY_CHARS: usize = 200;

/// The way of answers into the log, and to the ops that wait for them.
pub(crate) struct AnswerLog {
    pub shared: Arc<Shared>,
    out: rtrb::Producer<AnswerRecord>,
    codes: HashMap<String, Arc<str>>,
    noted: HashSet<(u8, Arc<str>)>,
}

/// Where an answer came from, and when.
pub(crate) struct Arrival {
    pub connection: u16,
    /// Who listens there; 0 is nobody in particular.
    pub recipient: u64,
    pub received_ns: i64,
    /// Over HTTP and WebSockets.
    pub phases: Option<Phases>,
    pub frame: Option<Frame>,
}

impl AnswerLog {
    pub fn new(shared: Arc<Shared>, out: rtrb::Producer<AnswerRecord>) -> AnswerLog {
        AnswerLog { shared, out, codes: HashMap::new(), noted: HashSet::new() }
    }

    pub fn push(&mut self, answer: &Answer<'_>, arrival: Arrival) {
        let (counters, now_ns) = (&self.shared.counters, arrival.received_ns);
        counters.answers.fetch_add(1, Relaxed);
        let (Whose::Op(id) | Whose::Key(id)) = answer.whose;
        counters.answers_hash.fetch_add(answer_hash(id, answer.answer), Relaxed);
        counters.last_answer_ns.store(now_ns, Relaxed);
        if let Some(releases) = &self.shared.releases {
            releases.answered(answer.whose, answer.answer, answer.status != Status::Error, now_ns, answer.payload);
        }
        let code = answer.code.as_deref().map(|text| intern(&mut self.codes, text));
        if let Some(live) = &self.shared.live {
            live.answered(answer.whose, answer.answer, answer.status, code.as_deref(), now_ns);
        }
        self.note_errors(answer, code.as_ref(), now_ns);
        let checked = answer.checked.as_ref().map(|failed| self.checked(id, answer.answer, now_ns, failed));
        let Arrival { phases, frame, .. } = arrival;
        let more = (phases.is_some() || checked.is_some() || frame.is_some()).then_some(More { phases, checked, frame, no_answer: false });
        let record = AnswerRecord {
            whose: answer.whose,
            answer: answer.answer,
            broadcast: answer.broadcast,
            status: answer.status as u8,
            connection: arrival.connection,
            received_ns: now_ns,
            bytes: answer.payload.len() as u32,
            recipient: if answer.recipient == 0 { arrival.recipient } else { answer.recipient },
            code,
            more: more.map(Box::new),
        };
        self.log(record);
    }

    /// A frame that answers nothing: another push, or one that no rule is about.
    pub fn frame(&mut self, answer: Option<&Answer<'_>>, mut frame: Frame) {
        let checked = answer
            .and_then(|answer| answer.checked.as_ref().map(|failed| self.checked(frame.op, answer.answer, frame.received_ns, failed)));
        if let Some(answer) = answer {
            let code = answer.code.as_deref().map(|text| intern(&mut self.codes, text));
            self.note_errors(answer, code.as_ref(), frame.received_ns);
            frame.code = code;
        }
        let more = More { phases: None, checked, frame: Some(frame), no_answer: true };
        self.log(AnswerRecord { more: Some(Box::new(more)), ..AnswerRecord::default() });
    }

    fn checked(&mut self, op: i64, answer: u8, received_ns: i64, failed: &[&str]) -> Checked {
        let failed = (!failed.is_empty()).then(|| intern(&mut self.codes, &failed.join(",")));
        Checked { op, answer, received_ns, failed }
    }

    /// Keeps the first body of each error class, and of each check that did not hold.
    fn note_errors(&mut self, answer: &Answer<'_>, code: Option<&Arc<str>>, now_ns: i64) {
        let Some(code) = code.filter(|_| answer.status == Status::Error) else { return };
        note_first(&self.shared, &mut self.noted, answer, code, now_ns);
        // The first is the code already.
        for name in answer.checked.iter().flatten().skip(1) {
            let code = intern(&mut self.codes, &format!("check:{name}"));
            note_first(&self.shared, &mut self.noted, answer, &code, now_ns);
        }
    }

    fn log(&mut self, record: AnswerRecord) {
        if self.out.push(record).is_err() {
            self.shared.counters.dropped.fetch_add(1, Relaxed);
        }
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
