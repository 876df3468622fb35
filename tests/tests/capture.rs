//! Live traffic becomes a schedule that says the same again.

use capture::nats::{BYTES_WAITING, Control, Options as Listen, capture};
use capture::{Folder, Policy, Rules, Session};
use fixtures::{Overrides, preset};
use harness::{World, series};
use schedule::{Operation, Reader};
use standin::Config;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SEC: i64 = 1_000_000_000;

fn read(path: &Path) -> Vec<Operation> {
    let batches = Reader::open(path).unwrap().batches().unwrap();
    batches.flat_map(|batch| batch.unwrap().rows().map(|row| row.to_operation()).collect::<Vec<_>>()).collect()
}

fn rules() -> Rules {
    let workload = preset("realistic").unwrap();
    let streams = workload.streams.iter().map(|s| workload.expand(s)).collect();
    let actions = vec![("send".to_owned(), "chat.user.*.room.*.*.msg.send".to_owned())];
    Rules { answers: workload.answers, actions, session: Session::Token(2), streams, timeout_ns: 5 * SEC, ids: Vec::new() }
}

/// Replays a schedule while a capture listens; the summary of the run, and the schedule that was captured.
fn overheard(world: &World, path: &Path, name: &str) -> (analyze::Summary, PathBuf) {
    // What clients send and get; not what services ask of each other.
    let subjects = ["chat.user.*.room.>", "chat.user.*.response.>", "chat.user.*.event.room", "chat.room.*.event"];
    overheard_on(world, path, name, &subjects, rules())
}

fn overheard_on(world: &World, path: &Path, name: &str, subjects: &[&str], rules: Rules) -> (analyze::Summary, PathBuf) {
    let output = world.path(&format!("{name}.parquet"));
    let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
    let options = Listen {
        nats: world.nats(),
        subjects,
        duration: None,
        max_messages: None,
        redact: Some(Policy::default()),
        waiting_bytes: BYTES_WAITING,
    };
    let control = Control::default();
    let listening = {
        let (control, output, options) = (control.clone(), output.clone(), options.clone());
        std::thread::spawn(move || capture(&options, &rules, "heard", &output, &control).unwrap())
    };
    control.wait_ready();
    let (_, summary) = world.run(&world.options(path, name));
    control.stop();
    let composed = listening.join().unwrap();
    assert_eq!(control.heard().1, 0, "nothing is dropped");
    assert!(!Folder::beside(&output).exists(), "only the schedule is left");
    assert_eq!(composed.meta.losses.unwrap()["dropped"], 0);
    (summary, output)
}

/// Payloads by session in order, with what is fresh at every replay blanked out.
fn said(ops: &[Operation]) -> BTreeMap<String, Vec<String>> {
    let mut by_session: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for op in ops {
        let mut payload = op.payload.clone();
        for slot in op.slots.iter().filter(|slot| slot.part == schedule::Part::Payload) {
            payload[slot.offset as usize..slot.offset as usize + usize::from(slot.width)].fill(b'#');
        }
        let account = op.target.split('.').nth(2).unwrap().to_owned();
        by_session.entry(account).or_default().push(format!("{} {}", op.target, String::from_utf8(payload).unwrap()));
    }
    by_session
}

