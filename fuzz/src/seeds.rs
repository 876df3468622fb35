use replay::decode::Decoder;
use runlog::{Broadcast, Checked, Event, EventKind, Frame, LogWriter, Metric, Reply, Sealer, Sent, Status};
use schedule::{Action, AnswerRule, Expect, Id, IdKey};
use std::path::Path;
use std::sync::OnceLock;

/// Good input of a target, to be spoiled.
///
/// # Panics
/// For a target that there is not.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "nats" => talk(),
        "schedule_file" => ["small", "realistic"].map(schedule_bytes).to_vec(),
        "run_folder" => (0u8..).zip(run_files()).map(|(i, (_, content))| [&[i], content.as_slice()].concat()).collect(),
        "workload" => workloads(),
        "slo" => lines(),
        "recording" => recordings(),
        other => panic!("there is no target {other}"),
    }
}

fn tables() -> (Vec<Action>, Vec<AnswerRule>) {
    let answers: Vec<AnswerRule> = serde_json::from_str(
        r#"[{"name":"reply","on":["u.*.response.>"],"whose":"token:-1","when":"!/operation","error":"/error","code":["/reason","/code"]},
        {"name":"broadcast","kind":"broadcast","on":["r.*.event"],"whose":"json:/lastMsgId","recipients":{"r.*.event":"token:1"}},
        {"name":"puback","whose":"inbox","error":"/error","code":["/error/err_code"],"duplicate":"/duplicate"}]"#,
    )
    .expect("ours");
    (
        vec![Action { name: "send".into(), transport: "nats".into(), answers: vec![0, 1, 2], timeout_ns: 1_000_000_000, once: false }],
        answers,
    )
}

pub fn decoder() -> &'static Decoder {
    static DECODER: OnceLock<Decoder> = OnceLock::new();
    DECODER.get_or_init(|| {
        let (actions, answers) = tables();
        Decoder::new(IdKey::new(b"run"), &actions, &answers)
    })
}

fn talk() -> Vec<Vec<u8>> {
    let key = IdKey::new(b"run");
    let (mut message, mut request) = ([0; 20], [0; 36]);
    key.write_base62(Id { op: 77, ordinal: 1 }, &mut message);
    key.write_uuid(Id { op: 78, ordinal: 0 }, 1_700_000_000_000, &mut request);
    let (message, request) = (String::from_utf8_lossy(&message), String::from_utf8_lossy(&request));
    let body = format!("{{\"a\":{{}},\"lastMsgId\":\"{message}\"}}");
    let error = r#"{"error":{"code":503,"err_code":10077},"reason":"x"}"#;
    [
        "INFO {\"server_id\":\"A\",\"max_payload\":1048576}\r\nPONG\r\nINFO {}\r\n+OK\r\nPING\r\n-ERR 'Stale Connection'\r\n".to_owned(),
        format!("MSG r.1.event 2 {}\r\n{body}\r\n", body.len()),
        format!("MSG u.bob.response.{request} 1 2\r\n{{}}\r\nMSG u.bob.response.{request} 1 {}\r\n{error}\r\n", error.len()),
        format!("MSG _INBOX.run.0.{message} 1 in.box 0\r\n\r\nHMSG _INBOX.run.0.{message} 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"),
        "HMSG a 1 r 38 40\r\nNATS/1.0\r\nNats-Msg-Id: a:b\r\nX: y\r\n\r\n\r\nhi\r\n".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

fn schedule_bytes(preset: &str) -> Vec<u8> {
    let overrides = fixtures::Overrides { rate_per_sec: Some(50.0), duration_ns: Some(1_000_000_000), ..Default::default() };
    let workload = fixtures::preset(preset).expect("a preset").with(&overrides).expect("it fits");
    let population = fixtures::Population::build(&workload, workload.seed, Path::new(".")).expect("a population");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("a.parquet");
    fixtures::compile(&workload, &population, &path, &mut |_| {}).expect("it compiles");
    std::fs::read(&path).expect("just written")
}

/// The files of a small run, some sealed and some not.
pub fn run_files() -> &'static [(String, Vec<u8>)] {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        write_run(dir.path()).expect("it is writable");
        let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(dir.path())
            .expect("it is there")
            .map(|entry| entry.expect("it is there").path())
            .map(|path| (path.file_name().expect("a file").to_string_lossy().into_owned(), std::fs::read(&path).expect("just written")))
            .collect();
        files.sort();
        files
    })
}

