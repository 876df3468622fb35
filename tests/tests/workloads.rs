//! Every preset on real servers: compiled, replayed against the stand-in, analysed; then with faults, each of which shows where
//! it was injected.

use fixtures::mongo::Store;
use fixtures::{Overrides, PRESETS, Population, Workload, preset};
use harness::{Mongod, World, injected, series};
use replay::TempoChoice;
use runlog::Table;
use schedule::Tempo;
use standin::StageName::{BroadcastWorker, Gatekeeper, HistoryService, PresenceService, RoomService, RoomWorker, UserService};
use standin::{Config, Directory, StageName};

const SEC: i64 = 1_000_000_000;

/// A preset, small enough for a test.
fn smaller(name: &str) -> Workload {
    let full = preset(name).unwrap();
    let derived = full.life.is_some() || full.arrivals.each_room;
    let overrides = Overrides {
        rate_per_sec: (!derived && !name.starts_with("members")).then_some(150.0),
        duration_ns: (!name.starts_with("presence-storm")).then_some(3 * SEC),
        users: match name {
            _ if name.starts_with("daily") => Some(600),
            _ if name.starts_with("presence") => Some(200),
            _ => None,
        },
        ..Overrides::default()
    };
    let mut small = full.with(&overrides).unwrap();
    if small.arrivals.each_room {
        small.actions.iter_mut().for_each(|action| {
            if let Some(fixtures::PickSpec::Skewed(pick)) = &mut action.pick {
                pick.grow_to = Some(61);
            }
        });
    }
    if name.starts_with("daily") {
        // Three hours of a day in four seconds.
        small.arrivals.compress = Some(300.0);
        small.population.chat.as_mut().unwrap().rooms.retain(|band| band.mean != Some(1_000));
        small = small.with(&Overrides::default()).unwrap();
    }
    small
}

/// Those whose course takes minutes are replayed so many times faster, and their sweeper sweeps as much faster.
fn speed(name: &str) -> u32 {
    if name.starts_with("presence-storm") { 20 } else { 1 }
}

fn tested() -> impl Iterator<Item = &'static str> {
    // Those over HTTP are tested in market.rs and scenarios.rs.
    let over_nats = |name: &&str| preset(name).expect("a preset").active_actions().all(|action| action.transport == "nats");
    let names = PRESETS.iter().map(|preset| preset.name);
    names.filter(over_nats)
}

/// Mostly they wait, so a few may do it together.
fn together<T: Sync>(all: &[T], check: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        while let Some(one) = all.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            check(one);
        }
    };
    std::thread::scope(|scope| (0..6).for_each(|_| drop(scope.spawn(work))));
}

/// What services find once a population was seeded.
fn through_store(world: &World, mongod: &Mongod, name: &str, population: &Population) -> Directory {
    let stored = world.runtime.block_on(async {
        let store = Store::connect(&format!("{}/{name}", mongod.uri().trim_end_matches('/'))).await.unwrap();
        store.seed(population, name, "site-local", 1_800_000_000_000, &mut |_| {}).await.unwrap().expect("it was not there");
        store.load("site-local").await.unwrap()
    });
    Directory::from_store(&stored).said_before(population.chat().unwrap())
}

