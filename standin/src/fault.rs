use crate::config::{Config, StageName};
use crate::{Shared, chance};
use schedule::units;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;
use tokio::time::Instant;

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The message is swallowed: no reply, no broadcast.
    Drop,
    /// The reply is an error.
    ErrorReply,
    /// The reply comes later.
    LateReply,
    /// Nothing is broadcast.
    MissingBroadcast,
    /// Everything is broadcast twice.
    DuplicateBroadcast,
    /// The broadcast comes later, after those of newer messages.
    Reorder,
    /// A stage stands still; every message that finds it so is in the ledger.
    Stall,
}

impl FaultKind {
    pub(crate) const ALL: [FaultKind; 7] = [
        FaultKind::Drop,
        FaultKind::ErrorReply,
        FaultKind::LateReply,
        FaultKind::MissingBroadcast,
        FaultKind::DuplicateBroadcast,
        FaultKind::Reorder,
        FaultKind::Stall,
    ];

    /// Where it happens if nothing else is said.
    fn stage(self) -> StageName {
        match self {
            FaultKind::MissingBroadcast | FaultKind::DuplicateBroadcast | FaultKind::Reorder => StageName::BroadcastWorker,
            _ => StageName::Gatekeeper,
        }
    }

    /// Its name in flags and in the ledger.
    pub fn name(self) -> &'static str {
        ["drop", "error_reply", "late_reply", "missing_broadcast", "duplicate_broadcast", "reorder", "stall"][self as usize]
    }
}

/// Codes of the error envelope.
const CODES: [&str; 8] =
    ["bad_request", "unauthenticated", "forbidden", "not_found", "conflict", "too_many_requests", "unavailable", "internal"];

/// Something that goes wrong.
///
/// `drop=0.01`, `drop@room-service=1%` (of that stage; else of the gatekeeper, and what concerns broadcasts of the
/// broadcast-worker), `error_reply=1%`, `error_reply=1%:unavailable`, `late_reply=0.01:2s`, `reorder=0.01:300ms`,
/// `stall=broadcast-worker:5s:2s` (5 s after the stage's first message, for 2 s).
///
/// ```
/// let fault: standin::Fault = "late_reply=1%:2s".parse().unwrap();
/// assert_eq!(fault.probability, 0.01);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Where.
    pub stage: StageName,
    /// To which share of the messages.
    pub probability: f64,
    /// By how much, for late replies and reorders.
    pub delay: Duration,
    /// For error replies: the code of the envelope.
    pub code: &'static str,
    /// For stalls: which stage, when after its first message, for how long.
    pub stall: Option<(StageName, Duration, Duration)>,
}

impl FromStr for Fault {
    type Err = String;
    fn from_str(text: &str) -> Result<Fault, String> {
        let bad = || {
            let kinds = FaultKind::ALL.map(FaultKind::name).join(", ");
            format!("`{text}` is not a fault; write drop=1%, late_reply=1%:2s or stall=broadcast-worker:5s:2s; there are {kinds}")
        };
        let time = |text: &str| units::parse_duration_ns(text).map(|ns| Duration::from_nanos(ns as u64));
        let (name, value) = text.split_once('=').ok_or_else(bad)?;
        let (name, at) = name.split_once('@').map_or((name, None), |(name, at)| (name, Some(at)));
        let kind = FaultKind::ALL.into_iter().find(|k| k.name() == name).ok_or_else(bad)?;
        let stage = at.map_or_else(|| Ok(kind.stage()), str::parse)?;
        let mut fault = Fault { kind, stage, probability: 1.0, delay: Duration::ZERO, code: "internal", stall: None };
        match (kind, &value.split(':').collect::<Vec<_>>()[..]) {
            (FaultKind::Stall, [stage, at, length]) => fault.stall = Some((stage.parse()?, time(at)?, time(length)?)),
            (FaultKind::ErrorReply, [probability, code]) => {
                fault.probability = units::parse_fraction(probability)?;
                fault.code = CODES
                    .into_iter()
                    .find(|c| c == code)
                    .ok_or_else(|| format!("`{code}` is no error code; there are {}", CODES.join(", ")))?;
            }
            (FaultKind::LateReply | FaultKind::Reorder, [probability, delay]) => {
                fault.probability = units::parse_fraction(probability)?;
                fault.delay = time(delay)?;
            }
            (FaultKind::Drop | FaultKind::ErrorReply | FaultKind::MissingBroadcast | FaultKind::DuplicateBroadcast, [probability]) => {
                fault.probability = units::parse_fraction(probability)?;
            }
            _ => return Err(bad()),
        }
        Ok(fault)
    }
}

impl Config {
    /// The fault of a kind that befalls a message in a stage.
    fn strikes(&self, kind: FaultKind, stage: StageName, sequence: u64) -> Option<&Fault> {
        let strikes = |i: usize, f: &Fault| chance::unit(self.seed, sequence, &format!("{} {i}", kind.name())) <= f.probability;
        let mut of_kind = self.faults.iter().enumerate().filter(|(_, f)| f.kind == kind && f.stage == stage && f.stall.is_none());
        of_kind.find(|(i, f)| strikes(*i, f)).map(|(_, f)| f)
    }
}

impl Shared {
    /// The fault of a kind that befalls a message in a stage; it is in the ledger then, with what the message is about.
    pub fn strikes(&self, kind: FaultKind, stage: StageName, sequence: u64, about: &str) -> Option<&Fault> {
        let fault = self.config.strikes(kind, stage, sequence);
        if fault.is_some() {
            self.ledger.record(kind.name(), stage.durable(), sequence, about);
        }
        fault
    }

    /// Waits while a stage stands still.
    pub async fn stand_still(&self, stage: StageName) {
        let stalls = self.config.faults.iter().filter_map(|fault| fault.stall).filter(|(stalled, ..)| *stalled == stage);
        for (_, at, length) in stalls {
            let began = *self.began[stage as usize].get_or_init(Instant::now);
            let (from, until) = (began + at, began + at + length);
            if (from..until).contains(&Instant::now()) {
                tokio::time::sleep_until(until).await;
                self.ledger.record(FaultKind::Stall.name(), stage.durable(), 0, "");
            }
        }
    }
}

/// Does it now, or in a while without waiting for it.
pub(crate) async fn perhaps_later(delay: Option<Duration>, work: impl Future<Output = ()> + Send + 'static) {
    let Some(delay) = delay else { return work.await };
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        work.await;
    });
}