#[test]
fn a_capture_replayed_says_the_same_and_is_answered() {
    let world = World::new();
    let overrides = Overrides { rate_per_sec: Some(200.0), duration_ns: Some(4 * SEC), ..Overrides::default() };
    let mut workload = preset("realistic").unwrap().with(&overrides).unwrap();
    workload.actions.iter_mut().filter_map(|a| a.refer.as_mut()).for_each(|refer| refer.older_ns = SEC);
    let (path, meta) = world.compile_workload(&workload);
    let services = world.standin(&meta, Config::default());
    let (first, heard) = overheard(&world, &path, "first");
    let (second, heard_again) = overheard(&world, &heard, "second");
    services.stop();
    let (original, once, twice) = (read(&path), read(&heard), read(&heard_again));
    assert_eq!((once.len(), twice.len()), (original.len(), original.len()));
    assert_eq!(said(&once), said(&original));
    assert_eq!(said(&twice), said(&once));
    // How exactly it was timed is the machine's business, and the bench's; what and in which order is not.
    let limits = analyze::Limits { gap_ns: SEC, drift_ns: SEC };
    for (original, copy) in [(&path, &heard), (&heard, &heard_again), (&path, &world.path("first"))] {
        let found = analyze::fidelity(original, copy, limits).unwrap();
        assert!(found.is_faithful(), "{}", found.text());
        assert!(found.chart().svg().unwrap().contains("Offset of the copy"));
    }
    let error = analyze::fidelity(&path, &world.path("second"), limits).unwrap_err().to_string();
    assert!(error.contains("is no run of"), "{error}");
    // Every reply to an earlier message refers to the replayed one.
    let refers = |ops: &[Operation]| (0i64..).zip(ops).filter(|(n, op)| op.slots.iter().any(|slot| slot.op < *n)).count();
    assert!(refers(&original) > 5 && refers(&once) == refers(&original), "{} of {}", refers(&once), refers(&original));
    for summary in [&first, &second] {
        let sent: u64 = summary.series.iter().filter(|s| s.name.ends_with("/reply")).map(|s| s.ok + s.late).sum();
        assert_eq!(sent, 800, "{:?}", summary.evidence.first_errors);
        assert!(summary.series.iter().all(|s| s.errors.is_empty() && s.duplicates == 0), "{:?}", summary.verdict);
    }
    // Who follows a thread by the time of a reply is the services' race; all else is fanned out again as it was.
    let fanned = |summary: &analyze::Summary| {
        let of =
            |count: fn(&analyze::Series) -> u64| summary.series.iter().filter(|s| s.name.ends_with("/broadcast")).map(count).sum::<u64>();
        (of(|s| s.count), of(|s| s.missing))
    };
    let ((copies, missing), (copies_again, missing_again)) = (fanned(&first), fanned(&second));
    assert!(missing == 0 && missing_again * 50 < copies, "{missing_again} of {copies}");
    assert!(copies_again + missing_again >= copies - copies / 50, "{copies_again} and not {copies}");
}

#[test]
fn states_that_carry_no_id_are_found_again_by_their_fields() {
    let world = World::new();
    let overrides = Overrides { users: Some(40), duration_ns: Some(4 * SEC), ..Overrides::default() };
    let mut workload = preset("presence-capacity").unwrap().with(&overrides).unwrap();
    workload.life.as_mut().unwrap().within_ns = SEC;
    let (path, _) = world.compile_workload(&workload);
    let rules = Rules { answers: workload.answers.clone(), session: Session::Token(2), timeout_ns: 2 * SEC, ..Rules::default() };
    let heard_on = ["chat.user.*.event.presence.>", "chat.user.presence.state.*"];
    let replayed = |path: &Path, name: &str| {
        let directory = standin::Directory::from_chat(fixtures::Population::build(&workload, 42, Path::new(".")).unwrap().chat().unwrap());
        let services = world.standin_with(directory, Config::default());
        let heard = overheard_on(&world, path, name, &heard_on, rules.clone());
        services.stop();
        heard
    };
    let (first, heard) = replayed(&path, "once");
    let keys = |path: &Path| read(path).into_iter().filter(|op| !op.expect.is_empty()).map(|op| (op.target, op.key)).collect::<Vec<_>>();
    assert_eq!(keys(&heard), keys(&path), "hello and bye, each with its account and status");
    let (second, heard_again) = replayed(&heard, "again");
    assert_eq!(keys(&heard_again), keys(&path));
    for summary in [&first, &second] {
        let states: Vec<_> =
            summary.series.iter().filter(|s| s.name.ends_with("/state") && s.count > 0).map(|s| (s.ok, s.missing)).collect();
        assert_eq!(states, [(40, 0), (40, 0)], "{:?}", summary.series);
    }
}