#[test]
fn every_preset_is_answered() {
    let mongod = Mongod::new();
    together(&tested().collect::<Vec<_>>(), |name| {
        let world = World::new();
        let (workload, speed) = (smaller(name), speed(name));
        let (path, meta) = world.compile_workload(&workload);
        let population = Population::of_schedule(&meta).unwrap();
        let chat = population.chat().unwrap();
        // The largest have millions of threads, and differ in nothing else.
        let directory =
            if name.ends_with("large") { Directory::from_chat(chat) } else { through_store(&world, &mongod, name, &population) };
        let config = Config::of(&workload);
        let config = Config { room_size_max: 6_000, stale: config.stale / speed, sweep: config.sweep / speed, ..config };
        let services = world.standin_with(directory, config);
        let mut options = world.options(&path, "run");
        options.tempo = TempoChoice::Tempo(Tempo::parse_speed(&speed.to_string()).unwrap());
        let (report, summary) = world.run(&options);
        services.stop();
        assert_eq!((report.dropped, summary.run.sent), (0, meta.rows as u64), "{name}: {:?}", summary.run.unsent);
        for s in summary.series.iter().filter(|s| !s.name.contains(':')) {
            let bad = (s.missing, s.duplicates, s.unresolved, &s.errors);
            assert_eq!(bad, (0, 0, 0, &std::collections::BTreeMap::new()), "{name}: {} {:?}", s.name, summary.evidence.first_errors);
            assert!(s.ok > 0 || s.late > 0, "{name}: {}", s.name);
        }
        // In a silent storm a tenth, a quarter, half and all of 200 users are swept.
        let swept = if *name == "presence-storm-silent" { 20 + 50 + 100 + 200 } else { 0 };
        let unexpected = summary.evidence.unexpected.get("state").copied().unwrap_or(0);
        assert!(unexpected == swept || !name.starts_with("presence"), "{name}: {:?}", summary.evidence.unexpected);
    });
}

#[test]
fn users_receive_by_connections_of_their_own() {
    let workload = smaller("daily-light");
    let world = World::new();
    let (path, meta) = world.compile_workload(&workload);
    let population = Population::of_schedule(&meta).unwrap();
    let chat = population.chat().unwrap();
    let (listeners, copies) = fixtures::receivers(&workload, &population, 400, 10).unwrap();
    assert_eq!(listeners.len(), 410);
    let listeners = listeners.into_iter().map(|(name, subjects)| replay::Listener { name, subjects }).collect();
    let services = world.standin(&meta, Config::default());
    let mut options = world.options(&path, "run");
    options.receivers = Some(replay::Receivers { listeners, copies: copies.clone() }.into());
    let (_, summary) = world.run(&options);
    services.stop();
    let sends = |bucket: &str| {
        let of_bucket = summary.buckets.iter().find(|b| b.bucket == bucket && b.series.name == "send/broadcast");
        of_bucket.unwrap().series.clone()
    };
    let reader = schedule::Reader::open(&path).unwrap();
    let send = reader.meta().actions.iter().position(|a| a.name == "send").unwrap() as u16;
    let mut expected = [0, 0];
    for batch in reader.batches().unwrap() {
        for row in batch.unwrap().rows().filter(|row| row.action == send) {
            let room = row.audience.unwrap() as usize;
            expected[usize::from(chat.rooms[room].kind == fixtures::RoomKind::Dm)] += u64::from(copies[room]);
        }
    }
    assert_eq!([sends("channel").ok + sends("channel").late, sends("dm").ok + sends("dm").late], expected);
    assert_eq!((sends("channel").missing, sends("channel").duplicates, sends("dm").missing), (0, 0, 0));
    assert!(expected[0] > 4 * sends("dm").ok, "a channel reaches every member: {expected:?}");
    assert!(summary.series.iter().any(|s| s.name == "send/broadcast:last"));
}

#[test]
fn an_add_is_sent_when_the_room_has_learned_of_the_one_before() {
    let world = World::new();
    let mut workload = smaller("members-capacity");
    workload.actions.iter_mut().for_each(|action| action.bucket = Some("{band room.size 31 61}".into()));
    let (path, meta) = world.compile_workload(&workload);
    // Each add takes a millisecond for each member that the room has.
    let config = Config { per_member: std::time::Duration::from_millis(1), ..Config::default() };
    let services = world.standin(&meta, config);
    let (_, summary) = world.run(&world.options(&path, "run"));
    services.stop();
    assert_eq!(summary.gates[0].released, 5 * 5, "five rooms, six adds each, all but the first gated");
    let rooms = rooms_of(&path);
    let (sent, answered) = (sent(&world), answered(&world));
    for ops in rooms.values() {
        for pair in ops.windows(2) {
            let (before, after) = (answered[&pair[0].1], sent[&pair[1].0]);
            assert!(before <= after, "an add at {after} was sent before the one before was known at {before}");
        }
    }
    let p50 = |bucket: &str| {
        let of = summary.buckets.iter().find(|b| b.bucket == bucket && b.series.name == "member_add/member_event");
        of.unwrap_or_else(|| panic!("{bucket} of {:?}", summary.buckets.iter().map(|b| &b.bucket).collect::<Vec<_>>()))
            .series
            .response
            .p50_ns
            .unwrap()
    };
    // Rooms of 1, 11 and 21, and of 31, 41 and 51.
    let (small, large) = (p50("0-31"), p50("31-61"));
    assert!(small < 31_000_000 && large > 31_000_000, "measured from the gate, at the size that each add met: {small} and {large}");
    assert!(summary.series.iter().all(|s| s.closed_loop));
}