fn write_run(dir: &Path) -> Result<(), runlog::Error> {
    let sealer = Sealer::start();
    let (mut sends, mut replies) = (LogWriter::create(dir, &sealer), LogWriter::create(dir, &sealer));
    for op in 0..200 {
        let expected = [Expect { answer: 0, count: Some(1) }, Expect { answer: 1, count: None }].into();
        let bucket = (op % 3 == 0).then(|| "big".into());
        let (intended_ns, sent_ns) = (op * 1_000_000, (op % 7 > 0).then_some(op * 1_000_000 + 50));
        let (action, session, connection, bytes, outcome, flags) = (0, 1, 0, 128, u8::from(sent_ns.is_none()), 0);
        sends.push(Sent {
            op,
            action,
            bucket,
            session,
            connection,
            intended_ns,
            sent_ns,
            bytes,
            outcome,
            flags,
            expected,
            slip_ns: None,
            key: None,
            opener: None,
        })?;
        let (status, code) = if op % 9 == 0 { (Status::Error, Some("internal".into())) } else { (Status::Ok, None) };
        let (answer, received_ns, status) = (0, intended_ns + 500_000, status as u8);
        replies.push(Reply { op, answer, received_ns, connection, status, code, bytes })?;
    }
    sends.close()?;
    replies.close()?;
    let (mut frames, mut checks) = (LogWriter::create(dir, &sealer), LogWriter::create(dir, &sealer));
    for (n, kind) in [Frame::OPEN, 1, 2, 1, Frame::CLOSE].into_iter().enumerate() {
        let (answer, received_ns, code) = ((n % 2) as u8, n as i64 * 1_000_000, (n == 4).then(|| "1001".into()));
        frames.push(Frame { op: 0, action: 0, session: 1, answer, kind, received_ns, stamp_ns: Some(received_ns), bytes: 9, code })?;
        checks.push(Checked { op: n as i64, answer, received_ns: n as i64 * 1_000_000, failed: (n % 2 == 0).then(|| "a,b".into()) })?;
    }
    frames.close()?;
    checks.close()?;
    // What a crash leaves: streams that were flushed and not closed.
    let (mut broadcasts, mut events, mut metrics) =
        (LogWriter::create(dir, &sealer), LogWriter::create(dir, &sealer), LogWriter::create(dir, &sealer));
    for op in 0..100 {
        let (answer, received_ns, connection, status, code, bytes) = (1, op * 1_000_000 + 700_000, 1, 0, None, 50);
        broadcasts.push(Broadcast { op, answer, received_ns, connection, status, code, bytes, recipient: (op % 4) as u64 })?;
    }
    for (t_ns, kind, value) in [(1, EventKind::Flushed, 250_000_000), (2, EventKind::Lost, 1), (3, EventKind::Up, 2)] {
        events.push(Event::of(1, t_ns, kind, value, Some("text")))?;
    }
    let step = r#"{"number":1,"course":"ramp","axis":"rate","target":500.0,"from_ns":0,"hold_from_ns":20000000,"until_ns":150000000,
        "drained_ns":200000000,"first_op":0,"end_op":150,"backlog_left":0}"#;
    events.push(Event::new(3, EventKind::Step, 1, Some(step)))?;
    metrics.push(Metric { t_ns: 1, source: "consumer:S/d".into(), metric: "pending".into(), value: 3.0 })?;
    broadcasts.flush()?;
    events.flush()?;
    metrics.flush()?;
    drop((broadcasts, events, metrics));
    sealer.finish()?;
    std::fs::write(dir.join(runlog::MANIFEST), manifest()).map_err(|source| runlog::Error::Io { path: dir.into(), source })
}