#[test]
fn what_is_not_written_down_is_counted_to_the_last_message() {
    const PUBLISHED: u64 = 100_000;
    let world = World::new();
    let output = world.path("flood.parquet");
    let subjects = vec!["flood".to_owned()];
    // Next to nothing may wait, so that much is dropped.
    let options =
        Listen { nats: world.nats(), subjects, duration: None, max_messages: Some(PUBLISHED), redact: None, waiting_bytes: 20_000 };
    let control = Control::default();
    let listening = {
        let (control, output) = (control.clone(), output.clone());
        std::thread::spawn(move || capture(&options, &Rules::default(), "flood", &output, &control).unwrap())
    };
    control.wait_ready();
    world.runtime.block_on(async {
        let client = replay::control::connect(&world.nats()).await.unwrap();
        for n in 0..PUBLISHED {
            client.publish("flood", format!("{{\"n\":{n}}}").into()).await.unwrap();
        }
        client.flush().await.unwrap();
    });
    let meta = listening.join().unwrap().meta;
    let losses = meta.losses.unwrap();
    let (kept, dropped) = (losses["messages"].as_u64().unwrap(), losses["dropped"].as_u64().unwrap());
    assert!(dropped > 0, "nothing was dropped");
    assert_eq!((kept, kept + dropped), (meta.rows as u64, PUBLISHED));
}

#[test]
fn requests_are_paired_with_what_came_to_their_inboxes() {
    let world = World::new();
    let (path, _) = world.compile_workload(&harness::echo_workload(100, 2));
    let echo = world.echo();
    let output = world.path("asked.parquet");
    let subjects = ["echo.>", "_INBOX.>"].map(str::to_owned).to_vec();
    let options =
        Listen { nats: world.nats(), subjects, duration: None, max_messages: Some(400), redact: None, waiting_bytes: BYTES_WAITING };
    let control = Control::default();
    let listening = {
        let (control, output) = (control.clone(), output.clone());
        let rules = Rules { timeout_ns: SEC, ..Rules::default() };
        std::thread::spawn(move || capture(&options, &rules, "asked", &output, &control).unwrap())
    };
    control.wait_ready();
    world.run(&world.options(&path, "asking"));
    let composed = listening.join().unwrap();
    // The probe of the connection is heard too, and is nobody's answer.
    assert!(composed.answers >= 199 && composed.meta.rows == 200, "{composed:?}");
    let (_, again) = world.run(&world.options(&output, "again"));
    drop(echo);
    assert!(series(&again, "ask/reply").ok >= 199, "{:?}", again.series);
}

