//! Run folders made to measure.

use runlog::*;
use schedule::Expect;
use std::path::Path;

/// Timeout of the action, ns.
pub const TIMEOUT: i64 = 1_000_000;
/// End of the run, ns.
pub const OBSERVED: i64 = 60_000_000;

/// An op as drawn: what was due, sent, and what came back.
#[derive(Debug, Clone)]
pub struct Drawn {
    pub op: i64,
    pub intended: i64,
    pub sent: Option<i64>,
    pub bucket: Option<bool>,
    pub expect: Vec<Expect>,
    /// (error class, received)
    pub replies: Vec<(Option<u8>, i64)>,
    /// (recipient, received)
    pub broadcasts: Vec<(u64, i64)>,
}

pub fn manifest() -> Manifest {
    let meta = serde_json::json!({
        "format": {"major": 1, "minor": 0}, "tool": "t", "name": "t", "seed": 1, "workload": null, "fingerprint": "", "rows": 1, "duration_ns": 1,
        "nominal_rate_per_sec": 1.0, "peak_rate_per_sec": 1.0,
        "actions": [{"name": "send", "transport": "nats", "answers": [0, 1], "timeout_ns": TIMEOUT}],
        "answers": [{"name": "reply", "on": ["r"], "whose": "token:-1"}, {"name": "broadcast", "kind": "broadcast", "on": ["b"], "whose": "json:/id"}],
    });
    serde_json::from_value(serde_json::json!({
        "format": {"major": 1, "minor": 0}, "run": "R", "state": "complete", "tool": "t", "command": [], "anchor_epoch_ns": 0, "schedule": meta,
        "schedule_path": "", "speed": 1.0, "loops": 1, "planned_ops": 1, "intended_rate_per_sec": 1.0, "target": [],
        "connections": [{"role": "publish", "server": ""}, {"role": "answers", "server": ""}],
        "granted": {"sched_fifo": false, "timer_slack_ns": 1}, "host": {"cores": 1, "memory_bytes": 1, "kernel": ""}, "end_ns": OBSERVED,
    }))
    .unwrap()
}

/// Writes the run, flushing after every `cut` ops.
pub fn write(dir: &Path, ops: &[Drawn], cut: usize) {
    manifest().write(dir).unwrap();
    let sealer = Sealer::start();
    let (mut sends, mut replies, mut broadcasts) =
        (LogWriter::create(dir, &sealer), LogWriter::create(dir, &sealer), LogWriter::create(dir, &sealer));
    let class = |c: u8| format!("class{c}").as_str().into();
    for (i, d) in ops.iter().enumerate() {
        sends
            .push(Sent {
                op: d.op,
                action: 0,
                bucket: d.bucket.map(|b| if b { "big".into() } else { "small".into() }),
                session: 1,
                connection: 0,
                intended_ns: d.intended,
                sent_ns: d.sent,
                bytes: 1,
                outcome: if d.sent.is_some() { Outcome::Sent } else { Outcome::Overflow } as u8,
                flags: 0,
                expected: d.expect.clone().into(),
                slip_ns: None,
                key: None,
                opener: None,
            })
            .unwrap();
        for (error, t) in &d.replies {
            let status = if error.is_some() { Status::Error } else { Status::Ok } as u8;
            replies.push(Reply { op: d.op, answer: 0, received_ns: *t, connection: 1, status, code: error.map(class), bytes: 1 }).unwrap();
        }
        for (recipient, t) in &d.broadcasts {
            broadcasts
                .push(Broadcast {
                    op: d.op,
                    answer: 1,
                    received_ns: *t,
                    connection: 1,
                    status: 0,
                    code: None,
                    bytes: 1,
                    recipient: *recipient,
                })
                .unwrap();
        }
        if i % cut.max(1) == 0 {
            sends.flush().unwrap();
            replies.flush().unwrap();
        }
    }
    sends.close().unwrap();
    replies.close().unwrap();
    broadcasts.close().unwrap();
    sealer.finish().unwrap();
}
