//! Gated ops against a real server: sent when the answer comes that they wait for, with what they take from it, or logged
//! with the reason why not.

use futures::StreamExt;
use harness::{World, echo_workload, series};
use replay::TempoChoice;
use runlog::{Reply, Sent, chunks};
use schedule::{Bind, Convert, Expect, Gate, Operation, Part, Slot, SlotKind, Tempo, Writer};
use std::path::{Path, PathBuf};

const MS: i64 = 1_000_000;

fn ask(at_ns: i64, target: &str, payload: &str) -> Operation {
    let expect = vec![Expect { answer: 0, count: Some(1) }];
    Operation { at_ns, target: target.into(), payload: payload.into(), expect, ..Operation::default() }
}

/// Waits for the reply to `of`, and takes the `?` of its payload from there.
fn page(of: i64, delay_ns: i64, mut op: Operation, pointer: &str, convert: Convert) -> Operation {
    op.gate = Some(Gate { op: of, answer: 0, delay_ns, timeout_ns: 500 * MS });
    let offset = op.payload.iter().position(|b| *b == b'?').unwrap() as u32;
    op.slots.push(Slot { part: Part::Payload, offset, width: 1, kind: SlotKind::Fresh, op: of, ordinal: 0 });
    op.binds.push(Bind { slot: 0, op: of, answer: 0, pointer: pointer.into(), convert });
    op
}

fn opener(op: Operation) -> Operation {
    Operation { opens: 1, ..op }
}

/// The echo answers with what it was asked, so that each page brings the cursor of the next.
fn operations() -> Vec<Operation> {
    vec![
        opener(ask(0, "echo.ask", r#"{"list":[{"at":"a"},{"at":"b\"c"}],"next":null}"#)),
        opener(page(0, 200 * MS, ask(0, "echo.ask", r#"{"cursor":?,"next":null}"#), "/list/-1/at", Convert::JsonString)),
        opener(page(1, 0, ask(0, "echo.ask", r#"{"cursor":"?"}"#), "/next", Convert::Raw)),
        page(2, 0, ask(0, "echo.ask", r#"{"cursor":"?"}"#), "/cursor", Convert::Raw),
        opener(ask(10 * MS, "nobody.there", "{}")),
        page(4, 0, ask(20 * MS, "echo.ask", r#"{"x":"?"}"#), "/x", Convert::Raw),
        opener(ask(30 * MS, "mute.there", "{}")),
        page(6, 0, ask(40 * MS, "echo.ask", r#"{"x":"?"}"#), "/x", Convert::Raw),
        // Its answer is long in when its own time comes.
        opener(ask(50 * MS, "echo.ask", r#"{"x":7}"#)),
        page(8, 0, ask(1_500 * MS, "echo.ask", r#"{"x":?}"#), "/x", Convert::Raw),
    ]
}

fn write(world: &World) -> PathBuf {
    let workload = echo_workload(10, 2);
    let population = fixtures::Population::build(&workload, 1, Path::new(".")).unwrap();
    let path = world.path("gated.parquet");
    let mut writer = Writer::create(&path).unwrap();
    for op in operations() {
        writer.push(&op).unwrap();
    }
    writer.finish(fixtures::effective_meta(&workload, &population), 2_000 * MS).unwrap();
    path
}

/// Each op: intended, outcome, slip; and when its reply was received.
fn log(dir: &Path) -> Vec<(Sent, Option<i64>)> {
    let mut sends: Vec<Sent> = Vec::new();
    for columns in chunks::<Sent>(dir).unwrap().iter().flat_map(|c| c.read::<Sent>().unwrap()) {
        sends.extend((0..columns.op.values().len()).map(|i| columns.row(i)));
    }
    let mut received = std::collections::BTreeMap::new();
    for columns in chunks::<Reply>(dir).unwrap().iter().flat_map(|c| c.read::<Reply>().unwrap()) {
        received.extend((0..columns.op.values().len()).map(|i| (columns.op.value(i), columns.received_ns.value(i))));
    }
    sends.sort_by_key(|sent| sent.op);
    sends.into_iter().map(|sent| (sent.op, sent)).map(|(op, sent)| (sent, received.get(&op).copied())).collect()
}

#[test]
fn gates_open_by_answers_and_fail_with_reasons() {
    let world = World::new();
    let _echo = world.echo();
    let (mut asked, _mute) = world.runtime.block_on(async {
        let client = replay::control::connect(&world.nats()).await.unwrap();
        // Listens and says nothing, so that the server does not say that nobody is there.
        let mute = client.subscribe("mute.*").await.unwrap();
        let asked = client.subscribe("echo.*").await.unwrap();
        client.flush().await.unwrap();
        (asked, mute)
    });
    let path = write(&world);
    let mut options = world.options(&path, "gated");
    options.tempo = TempoChoice::Tempo(Tempo::parse_speed("2x").unwrap());
    let (report, summary) = world.run(&options);
    assert_eq!(report.dropped, 0);

    let log = log(&options.run_dir);
    let outcomes: Vec<&str> = log.iter().map(|(sent, _)| runlog::Outcome::name(sent.outcome)).collect();
    // To op 4 the server says that nobody is there, op 6 is heard by someone mute: two ways not to answer.
    let expected = ["sent", "sent", "bind_failed", "gate_failed", "sent", "gate_failed", "sent", "gate_failed", "sent", "sent"];
    assert_eq!(outcomes, expected);
    // Due a delay after the answer, and the delay passes as fast as the schedule; what is longer in is due at its own time.
    let (first, second) = (&log[0], &log[1]);
    assert_eq!(second.0.intended_ns, first.1.unwrap() + 100 * MS);
    assert_eq!(second.0.slip_ns, Some(second.0.intended_ns));
    assert_eq!((log[9].0.intended_ns, log[9].0.slip_ns), (750 * MS, Some(0)));
    assert_eq!((first.0.slip_ns, first.0.intended_ns), (None, 0));

    let payloads = world.runtime.block_on(async {
        let mut payloads = Vec::new();
        while payloads.len() < 4 {
            payloads.push(String::from_utf8(asked.next().await.unwrap().payload.to_vec()).unwrap());
        }
        payloads
    });
    assert!(payloads.contains(&r#"{"cursor":"b\"c","next":null}"#.to_owned()), "{payloads:?}");
    assert!(payloads.iter().filter(|p| *p == r#"{"x":7}"#).count() == 2, "{payloads:?}");

    let s = series(&summary, "ask/reply");
    assert!(s.closed_loop);
    assert_eq!((s.ok, s.missing, s.errors.get("no_responders")), (4, 1, Some(&1)), "{s:?}");
    assert_eq!(summary.run.unsent, [("bind_failed".to_owned(), 1), ("gate_failed".to_owned(), 3)].into());
    assert_eq!((summary.gates.len(), summary.gates[0].ops, summary.gates[0].released), (1, 6, 2));
    let text = analyze::render::text(&summary);
    assert!(text.contains("closed loop: 6 ops of ask waited for an answer, 2 were released"), "{text}");
}
