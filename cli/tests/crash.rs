//! `kill -9` and a full disk: what was recorded opens, and is analysed as the part of a run that it is.

mod common;

use common::retempo;
use harness::{World, echo_workload, series};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: u64 = 20;
/// Threads that crash runs at the same time.
const AT_ONCE: u64 = 2;

/// A process that is killed when the test gives up on it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rows<T: runlog::Table>(run: &Path, len: impl Fn(&T::Columns) -> usize) -> usize {
    let chunks = runlog::chunks::<T>(run).unwrap();
    chunks.iter().flat_map(|chunk| chunk.read::<T>().unwrap()).map(|columns| len(&columns)).sum()
}

/// Kills a replay `after` its manifest appeared, and checks what is left.
fn crash(world: &World, schedule: &Path, run: &Path, after: Duration) {
    let mut command = retempo(world.dir.path());
    command.args(["replay", "-q", "-s", world.server.url(), "-o"]).arg(run).arg(schedule).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = Running(command.spawn().unwrap());
    while !run.join(runlog::MANIFEST).exists() {
        assert!(child.0.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::yield_now();
    }
    let began = Instant::now();
    // How long it lives is what is tried here, not a wait for something.
    std::thread::sleep(after);
    child.0.kill().unwrap();
    let lived = began.elapsed();
    child.0.wait().unwrap();

    let summary = analyze::analyze(run, &analyze::Question::default()).unwrap();
    assert_eq!(summary.run.state, "partial");
    // The anchor lies 0.3 s behind the manifest; the last second may be lost, and a moment of a busy machine.
    let recorded = summary.run.observed_ns as f64 / 1e9;
    assert!(recorded >= lived.as_secs_f64() - 0.3 - 1.0 - 0.5, "{recorded} s of {lived:?} are there");
    // The analysis is that of the log's prefix: every row of it, and nothing else.
    let (sends, replies) = (rows::<runlog::Sent>(run, |c| c.op.len()), rows::<runlog::Reply>(run, |c| c.op.len()));
    assert_eq!(summary.run.ops, sends as u64);
    if sends > 0 {
        let s = series(&summary, "ask/reply");
        assert_eq!((s.ok + s.late + s.errors.values().sum::<u64>() + summary.evidence.orphans, s.missing), (replies as u64, 0), "{s:?}");
        assert_eq!(s.count + s.unresolved, sends as u64);
    }
}

#[test]
fn killed_at_any_moment_it_opens_and_lacks_at_most_the_last_second() {
    let world = World::new();
    let _echo = world.echo();
    let (schedule, _) = world.compile_workload(&echo_workload(2_000, 10));
    let mut rng = fixtures::Rng::new(42, "crash");
    let moments: Vec<Duration> = (0..RUNS).map(|_| Duration::from_millis(rng.within(0, 2_500))).collect();
    std::thread::scope(|scope| {
        for first in 0..AT_ONCE {
            let (world, schedule, moments) = (&world, &schedule, &moments);
            scope.spawn(move || {
                for i in (first..RUNS).step_by(AT_ONCE as usize) {
                    crash(world, schedule, &world.path(&format!("run-{i}")), moments[i as usize]);
                }
            });
        }
    });
}

/// A file system of one MiB, in a mount namespace of its own.
#[test]
fn a_disk_that_is_full_ends_the_run_with_a_sentence_and_a_log() {
    let world = World::new();
    let _echo = world.echo();
    let (schedule, _) = world.compile_workload(&echo_workload(20_000, 20));
    let small = world.path("small");
    std::fs::create_dir(&small).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=1m none {small} && {binary} replay {schedule} -q -s {url} -o {small}/run; echo $? > {dir}/code; cp -r {small}/run {dir}/run",
        small = small.display(),
        binary = env!("CARGO_BIN_EXE_retempo"),
        schedule = schedule.display(),
        url = world.server.url(),
        dir = world.dir.path().display(),
    );
    let began = Instant::now();
    let out = Command::new("unshare").args(["--map-root-user", "--mount", "sh", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    assert_eq!(std::fs::read_to_string(world.path("code")).unwrap().trim(), "1", "{said}");
    assert!(said.contains("cannot write the run folder") && said.contains("space"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(15), "it stopped sending when it could no longer write");
    let summary = analyze::analyze(&world.path("run"), &analyze::Question::default()).unwrap();
    assert_eq!(summary.run.state, "partial");
    assert!(summary.run.ops > 0 && series(&summary, "ask/reply").missing == 0, "{:?}", summary.series);
}
