/// One row of a schedule, owned. The row number is the op; the writer gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operation {
    /// Offset from schedule start at speed 1, ns.
    pub at_ns: i64,
    /// Who sends: a virtual user or a captured client.
    pub session: u32,
    /// Index into the action table.
    pub action: u16,
    /// Subject.
    pub target: String,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The body as it will be sent, but for the slots.
    pub payload: Vec<u8>,
    /// Places where replay writes a fresh id or a time stamp.
    pub slots: Vec<Slot>,
    /// Not before that answer of that op came.
    pub gate: Option<Gate>,
    /// Values taken from earlier answers.
    pub binds: Vec<Bind>,
    /// How many later ops wait on, or bind from, this one.
    pub opens: u32,
    /// Answers that should come.
    pub expect: Vec<Expect>,
    /// Join key where an answer carries no id of ours.
    pub key: Option<i64>,
    /// A dimension to report by.
    pub bucket: Option<String>,
    /// The group that the fan-out goes to.
    pub audience: Option<u32>,
}

/// Which part of an operation a slot lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The subject.
    Target,
    /// The body.
    Payload,
    /// The value of the n-th header, from 0.
    Header(u8),
}

impl Part {
    /// The number in the file: 0 target, 1 payload, 2 + n the n-th header.
    pub fn code(self) -> u8 {
        match self {
            Part::Target => 0,
            Part::Payload => 1,
            Part::Header(n) => 2 + n,
        }
    }
    /// Inverse of [`Part::code`].
    pub fn from_code(code: u8) -> Part {
        match code {
            0 => Part::Target,
            1 => Part::Payload,
            n => Part::Header(n - 2),
        }
    }
}

/// What a slot is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotKind {
    /// Request id: a hyphenated UUIDv7, 36 characters. Decodes to the op.
    Request = 0,
    /// Message id: 20 characters of `[0-9A-Za-z]`. Decodes to the op.
    Message = 1,
    /// Intended wall time, epoch milliseconds, 13 digits.
    EpochMs = 2,
    /// Intended wall time, RFC 3339 with milliseconds and `Z`, 24 characters.
    Rfc3339 = 3,
    /// Letters and digits of the slot's width; fresh for every op, does not decode.
    Fresh = 4,
}

impl SlotKind {
    /// Inverse of `kind as u8`.
    pub fn from_code(code: u8) -> Option<SlotKind> {
        [SlotKind::Request, SlotKind::Message, SlotKind::EpochMs, SlotKind::Rfc3339, SlotKind::Fresh].into_iter().find(|k| *k as u8 == code)
    }
    /// Characters it takes; `None` where the slot decides.
    pub fn width(self) -> Option<u8> {
        match self {
            SlotKind::Request => Some(36),
            SlotKind::Message => Some(20),
            SlotKind::EpochMs => Some(13),
            SlotKind::Rfc3339 => Some(24),
            SlotKind::Fresh => None,
        }
    }
}

/// A fixed-width place that replay fills. `op` and `ordinal` say whose id it is: this op's, or an earlier op's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Where.
    pub part: Part,
    /// Byte offset within the part.
    pub offset: u32,
    /// Bytes.
    pub width: u8,
    /// What.
    pub kind: SlotKind,
    /// Whose.
    pub op: i64,
    /// Which of that op's ids, 0 to 14 (15 is the inbox).
    pub ordinal: u8,
}

/// A gate opens on the first ok answer named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// The op waited for.
    pub op: i64,
    /// Which of its answers.
    pub answer: u8,
    /// Think time after it, ns; scales with the tempo.
    pub delay_ns: i64,
    /// Longest wait, ns; never scales.
    pub timeout_ns: i64,
}

/// How a bound value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Convert {
    /// As it stands.
    Raw = 0,
    /// As a JSON string, quoted and escaped.
    JsonString = 1,
    /// An RFC 3339 time as epoch milliseconds.
    EpochMs = 2,
    /// Percent-encoded.
    Url = 3,
}

impl Convert {
    /// Inverse of `convert as u8`.
    pub fn from_code(code: u8) -> Option<Convert> {
        [Convert::Raw, Convert::JsonString, Convert::EpochMs, Convert::Url].into_iter().find(|c| *c as u8 == code)
    }
}

/// A value of an earlier answer, put in the place of slot number `slot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Index into the op's slots: where.
    pub slot: u8,
    /// The op answered.
    pub op: i64,
    /// Which of its answers.
    pub answer: u8,
    /// JSON pointer into that answer; a negative array index counts from the end.
    pub pointer: String,
    /// How it is written.
    pub convert: Convert,
}

/// An answer that should come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expect {
    /// Index into the answer table.
    pub answer: u8,
    /// How many copies; `None` is at least one.
    pub count: Option<u32>,
}