#[test]
fn planted_secrets_are_nowhere_in_the_file() {
    let world = World::new();
    let output = world.path("secrets.parquet");
    let policy = "key = \"env:K\"\ntext = [\"/content\"]\npseudonym = [\"token:1\", \"/who\"]\ndrop = [\"/extra\"]";
    let policy = Policy::parse(policy, |_| Some("planted-key".into())).unwrap();
    let subjects = vec!["app.>".to_owned()];
    let options =
        Listen { nats: world.nats(), subjects, duration: None, max_messages: Some(3), redact: Some(policy), waiting_bytes: BYTES_WAITING };
    let control = Control::default();
    let listening = {
        let (control, output) = (control.clone(), output.clone());
        let rules = Rules { timeout_ns: SEC, ..Rules::default() };
        std::thread::spawn(move || capture(&options, &rules, "secrets", &output, &control).unwrap())
    };
    control.wait_ready();
    world.runtime.block_on(async {
        let client = replay::control::connect(&world.nats()).await.unwrap();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Authorization", "Bearer planted-bearer");
        headers.insert("X-Session-Token", "planted-session");
        let body = r#"{"who":"plantedname","content":"planted words","password":"planted-pass","mail":"planted@mail.org","extra":"planted-extra"}"#;
        client.publish_with_headers("app.plantedname.send", headers, body.into()).await.unwrap();
        client.publish("app.other.send", "no json, but planted@mail.org and Bearer planted-bearer".into()).await.unwrap();
        client.publish("app.other.send", r#"{"list":[{"api_key":"planted-key"}]}"#.into()).await.unwrap();
        client.flush().await.unwrap();
    });
    let composed = listening.join().unwrap();
    assert_eq!(composed.meta.rows, 3);
    let mut bytes = serde_json::to_string(Reader::open(&output).unwrap().meta()).unwrap();
    read(&output).iter().for_each(|op| bytes += &format!("{op:?} {}", String::from_utf8_lossy(&op.payload)));
    assert!(!bytes.contains("planted"), "{bytes}");
    let raw = std::fs::read(&output).unwrap();
    assert!(!raw.windows(7).any(|w| w == b"planted"));
    assert_eq!(composed.meta.losses.unwrap()["redacted"]["emails"], 2);
}

#[test]
fn a_stream_becomes_a_schedule_with_its_own_times() {
    let world = World::new();
    let (path, meta) = world.compile("small", 100.0, 2 * SEC);
    let services = world.standin(&meta, Config::default());
    world.run(&world.options(&path, "stored"));
    let output = world.path("stream.parquet");
    let folder = world.runtime.block_on(async {
        let client = replay::control::connect(&world.nats()).await.unwrap();
        let options = capture::jetstream::Options { stream: "MESSAGES_site-local".into(), from_sequence: Some(11), ..Default::default() };
        capture::jetstream::read(&client, &options, &Folder::beside(&output)).await.unwrap()
    });
    let composed = capture::finish(&folder, &rules(), "stream", &output).unwrap();
    assert_eq!(composed.meta.rows, 190);
    let (was, is) = (read(&path), read(&output));
    assert_eq!(said(&is), said(&was[10..]));
    let (_, again) = world.run(&world.options(&output, "again"));
    services.stop();
    // It holds no answers, so none are expected; but the target took every message, which a replay with ids of before it would not.
    assert_eq!((again.run.sent, again.evidence.foreign), (190, 0));
}

#[test]
fn what_is_cut_off_is_finished_from_its_segments() {
    let world = World::new();
    let (path, meta) = world.compile("small", 200.0, 3 * SEC);
    let services = world.standin(&meta, Config::default());
    let output = world.path("cut.parquet");
    let dir = Folder::beside(&output);
    let options = Listen {
        nats: world.nats(),
        subjects: vec!["chat.user.>".into()],
        duration: None,
        max_messages: None,
        redact: Some(Policy::default()),
        waiting_bytes: BYTES_WAITING,
    };
    let control = Control::default();
    // A thread that is never joined: what it leaves is what a killed process leaves.
    let (asked, folder) = (control.clone(), dir.clone());
    std::thread::spawn(move || capture::nats::listen(&options, &folder, &asked));
    control.wait_ready();
    world.run(&world.options(&path, "cut"));
    services.stop();
    let left = world.path("left.parquet.capture");
    std::fs::create_dir(&left).unwrap();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, left.join(path.file_name().unwrap())).unwrap();
    }
    let folder = Folder::open(&left).unwrap();
    assert!(folder.ledger().cut_off);
    let composed = capture::finish(&folder, &rules(), "left", &world.path("left.parquet")).unwrap();
    // The drain of the replay took longer than a flush.
    assert!(composed.meta.rows > 400, "{}", composed.meta.rows);
    assert_eq!(composed.meta.losses.as_ref().unwrap()["cut_off"], true);
    let error = Folder::create(&dir, &[], "", 0).err().unwrap().to_string();
    assert!(error.contains("is a capture that was not finished"), "{error}");
    control.stop();
}
