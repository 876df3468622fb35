//! A generator without CPU: no verdict on the target, unless sound data break a line.

mod common;

use common::{retempo, texts};
use harness::World;
use serde_json::Value;
use standin::{Config, Directory};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const SEC: i64 = 1_000_000_000;

fn ask(world: &World, args: &[&str]) -> (i32, Value) {
    let (code, out, err) = texts(&retempo(world.dir.path()).args(args).output().unwrap());
    (code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {err}")))
}

/// A process that has a core to itself, until it is dropped or half a minute is over.
struct Burner(Child);

impl Burner {
    fn start() -> Burner {
        let mut command = Command::new("timeout");
        command.args(["30", "taskset", "-c", "0", "sh", "-c", "while :; do :; done"]);
        Burner(command.stdout(Stdio::null()).spawn().expect("coreutils and util-linux are there"))
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        // Its child dies with it: `timeout` passes the signal on.
        let _ = rustix::process::kill_process(group, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Replays with next to no CPU, and analyses with all of it.
fn starved(dir: &Path, url: &str, run: &str) {
    let _burners = [Burner::start(), Burner::start(), Burner::start()];
    let mut command = Command::new("taskset");
    command.args(["-c", "0", "nice", "-n", "19"]);
    if rustix::process::geteuid().is_root() {
        // Otherwise real-time priority would beat any burner.
        command.args(["setpriv", "--bounding-set", "-sys_nice", "--inh-caps", "-sys_nice"]);
    }
    command.args([env!("CARGO_BIN_EXE_retempo"), "replay", "small.parquet", "-q", "-s", url, "-o", run]).current_dir(dir);
    assert!(command.output().unwrap().status.success());
}

#[test]
fn a_starved_generator_is_no_verdict_on_the_target_unless_sound_data_break_a_line() {
    let world = World::new();
    let (_, meta) = world.compile("small", 200.0, 3 * SEC);
    let dir = world.dir.path();
    let slo = ["--slo", "send/reply p95 < 50ms", "--slo", "errors < 1%"];
    let services = world.standin(&meta, Config::default());
    starved(dir, world.server.url(), "healthy");
    services.stop();
    let (code, summary) = ask(&world, &[["analyze", "healthy", "--json"].as_slice(), &slo].concat());
    assert_eq!(code, 4, "{}", summary["verdict"]);
    assert!(summary["verdict"]["reasons"].to_string().contains("give"), "it says what helps: {}", summary["verdict"]);

    let directory = Directory::from_chat(fixtures::Population::of_schedule(&meta).unwrap().chat().unwrap());
    let failing = Config { faults: vec!["error_reply=50%:unavailable".parse().unwrap()], ..Config::default() };
    let services = world.standin_with(directory, failing);
    starved(dir, world.server.url(), "failing");
    services.stop();
    let (code, summary) = ask(&world, &[["analyze", "failing", "--json"].as_slice(), &slo].concat());
    assert_eq!(code, 3, "{}", summary["verdict"]);
    assert!(summary["verdict"]["reasons"][0].as_str().unwrap().starts_with("errors < 1%"), "{}", summary["verdict"]);
}