/// Ops of a room in order: number and key.
fn rooms_of(path: &std::path::Path) -> std::collections::BTreeMap<u32, Vec<(i64, i64)>> {
    let mut rooms: std::collections::BTreeMap<u32, Vec<(i64, i64)>> = Default::default();
    for batch in schedule::Reader::open(path).unwrap().batches().unwrap() {
        for row in batch.unwrap().rows() {
            rooms.entry(row.audience.unwrap()).or_default().push((row.op, row.key.unwrap()));
        }
    }
    rooms
}

fn rows<T: Table>(world: &World, mut each: impl FnMut(&T::Columns)) {
    for chunk in runlog::chunks::<T>(&world.path("run")).unwrap() {
        chunk.read::<T>().unwrap().iter().for_each(&mut each);
    }
}

fn sent(world: &World) -> std::collections::HashMap<i64, i64> {
    let mut sent = std::collections::HashMap::new();
    rows::<runlog::Sent>(world, |c| sent.extend((0..c.op.len()).filter_map(|i| Some((c.op.value(i), c.row(i).sent_ns?)))));
    sent
}

fn answered(world: &World) -> std::collections::HashMap<i64, i64> {
    let mut answered = std::collections::HashMap::new();
    rows::<runlog::Keyed>(world, |c| answered.extend((0..c.key.len()).map(|i| (c.key.value(i), c.received_ns.value(i)))));
    answered
}

/// Where faults are injected: a workload, a stage, and the answers that come from it.
const STAGES: [(&str, StageName, &str); 22] = [
    ("realistic", Gatekeeper, "reply"),
    ("realistic", BroadcastWorker, "broadcast"),
    ("thread-small", Gatekeeper, "reply"),
    ("thread-small", BroadcastWorker, "broadcast"),
    ("botroom-small", Gatekeeper, "send/reply"),
    ("botroom-small", BroadcastWorker, "broadcast"),
    ("botroom-small", RoomService, "mark_read/reply"),
    ("members-small", RoomService, "reply"),
    ("members-small", RoomWorker, "member_event"),
    ("members-capacity", RoomService, "reply"),
    ("members-capacity", RoomWorker, "member_event"),
    ("room-create", RoomService, "reply"),
    ("room-read-small", RoomService, "reply"),
    ("read-receipt-small", RoomService, "reply"),
    ("mute", RoomService, "reply"),
    ("room-list", UserService, "reply"),
    ("history-small", HistoryService, "reply"),
    ("daily-light", UserService, "refresh_room_list/reply"),
    ("daily-light", HistoryService, "scroll_history/reply"),
    ("daily-presence", PresenceService, "state"),
    ("presence-sustained", PresenceService, "state"),
    ("presence-capacity", PresenceService, "state"),
];

