//! A run folder with drawn latencies: what a replay of any length leaves behind, without replaying.

use fixtures::Rng;
use runlog::{Broadcast, Expected, LogWriter, Manifest, Outcome, Reply, Sealer, Sent};
use schedule::Expect;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;

const ACTIONS: u16 = 10;
const TIMEOUT_NS: i64 = 30_000_000_000;

#[derive(clap::Args)]
pub struct Args {
    /// Folder to write
    output: PathBuf,
    /// Operations
    #[arg(long, default_value_t = 20_000_000)]
    ops: i64,
    /// Operations per second, Poisson
    #[arg(long, default_value_t = 100_000.0)]
    rate: f64,
    /// Seconds, from a quarter of the run on, during which nothing is answered
    #[arg(long, default_value_t = 0.0)]
    stall: f64,
}

/// An answer under way: received, op, answer, recipient.
type Coming = Reverse<(i64, i64, u8, u64)>;

struct Logs {
    sends: LogWriter<Sent>,
    replies: LogWriter<Reply>,
    broadcasts: LogWriter<Broadcast>,
}

/// Ten actions in turn by chance: a reply to each but 0.5 %, and none, one or two broadcasts depending on the action.
pub fn run(args: &Args) -> Result<(), runlog::Error> {
    let io = |source| runlog::Error::Io { path: args.output.clone(), source };
    std::fs::create_dir_all(&args.output).map_err(io)?;
    let sealer = Sealer::start();
    let mut logs = Logs {
        sends: LogWriter::create(&args.output, &sealer),
        replies: LogWriter::create(&args.output, &sealer),
        broadcasts: LogWriter::create(&args.output, &sealer),
    };
    let stall_from = args.ops as f64 / args.rate * 0.25e9;
    let stall = (stall_from as i64, (stall_from + args.stall * 1e9) as i64);
    let mut rng = Rng::new(42, "bench");
    let mut coming: BinaryHeap<Coming> = BinaryHeap::new();
    let expected: Vec<Expected> = (0..ACTIONS).map(|a| expected(a).into()).collect();
    let mut intended_ns = 0i64;
    for op in 0..args.ops {
        intended_ns += (-libm::log(rng.unit()) / args.rate * 1e9) as i64;
        let action = rng.below(ACTIONS.into()) as u16;
        let sent_ns = intended_ns + 300 + (-libm::log(rng.unit()) * 20_000.0) as i64;
        logs.sends.push(Sent {
            op,
            action,
            bucket: None,
            session: rng.below(10_000) as u32,
            connection: 0,
            intended_ns,
            sent_ns: Some(sent_ns),
            bytes: 200,
            outcome: Outcome::Sent as u8,
            flags: 0,
            expected: expected[usize::from(action)].clone(),
            slip_ns: None,
            key: None,
            opener: None,
        })?;
        let mut answer = |rng: &mut Rng, answer: u8, recipient: u64, median_ns: f64, sigma: f64| {
            let came = sent_ns + (median_ns * libm::exp(sigma * normal(rng))) as i64;
            let came = if (stall.0..stall.1).contains(&came) { stall.1 + (came - stall.0) / 100 } else { came };
            coming.push(Reverse((came, op, answer, recipient)));
        };
        if !rng.chance(0.005) {
            answer(&mut rng, 0, 0, 5e6, 0.5);
        }
        let copies = copies(action);
        for copy in 0..copies {
            answer(&mut rng, 1, u64::from(if copies > 1 { copy + 1 } else { 0 }), 6e6, 0.6);
        }
        while coming.peek().is_some_and(|Reverse(c)| c.0 <= intended_ns) {
            write(&mut logs, coming.pop())?;
        }
    }
    let end_ns = intended_ns + TIMEOUT_NS + 1;
    while !coming.is_empty() {
        write(&mut logs, coming.pop())?;
    }
    logs.sends.close()?;
    logs.replies.close()?;
    logs.broadcasts.close()?;
    sealer.finish()?;
    manifest(args, end_ns).write(&args.output)
}

fn write(logs: &mut Logs, coming: Option<Coming>) -> Result<(), runlog::Error> {
    let Some(Reverse((received_ns, op, answer, recipient))) = coming else { return Ok(()) };
    let (connection, status, code, bytes) = (1, 0, None, 120);
    if answer == 0 {
        logs.replies.push(Reply { op, answer, received_ns, connection, status, code, bytes })
    } else {
        logs.broadcasts.push(Broadcast { op, answer, received_ns, connection, status, code, bytes, recipient })
    }
}

fn copies(action: u16) -> u32 {
    [0, 2, 1, 1][usize::from(action) % 4]
}

fn expected(action: u16) -> Vec<Expect> {
    let broadcast = Some(Expect { answer: 1, count: Some(copies(action)) }).filter(|e| e.count != Some(0));
    [Expect { answer: 0, count: Some(1) }].into_iter().chain(broadcast).collect()
}

/// Box and Muller, 1958.
fn normal(rng: &mut Rng) -> f64 {
    libm::sqrt(-2.0 * libm::log(rng.unit())) * libm::cos(std::f64::consts::TAU * rng.unit())
}

fn manifest(args: &Args, end_ns: i64) -> Manifest {
    let actions: Vec<_> = (0..ACTIONS)
        .map(|a| serde_json::json!({"name": format!("action{a}"), "transport": "nats", "answers": [0, 1], "timeout_ns": TIMEOUT_NS}))
        .collect();
    let meta = serde_json::json!({
        "format": {"major": 1, "minor": 0}, "tool": "bench", "name": "bench", "seed": 42, "workload": null, "fingerprint": "",
        "rows": args.ops, "duration_ns": end_ns, "nominal_rate_per_sec": args.rate, "peak_rate_per_sec": args.rate, "actions": actions,
        "answers": [{"name": "reply", "on": ["r"], "whose": "token:-1"}, {"name": "broadcast", "kind": "broadcast", "on": ["b"], "whose": "json:/id"}],
    });
    let manifest = serde_json::json!({
        "format": {"major": 1, "minor": 0}, "run": "BENCH", "state": "complete", "tool": "bench", "command": [], "anchor_epoch_ns": 0,
        "schedule": meta, "schedule_path": "", "speed": 1.0, "loops": 1, "planned_ops": args.ops, "intended_rate_per_sec": args.rate,
        "target": [], "connections": [{"role": "publish", "server": ""}, {"role": "answers", "server": ""}],
        "granted": {"sched_fifo": false, "timer_slack_ns": 1}, "host": {"cores": 1, "memory_bytes": 1, "kernel": ""}, "end_ns": end_ns,
    });
    serde_json::from_value(manifest).expect("it is the format's own")
}