fn manifest() -> String {
    let (actions, answers) = tables();
    let meta = serde_json::json!({
        "format": {"major": 1, "minor": 0}, "tool": "t", "name": "t", "seed": 1, "workload": null, "fingerprint": "", "rows": 200,
        "duration_ns": 200_000_000, "nominal_rate_per_sec": 1000.0, "peak_rate_per_sec": 1000.0, "actions": actions, "answers": answers,
        "slo": ["send/reply p95 < 100ms", "missing == 0 every 1s"],
    });
    serde_json::json!({
        "format": {"major": 1, "minor": 0}, "run": "R", "state": "running", "tool": "t", "command": [], "anchor_epoch_ns": 0, "schedule": meta,
        "schedule_path": "", "speed": 1.0, "loops": 1, "planned_ops": 200, "intended_rate_per_sec": 1000.0, "target": [],
        "connections": [{"role": "publish", "server": ""}, {"role": "answers", "server": ""}],
        "granted": {"sched_fifo": false, "timer_slack_ns": 1}, "host": {"cores": 1, "memory_bytes": 1, "kernel": ""},
    })
    .to_string()
}

fn workloads() -> Vec<Vec<u8>> {
    let presets = fixtures::PRESETS.iter().map(fixtures::Preset::source);
    let sensors = include_str!("../../examples/sensors.toml").to_owned();
    presets.chain([sensors]).map(String::into_bytes).collect()
}

fn lines() -> Vec<Vec<u8>> {
    let lines = [
        "send/reply p95 < 100ms",
        "send/broadcast p99.9 <= 1.5s every 10s",
        "errors < 0.1%",
        "errors[not_subscribed] == 0 every 1m",
        "missing == 0",
        "send/reply service p50 < 5ms",
        "backlog growth < 100",
        "answered > 0",
    ];
    lines.map(|line| line.as_bytes().to_vec()).to_vec()
}

fn recordings() -> Vec<Vec<u8>> {
    let all = [
        "1 abc 1782896400000000000 0\nPOST /v1/x?a=b HTTP/1.1\r\nHost: api.local\r\nAuthorization: Bearer abcdefgh\r\n\r\nhi\n🐵🙈🙉\n2 abc 1 2\nHTTP/1.1 200 OK\r\n\r\n\n🐵🙈🙉\n",
        r#"{"log":{"entries":[{"startedDateTime":"2026-07-01T09:00:00Z","request":{"method":"GET","url":"http://h/p","headers":[{"name":"A","value":"b"}],"postData":{"text":"x"}}}]}}"#,
        "{\"method\":\"PUT\",\"url\":\"http://h/2\",\"body\":\"aGk=\",\"header\":{\"A\":[\"b\"]}}\n",
        "{\"ts\":1782896401000,\"s\":\"a.b\",\"d\":{\"id\":\"018f6f0e-5b7a-7c31-9d52-0c4f1b2a9e77\",\"password\":\"x\"}}\n{\"ts\":\"2026-07-01T09:00:00Z\",\"s\":\"a\",\"d\":1}\n",
        "t,s,p\n1782896400.5,a.b,\"Zk3Qp0aVb81LmNcT7xYu, ann@example.org\"\n",
        "key = \"env:K\"\ntext = [\"/content\"]\npseudonym = [\"token:2\"]\n",
        "time = \"t\"\nsubject = \"s\"\nheaders = { K = \"p\" }\n",
    ];
    // The beginning of a conversation as tcpdump saw it.
    let packets = &include_bytes!("../../cli/tests/samples/chat.pcap")[..6_000];
    all.iter().map(|text| text.as_bytes()).chain([packets]).map(<[u8]>::to_vec).collect()
}