/// The faults that a stage knows, and the error class or count that shows them.
fn faults(stage: StageName) -> Vec<(&'static str, String)> {
    let at = stage.durable();
    let all = [
        ("drop", format!("drop@{at}=20%")),
        ("error_reply", format!("error_reply@{at}=20%:unavailable")),
        ("late_reply", format!("late_reply@{at}=20%:3s")),
        ("missing_broadcast", format!("missing_broadcast@{at}=20%")),
        ("duplicate_broadcast", format!("duplicate_broadcast@{at}=20%")),
        ("reorder", format!("reorder@{at}=20%:3s")),
        ("stall", format!("stall={at}:0s:2500ms")),
    ];
    let known = |kind: &str| match stage {
        BroadcastWorker | RoomWorker => matches!(kind, "missing_broadcast" | "duplicate_broadcast" | "reorder" | "stall"),
        PresenceService => !kind.contains("reply"),
        _ => matches!(kind, "drop" | "error_reply" | "late_reply" | "stall"),
    };
    all.into_iter().filter(|(kind, _)| known(kind)).collect()
}

#[test]
fn every_kind_of_fault_shows_where_it_was_injected() {
    let all: Vec<_> = STAGES.iter().flat_map(|case| faults(case.1).into_iter().map(move |fault| (case, fault))).collect();
    together(&all, |((name, stage, answer), (kind, fault))| {
        let world = World::new();
        let mut workload = smaller(name);
        workload.actions.iter_mut().for_each(|action| action.timeout_ns = 2 * SEC);
        let (path, meta) = world.compile_workload(&workload);
        let services = world.standin(&meta, Config { faults: vec![fault.parse().unwrap()], ..Config::of(&workload) });
        let (_, summary) = world.run(&world.options(&path, "run"));
        let n = injected(&services.stop(), kind);
        assert!(n > 0, "{name} {fault}: nothing was injected");
        let (ours, others): (Vec<_>, Vec<_>) =
            summary.series.iter().filter(|s| !s.name.contains(':')).partition(|s| format!("/{}", s.name).ends_with(&format!("/{answer}")));
        let sum = |of: &dyn Fn(&analyze::Series) -> u64| ours.iter().map(|s| of(s)).sum::<u64>();
        let shown = match *kind {
            "error_reply" => sum(&|s| s.errors.get("unavailable").copied().unwrap_or(0)),
            "duplicate_broadcast" => sum(&|s| s.duplicates),
            "drop" | "missing_broadcast" => sum(&|s| s.missing),
            // Those that come after the drain are not seen at all.
            _ => sum(&|s| s.late + s.missing),
        };
        let told = format!("{name} {fault}: {n} injected, {shown} shown in {ours:#?}");
        match *kind {
            // Some of those that waited were answered in time.
            "stall" => assert!(shown > 0, "{told}"),
            // What is lost of a user's presence changes what comes after it.
            _ if *stage == PresenceService => assert!(shown > 0, "{told}"),
            // A broadcast to a DM, or to those who follow a thread, is several copies.
            _ if *stage == BroadcastWorker => assert!(shown >= n, "{told}"),
            _ => assert_eq!(shown, n, "{told}"),
        }
        // What others answer does not suffer from late replies, and from broadcasts.
        for s in others.iter().filter(|_| !matches!(*kind, "drop" | "error_reply" | "stall")) {
            let bad = (s.missing, s.late, s.duplicates, &s.errors);
            assert_eq!(bad, (0, 0, 0, &std::collections::BTreeMap::new()), "{name} {fault}: {}", s.name);
        }
    });
}

