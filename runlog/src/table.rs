//! The logs, each defined once: row type, column names, types, units.

use crate::cell::Cell;
use crate::expected::Expected;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::sync::Arc;

/// A log: a row type with its columns.
pub trait Table: Sized + Send + 'static {
    /// First part of its file names.
    const NAME: &'static str;
    /// Whether it has an `op` column to find rows by.
    const HAS_OP: bool;
    /// Rows under construction.
    type Builder: Default + Send;
    /// Typed columns of a decoded batch.
    type Columns: Send;
    /// Its Arrow schema.
    fn schema() -> SchemaRef;
    /// Adds a row.
    fn append(self, builder: &mut Self::Builder);
    /// Takes the rows added.
    fn take(builder: &mut Self::Builder) -> RecordBatch;
    /// The columns of a batch by name; unknown ones are ignored.
    ///
    /// # Errors
    /// The name of the column that is missing or has another type.
    fn columns(batch: &RecordBatch) -> Result<Self::Columns, String>;
}

macro_rules! table {
    ($(#[$doc:meta])* $row:ident, $columns:ident, $builder:ident, $name:literal, has_op: $has_op:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $row { $($(#[$field_doc])* pub $field: $type,)* }

        #[doc = concat!("Columns of a batch of [`", stringify!($row), "`].")]
        #[derive(Clone)]
        pub struct $columns { $($(#[$field_doc])* pub $field: <$type as Cell>::Array,)* }

        #[doc(hidden)]
        #[derive(Default)]
        pub struct $builder { $($field: <$type as Cell>::Builder,)* }

        impl $columns {
            /// Row `i`.
            pub fn row(&self, i: usize) -> $row {
                $row { $($field: <$type as Cell>::get(&self.$field, i),)* }
            }
        }

        impl Table for $row {
            const NAME: &'static str = $name;
            const HAS_OP: bool = $has_op;
            type Builder = $builder;
            type Columns = $columns;
            fn schema() -> SchemaRef {
                Arc::new(Schema::new(vec![$(Field::new(stringify!($field), <$type as Cell>::data_type(), <$type as Cell>::NULLABLE),)*]))
            }
            fn append(self, builder: &mut $builder) {
                $(self.$field.append(&mut builder.$field);)*
            }
            fn take(builder: &mut $builder) -> RecordBatch {
                let columns: Vec<ArrayRef> = vec![$(<$type as Cell>::finish(&mut builder.$field),)*];
                RecordBatch::try_new(Self::schema(), columns).expect("columns follow the schema")
            }
            fn columns(batch: &RecordBatch) -> Result<$columns, String> {
                Ok($columns {
                    $($field: batch.column_by_name(stringify!($field)).and_then(<$type as Cell>::column).ok_or(stringify!($field))?,)*
                })
            }
        }
    };
}

table! {
    /// One operation, sent or not.
    Sent, SentColumns, SentBuilder, "sends", has_op: true {
        /// Row of the schedule, plus lap × rows.
        op: i64,
        /// Index into the action table.
        action: u16,
        /// A dimension to report by.
        bucket: Option<Arc<str>>,
        /// Who sends.
        session: u32,
        /// Index into the manifest's connections; 0 over HTTP, where [`Phases`] has it.
        connection: u16,
        /// When it was due.
        intended_ns: i64,
        /// When it was handed to the kernel, over HTTP when its exchange began to; null if it was not.
        sent_ns: Option<i64>,
        /// Frame size.
        bytes: u32,
        /// [`Outcome`].
        outcome: u8,
        /// [`Flags`].
        flags: u16,
        /// Answers that should come in this run.
        expected: Expected,
        /// Of a gated op: how long its gate held it beyond its own time; null where there is no gate.
        slip_ns: Option<i64>,
        /// By which answers without an id of ours find it; null where there are none.
        key: Option<i64>,
        /// Of a gated op: the op whose answer it waited for.
        opener: Option<i64>,
    }
}

table! {
    /// An answer to the sender.
    Reply, ReplyColumns, ReplyBuilder, "replies", has_op: true {
        /// Whose it is.
        op: i64,
        /// Index into the answer table.
        answer: u8,
        /// When it was read from the socket.
        received_ns: i64,
        /// Index into the manifest's connections.
        connection: u16,
        /// [`Status`].
        status: u8,
        /// Class of an error.
        code: Option<Arc<str>>,
        /// Payload size.
        bytes: u32,
    }
}

table! {
    /// One copy of a fan-out.
    Broadcast, BroadcastColumns, BroadcastBuilder, "broadcasts", has_op: true {
        /// Whose it is.
        op: i64,
        /// Index into the answer table.
        answer: u8,
        /// When it was read from the socket.
        received_ns: i64,
        /// Index into the manifest's connections.
        connection: u16,
        /// [`Status`].
        status: u8,
        /// Class of an error.
        code: Option<Arc<str>>,
        /// Payload size.
        bytes: u32,
        /// XXH3-64 of the subject token that names who it was for; 0 where a subject serves all.
        recipient: u64,
    }
}

table! {
    /// An answer, or a copy of one, that carries no id of ours but the fields that make a key.
    Keyed, KeyedColumns, KeyedBuilder, "keyed", has_op: false {
        /// [`schedule::key_of`] its fields.
        key: i64,
        /// Index into the answer table.
        answer: u8,
        /// When it was read from the socket.
        received_ns: i64,
        /// Index into the manifest's connections.
        connection: u16,
        /// [`Status`].
        status: u8,
        /// Class of an error.
        code: Option<Arc<str>>,
        /// Payload size.
        bytes: u32,
        /// As of a broadcast.
        recipient: u64,
    }
}

table! {
    /// Something that happened to the run.
    Event, EventColumns, EventBuilder, "events", has_op: false {
        /// When.
        t_ns: i64,
        /// [`EventKind`], by its name in snake case.
        kind: Arc<str>,
        /// Index into the manifest's connections; 65535 where none is meant.
        connection: u16,
        /// What the kind says it is.
        value: i64,
        /// Detail.
        text: Option<Arc<str>>,
    }
}

table! {
    /// A sample of a number.
    Metric, MetricColumns, MetricBuilder, "metrics", has_op: false {
        /// When.
        t_ns: i64,
        /// `consumer:STREAM/DURABLE`, `self`, `thread:pacer`, `host`.
        source: Arc<str>,
        /// `pending`, `ack_pending`, `redelivered`, `cpu`, `rss_bytes`; `queued_sends` and `queued_answers`: records that wait to be logged.
        metric: Arc<str>,
        /// Its value; `cpu` is in cores.
        value: f64,
    }
}

table! {
    /// What an exchange over HTTP consisted of. Times are lengths, null for what was not needed: a connection that was there already
    /// needs none of the first three.
    Phases, PhasesColumns, PhasesBuilder, "phases", has_op: true {
        /// As in [`Sent`].
        op: i64,
        /// Number of the connection, from 0 in the order in which they were opened.
        connection: u32,
        /// Finding the address of the server's name.
        dns_ns: Option<i64>,
        /// The TCP handshake.
        connect_ns: Option<i64>,
        /// The TLS handshake.
        tls_ns: Option<i64>,
        /// From the request's first byte to the head of its response.
        first_byte_ns: Option<i64>,
        /// From then to the last byte of the body.
        body_ns: Option<i64>,
        /// Status of the response; 0 where none came.
        http_status: u16,
    }
}

table! {
    /// What came over a WebSocket, in its order. Its first row says by its `kind` that it is open, its last that it has ended.
    Frame, FrameColumns, FrameBuilder, "frames", has_op: true {
        /// The op that opened it.
        op: i64,
        /// Its action.
        action: u16,
        /// Whose it is.
        session: u32,
        /// Index into the answer table; [`Frame::OTHER`] for what no rule is about.
        answer: u8,
        /// Opcode of [RFC 6455](https://www.rfc-editor.org/rfc/rfc6455#section-11.8): 1 text, 2 binary, 8 close; 0 says that it is open.
        kind: u8,
        /// When it was received.
        received_ns: i64,
        /// When the target says that it made it, on the clock of the run.
        stamp_ns: Option<i64>,
        /// Size of its payload.
        bytes: u32,
        /// Class of an error; of an end, how it came: the close code of the target, or what broke. Null where we closed.
        code: Option<Arc<str>>,
    }
}

impl Frame {
    /// No answer rule is about it.
    pub const OTHER: u8 = u8::MAX;
    /// A WebSocket is open.
    pub const OPEN: u8 = 0;
    /// A WebSocket has ended.
    pub const CLOSE: u8 = 8;
}

table! {
    /// How the checks of an answer went.
    Checked, CheckedColumns, CheckedBuilder, "checks", has_op: true {
        /// As in [`Sent`].
        op: i64,
        /// Index into the answer table.
        answer: u8,
        /// When it was received.
        received_ns: i64,
        /// Names of those that did not hold, between commas; null if all did.
        failed: Option<Arc<str>>,
    }
}

table! {
    /// A message that a capture heard.
    Captured, CapturedColumns, CapturedBuilder, "captured", has_op: false {
        /// When it was read from the socket, or stored by the server, epoch ns.
        t_ns: i64,
        /// Where it was published.
        subject: Vec<u8>,
        /// Where answers go; empty where none are wanted.
        reply: Vec<u8>,
        /// Its headers as they came; empty without any.
        headers: Vec<u8>,
        /// Its body.
        payload: Vec<u8>,
    }
}

// Tables of fewer columns read just those of the same log.

table! {
    /// What a join reads of [`Sent`].
    JoinSent, JoinSentColumns, JoinSentBuilder, "sends", has_op: true {
        /// As in [`Sent`].
        op: i64,
        /// As in [`Sent`].
        action: u16,
        /// As in [`Sent`].
        bucket: Option<Arc<str>>,
        /// As in [`Sent`].
        connection: u16,
        /// As in [`Sent`].
        intended_ns: i64,
        /// As in [`Sent`].
        sent_ns: Option<i64>,
        /// As in [`Sent`].
        outcome: u8,
        /// As in [`Sent`].
        flags: u16,
        /// As in [`Sent`].
        expected: Expected,
    }
}

table! {
    /// What a join reads of [`Reply`].
    JoinReply, JoinReplyColumns, JoinReplyBuilder, "replies", has_op: true {
        /// As in [`Reply`].
        op: i64,
        /// As in [`Reply`].
        answer: u8,
        /// As in [`Reply`].
        received_ns: i64,
        /// As in [`Reply`].
        status: u8,
        /// As in [`Reply`].
        code: Option<Arc<str>>,
    }
}

table! {
    /// What is read of [`Reply`] to sort ops by the size of what they were answered.
    SizedReply, SizedReplyColumns, SizedReplyBuilder, "replies", has_op: true {
        /// As in [`Reply`].
        op: i64,
        /// As in [`Reply`].
        bytes: u32,
    }
}

table! {
    /// What a join reads of [`Broadcast`].
    JoinBroadcast, JoinBroadcastColumns, JoinBroadcastBuilder, "broadcasts", has_op: true {
        /// As in [`Broadcast`].
        op: i64,
        /// As in [`Broadcast`].
        answer: u8,
        /// As in [`Broadcast`].
        received_ns: i64,
        /// As in [`Broadcast`].
        status: u8,
        /// As in [`Broadcast`].
        code: Option<Arc<str>>,
        /// As in [`Broadcast`].
        recipient: u64,
    }
}

table! {
    /// What keys are joined by: those of [`Sent`] that have one.
    KeySent, KeySentColumns, KeySentBuilder, "sends", has_op: true {
        /// As in [`Sent`].
        op: i64,
        /// As in [`Sent`].
        sent_ns: Option<i64>,
        /// As in [`Sent`].
        key: Option<i64>,
    }
}

table! {
    /// What is read of [`Sent`] to put the steps of a scenario together.
    StepSent, StepSentColumns, StepSentBuilder, "sends", has_op: true {
        /// As in [`Sent`].
        op: i64,
        /// As in [`Sent`].
        action: u16,
        /// As in [`Sent`].
        intended_ns: i64,
        /// As in [`Sent`].
        outcome: u8,
        /// As in [`Sent`].
        expected: Expected,
        /// As in [`Sent`].
        opener: Option<i64>,
    }
}

table! {
    /// When ops were due: those of [`Sent`].
    DueSent, DueSentColumns, DueSentBuilder, "sends", has_op: true {
        /// As in [`Sent`].
        op: i64,
        /// As in [`Sent`].
        intended_ns: i64,
    }
}

table! {
    /// What the gates did: those of [`Sent`] that had one.
    GatedSent, GatedSentColumns, GatedSentBuilder, "sends", has_op: true {
        /// As in [`Sent`].
        action: u16,
        /// As in [`Sent`].
        intended_ns: i64,
        /// As in [`Sent`].
        outcome: u8,
        /// As in [`Sent`].
        slip_ns: Option<i64>,
    }
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Handed to the kernel.
    Sent = 0,
    /// The run ended before it was due.
    Cancelled = 1,
    /// The connection was down, and either the policy is to skip, or it did not come back.
    Disconnected = 2,
    /// The outbox of its connection was full.
    Overflow = 3,
    /// Larger than the server takes.
    TooLarge = 4,
    /// The answer that opens its gate was an error, or did not come in time, or cannot come.
    GateFailed = 5,
    /// It waits for an op that is not part of this run.
    DependencyNotSent = 6,
    /// The answer lacks the value that it needs.
    BindFailed = 7,
}

impl Outcome {
    /// Its name.
    pub fn name(code: u8) -> &'static str {
        const NAMES: [&str; 8] =
            ["sent", "cancelled", "disconnected", "overflow", "too_large", "gate_failed", "dependency_not_sent", "bind_failed"];
        NAMES.get(usize::from(code)).unwrap_or(&"unknown")
    }
}

/// Bits of [`Sent::flags`]: why an op was late, and whether it had to wait for an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// The socket took no more.
    pub const SOCKET_FULL: u16 = 1;
    /// The connection was down when it was due.
    pub const DISCONNECTED: u16 = 2;
    /// Its frame was not ready.
    pub const LOADER_LATE: u16 = 4;
    /// The pacer's thread was not run in time.
    pub const WOKE_LATE: u16 = 8;
    /// A gate decided when it was due. No cause of lateness.
    pub const GATED: u16 = 16;
    /// As many connections were open as may be, and each was busy.
    pub const NO_CONNECTION: u16 = 32;
}

/// Status of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// As it should be.
    Ok = 0,
    /// The target says it failed.
    Error = 1,
    /// The target says that it had this op already.
    Duplicate = 2,
}

/// Kinds of [`Event`]s and what their `value` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// All logs are on file up to this time. Value: the same time.
    Flushed,
    /// A connection was lost. Value: time of the last send that the server confirmed.
    Lost,
    /// A connection is up again and its subscriptions are confirmed. Value: when it was lost.
    Up,
    /// The server said `-ERR`. Text: its words.
    ServerError,
    /// Answers that no rule or id of ours explains. Value: how many so far.
    Foreign,
    /// Records dropped because a buffer was full. Value: how many so far.
    Dropped,
    /// The wall clock jumped against the monotonic one. Value: by how much, ns.
    ClockStep,
    /// The first answer of an error class. Text: class and the beginning of the body.
    FirstError,
    /// A signal asked for the end. Value: how often.
    Interrupted,
    /// The last op was sent. Value: 0.
    SendingDone,
    /// The drain ended. Text: why.
    Drained,
    /// A consumer of the target that was there is gone, though its stream answers. Text: `STREAM/DURABLE`.
    ConsumerGone,
    /// A step is over. Value: its number. Text: [`crate::StepMark`] as JSON.
    Step,
    /// Something worth knowing. Text: what.
    Note,
}

impl EventKind {
    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Flushed => "flushed",
            EventKind::Lost => "lost",
            EventKind::Up => "up",
            EventKind::ServerError => "server_error",
            EventKind::Foreign => "foreign",
            EventKind::Dropped => "dropped",
            EventKind::ClockStep => "clock_step",
            EventKind::FirstError => "first_error",
            EventKind::Interrupted => "interrupted",
            EventKind::SendingDone => "sending_done",
            EventKind::Drained => "drained",
            EventKind::ConsumerGone => "consumer_gone",
            EventKind::Step => "step",
            EventKind::Note => "note",
        }
    }
}

impl Event {
    /// An event of no particular connection.
    pub fn new(t_ns: i64, kind: EventKind, value: i64, text: Option<&str>) -> Event {
        Event { t_ns, kind: kind.name().into(), connection: u16::MAX, value, text: text.map(Into::into) }
    }

    /// An event of one connection.
    pub fn of(connection: u16, t_ns: i64, kind: EventKind, value: i64, text: Option<&str>) -> Event {
        Event { connection, ..Event::new(t_ns, kind, value, text) }
    }
}
