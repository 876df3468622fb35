//! Every preset on real servers: compiled, replayed against the stand-in, analysed; then with faults, each of which shows where
//! it was injected.

use fixtures::mongo::Store;
use fixtures::{Overrides, PRESETS, Workload, preset};
use harness::{Mongod, World, injected, series};
use runlog::Table;
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
            _ if name.starts_with("presence") => Some(60),
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

/// Those whose whole course takes minutes are shortened by hand elsewhere.
fn tested() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|preset| preset.name).filter(|name| !name.starts_with("presence-storm") && !name.ends_with("large"))
}

/// Mostly they wait, so a few may do it together.
fn together<T: Sync>(all: &[T], check: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        for part in all.chunks(all.len().div_ceil(4)) {
            let check = &check;
            scope.spawn(move || part.iter().for_each(check));
        }
    });
}

#[test]
fn every_preset_is_answered() {
    let mongod = Mongod::new();
    together(&tested().collect::<Vec<_>>(), |name| {
        let world = World::new();
        let (path, meta) = world.compile_workload(&smaller(name));
        let population = fixtures::Population::of_schedule(&meta).unwrap();
        let stored = world.runtime.block_on(async {
            let store = Store::connect(&format!("{}/{name}", mongod.uri().trim_end_matches('/'))).await.unwrap();
            store.seed(&population, name, "site-local", 1_800_000_000_000, &mut |_| {}).await.unwrap().expect("it was not there");
            store.load("site-local").await.unwrap()
        });
        let directory = Directory::from_store(&stored).said_before(population.chat().unwrap());
        let services = world.standin_with(directory, Config { room_size_max: 6_000, ..Config::default() });
        let (report, summary) = world.run(&world.options(&path, "run"));
        services.stop();
        assert_eq!((report.dropped, summary.run.sent), (0, meta.rows as u64), "{name}: {:?}", summary.run.unsent);
        for s in summary.series.iter().filter(|s| !s.name.contains(':')) {
            let bad = (s.missing, s.duplicates, s.unresolved, &s.errors);
            assert_eq!(bad, (0, 0, 0, &std::collections::BTreeMap::new()), "{name}: {} {:?}", s.name, summary.evidence.first_errors);
            assert!(s.ok > 0 || s.late > 0, "{name}: {}", s.name);
        }
        assert!(summary.evidence.unexpected.is_empty() || !name.starts_with("presence"), "{name}: {:?}", summary.evidence.unexpected);
    });
}

#[test]
fn users_receive_by_connections_of_their_own() {
    let workload = smaller("daily-light");
    let world = World::new();
    let (path, meta) = world.compile_workload(&workload);
    let population = fixtures::Population::of_schedule(&meta).unwrap();
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

#[test]
fn a_fault_shows_where_it_was_injected() {
    let all = [
        ("members-small", "drop@room-service=20%", "drop", "member_add/reply"),
        ("members-small", "error_reply@room-service=20%:conflict", "error_reply", "member_add/reply"),
        ("members-small", "missing_broadcast@room-worker=20%", "missing_broadcast", "member_add/member_event"),
        ("members-small", "duplicate_broadcast@room-worker=20%", "duplicate_broadcast", "member_add/member_event"),
        ("room-read-small", "drop@room-service=5%", "drop", "mark_read/reply"),
        ("mute", "late_reply@room-service=5%:6s", "late_reply", "mute_toggle/reply"),
        ("room-list", "error_reply@user-service=5%:unavailable", "error_reply", "refresh_room_list/reply"),
        ("read-receipt-small", "error_reply@room-service=5%:internal", "error_reply", "read_receipt/reply"),
        ("room-create", "drop@room-service=5%", "drop", "room_create/reply"),
        ("presence-capacity", "missing_broadcast@presence-service=30%", "missing_broadcast", "hello/state"),
        ("botroom-small", "missing_broadcast=5%", "missing_broadcast", "send/broadcast"),
        ("thread-small", "error_reply=5%:forbidden", "error_reply", "thread_reply/reply"),
        ("history-small", "error_reply@history-service=5%:unavailable", "error_reply", ""),
        ("history-small", "late_reply@history-service=5%:6s", "late_reply", ""),
        ("daily-light", "error_reply@user-service=20%:internal", "error_reply", "refresh_room_list/reply"),
    ];
    together(&all, |&(name, fault, kind, answer)| {
        let world = World::new();
        let (path, meta) = world.compile_workload(&smaller(name));
        let services = world.standin(&meta, Config { faults: vec![fault.parse().unwrap()], ..Config::default() });
        let (_, summary) = world.run(&world.options(&path, "run"));
        let n = injected(&services.stop(), kind);
        assert!(n > 0, "{name} {fault}: nothing was injected");
        if answer.is_empty() {
            // Its ops have several names, and each has its bucket.
            let buckets = || summary.buckets.iter().map(|b| &b.series);
            let shown: u64 = match kind {
                "error_reply" => buckets().map(|s| s.errors.get("unavailable").copied().unwrap_or(0)).sum(),
                _ => buckets().map(|s| s.late + s.missing).sum(),
            };
            return assert_eq!(shown, n, "{name} {fault}");
        }
        let s = series(&summary, answer);
        let shown = match kind {
            "error_reply" => s.errors.values().sum(),
            // Those that come after the drain are not seen at all.
            "late_reply" => s.late + s.missing,
            "duplicate_broadcast" => s.duplicates,
            // Other series of the same service lose as much together.
            _ if name.starts_with("presence") => summary.series.iter().filter(|s| s.name.ends_with("/state")).map(|s| s.missing).sum(),
            _ => s.missing,
        };
        assert_eq!(shown, n, "{name} {fault}: {s:?}");
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
    life.states[0].every.values_mut().for_each(|period| period.0 = SEC / 2);
    let world = World::new();
    let (path, meta) = world.compile_workload(&workload);
    let (stale, sweep) = (std::time::Duration::from_secs(2), std::time::Duration::from_millis(200));
    let services = world.standin(&meta, Config { stale, sweep, ..Config::default() });
    let (_, summary) = world.run(&world.options(&path, "run"));
    services.stop();
    assert_eq!(summary.evidence.unexpected["state"], 20, "half of 40 users");
    assert_eq!(series(&summary, "return/state").ok, 20);
    assert_eq!(series(&summary, "hello/state").ok, 40);
    assert_eq!(series(&summary, "bye/state").ok, 40);
    assert_eq!(StageName::PresenceService.durable(), "presence-service");
}