#[test]
fn pages_that_cannot_be_asked_for_are_logged_as_such() {
    // 100 messages make five pages; the sixth has nothing to begin from.
    let mut workload = smaller("history-small");
    workload.actions.retain(|action| action.name != "history");
    let older = workload.actions.iter_mut().find(|action| action.name == "older_page").unwrap();
    let after = older.after.as_mut().unwrap();
    (after.times, after.delay) = (7, "0s".to_owned().try_into().unwrap());
    let world = World::new();
    let (path, meta) = world.compile_workload(&workload);
    let services = world.standin(&meta, Config::default());
    let (_, summary) = world.run(&world.options(&path, "run"));
    services.stop();
    let scrolls = summary.series.iter().find(|s| s.name == "scroll/reply").unwrap().count;
    // Pages 2 to 5 have messages, the sixth is empty; the seventh cannot be bound, and the eighth waits for it.
    assert_eq!(summary.run.unsent["bind_failed"], scrolls, "{:?}", summary.run.unsent);
    assert_eq!(summary.run.unsent["gate_failed"], scrolls, "{:?}", summary.run.unsent);
    assert_eq!(series(&summary, "older_page/reply").ok, 5 * scrolls);
    // Full pages, and the empty ones that end a history.
    let question = analyze::Question { by_size: true, ..analyze::Question::default() };
    let by_size = analyze::analyze(&world.path("run"), &question).unwrap();
    let of = |bucket: &analyze::Bucket| (bucket.bucket.clone(), bucket.series.name.clone(), bucket.series.ok);
    let sizes: Vec<(String, String, u64)> = by_size.buckets.iter().map(of).collect();
    let empty = sizes.iter().find(|(_, series, ok)| series == "older_page/reply" && *ok == scrolls);
    assert!(empty.is_some_and(|(bucket, ..)| bucket == "8 B to 16 B") && sizes.len() == 3, "{sizes:?}");
}

#[test]
fn a_gate_that_never_opens_ends_its_chain() {
    let mut workload = smaller("members-capacity");
    workload.actions.iter_mut().for_each(|action| action.after.as_mut().unwrap().timeout_ns = Some(SEC / 2));
    let world = World::new();
    let (path, meta) = world.compile_workload(&workload);
    let services = world.standin(&meta, Config { faults: vec!["missing_broadcast@room-worker=30%".parse().unwrap()], ..Config::default() });
    let mut options = world.options(&path, "run");
    options.drain_timeout_ns = Some(2 * SEC);
    let (_, summary) = world.run(&options);
    let n = injected(&services.stop(), "missing_broadcast");
    assert!(n > 0);
    let sent = summary.run.sent;
    assert_eq!(sent + summary.run.unsent["gate_failed"], 30, "{:?}", summary.run);
    assert!(summary.run.unsent["gate_failed"] > 0);
}

#[test]
fn who_vanishes_silently_is_swept_and_that_is_unexpected() {
    let mut workload = preset("presence-storm-silent")
        .unwrap()
        .with(&Overrides { users: Some(40), duration_ns: Some(12 * SEC), ..Overrides::default() })
        .unwrap();
    let life = workload.life.as_mut().unwrap();
    life.within_ns = SEC;
    life.events.truncate(2);
    (life.events[0].at_ns, life.events[1].at_ns) = (2 * SEC, 8 * SEC);
    (life.events[0].share, life.events[1].share) = (0.5, 0.5);
    let sweeper = life.sweeper.as_mut().unwrap();
    (sweeper.stale_ns, sweeper.every_ns) = (2 * SEC, SEC / 5);
    life.states[0].every.values_mut().for_each(|period| period.0 = SEC / 2);
    let world = World::new();
    let (path, meta) = world.compile_workload(&workload);
    let services = world.standin(&meta, Config::of(&workload));
    let (_, summary) = world.run(&world.options(&path, "run"));
    services.stop();
    assert_eq!(summary.evidence.unexpected["state"], 20, "half of 40 users");
    assert_eq!(series(&summary, "return/state").ok, 20);
    assert_eq!(series(&summary, "hello/state").ok, 40);
    assert_eq!(series(&summary, "bye/state").ok, 40);
}

#[test]
fn who_comes_back_before_anybody_noticed_is_refused() {
    let workload = preset("presence-storm-silent").unwrap();
    let world = World::new();
    let mut hasty = workload.clone();
    hasty.life.as_mut().unwrap().events[7].at_ns = 405 * SEC;
    let population = Population::build(&hasty, 42, std::path::Path::new(".")).unwrap();
    let why = fixtures::compile(&hasty, &population, &world.path("hasty.parquet"), &mut |_| {}).unwrap_err().to_string();
    assert!(why.contains("event 8 lets users come back at 405s, when 10,000 who fell silent at 355s are not all taken"), "{why}");
    assert!(why.contains("that is at 500s"), "{why}");
}
