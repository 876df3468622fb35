//! The stack of deploy/, as far as it can be checked without a container engine: the dashboard against a real Prometheus,
//! the compose file by its structure, its commands by running them, the Makefile by its arguments.

mod common;

use common::{retempo, run};
use harness::{Mongod, Prometheus, World, free_port};
use serde_json::Value;
use standin::Config;
use std::path::{Path, PathBuf};
use std::process::Command;

const SEC: i64 = 1_000_000_000;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn yaml(path: &str) -> Value {
    let text = std::fs::read_to_string(deploy().join(path)).unwrap();
    serde_yaml_ng::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn every_panel_of_the_dashboard_shows_something_of_a_running_replay() {
    let world = World::new();
    let (_, meta) = world.compile("small", 200.0, 60 * SEC);
    let services = world.standin(&meta, Config { faults: vec!["error_reply=10%:unavailable".parse().unwrap()], ..Config::default() });
    let address = format!("127.0.0.1:{}", free_port());
    let mut replay = retempo(world.dir.path());
    let mut replay = replay
        .args(["replay", "small.parquet", "-q", "-o", "live", "-s", world.server.url(), "--metrics-addr", &address])
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let prometheus = Prometheus::scraping(&address);
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(deploy().join("grafana/dashboards/retempo.json")).unwrap()).unwrap();
    let mut expressions: Vec<&str> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(expressions.len() > 12, "{expressions:?}");
    // A rate needs two scrapes; the replay lasts longer than any machine takes for them.
    while !expressions.is_empty() && replay.try_wait().unwrap().is_none() {
        expressions.retain(|expression| prometheus.query(expression).iter().all(|line| line.contains("NaN")));
    }
    // Once it is gone, so are its series.
    let sent = prometheus.query("retempo_sent_total");
    let running = replay.try_wait().unwrap().is_none();
    replay.kill().unwrap();
    replay.wait().unwrap();
    services.stop();
    assert!(running && expressions.is_empty(), "nothing was shown by {expressions:#?}");
    assert!(sent.len() == 1 && sent[0].contains("retempo_sent_total"), "{sent:?}");
}

#[test]
fn an_address_that_is_taken_or_none_is_told_before_anything_is_sent() {
    let world = World::new();
    world.compile("small", 50.0, SEC);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (code, _, err) = run(world.dir.path(), &format!("replay small.parquet -s {} --metrics-addr {address}", world.server.url()));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains(&format!("cannot listen on {address} for --metrics-addr")), "{err}");
    let (code, _, err) = run(world.dir.path(), "replay small.parquet --metrics-addr here");
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("`here` is not an address; write 9099"), "{err}");
}

/// The command of a service, without what only containers have.
fn command_of(service: &Value) -> Vec<String> {
    let words = service["command"].as_array().into_iter().flatten().map(|word| word.as_str().unwrap());
    // `${NAME:-default}` becomes the default.
    words
        .map(|word| word.rsplit_once(":-").filter(|_| word.starts_with("${")).map_or(word, |(_, d)| d.trim_end_matches('}')).to_owned())
        .collect()
}

#[test]
fn the_stack_waits_for_health_and_publishes_on_loopback_only() {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        for (on, condition) in service["depends_on"].as_object().into_iter().flatten() {
            let condition = condition["condition"].as_str().unwrap();
            let other = &services[on];
            match condition {
                "service_healthy" => assert!(other["healthcheck"]["test"].is_array(), "{name} waits for the health of {on}"),
                "service_completed_successfully" => assert!(other["command"].is_array(), "{name} waits for the end of {on}"),
                other => panic!("{name} waits for {on} to be {other}"),
            }
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
        for mounted in service["volumes"].as_array().into_iter().flatten().filter_map(|v| v.as_str().unwrap().strip_prefix("./")) {
            assert!(deploy().join(mounted.split(':').next().unwrap()).exists(), "{name}: {mounted}");
        }
    }
    let dashboards = services.iter().filter(|(_, s)| s["profiles"] == serde_json::json!(["dashboards"])).count();
    assert_eq!(dashboards, 4);
    assert!(yaml("prometheus.yml")["scrape_configs"].as_array().unwrap().len() == 3);
    yaml("grafana/provisioning/datasources/prometheus.yml");
    yaml("grafana/provisioning/dashboards/retempo.yml");
    let dockerfile = std::fs::read_to_string(deploy().join("Dockerfile")).unwrap();
    assert_eq!(dockerfile.lines().filter(|l| l.starts_with("FROM ")).count(), 2, "built in one stage, run in another");
    let user = dockerfile.lines().position(|l| l.starts_with("USER retempo")).unwrap();
    assert!(user < dockerfile.lines().position(|l| l.starts_with("ENTRYPOINT")).unwrap());
}

#[test]
fn what_the_stack_runs_runs_without_containers_too() {
    let (world, mongod) = (World::new(), Mongod::new());
    let services = yaml("compose.yaml")["services"].clone();
    let here = |words: Vec<String>| -> Vec<String> {
        let uri = format!("{}/chat", mongod.uri());
        let local = |word: String| word.replace("nats://nats:4222", world.server.url()).replace("mongodb://mongodb:27017/chat", &uri);
        let local = words.into_iter().map(|w| local(w).replace("0.0.0.0:9099", &free_port().to_string()).replace("60s", "2s"));
        local.collect()
    };
    let run = |words: Vec<String>| {
        let output = retempo(world.dir.path()).args(&words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(here(command_of(&services["schedule"])));
    run(here(command_of(&services["seed"])));
    let mut standin = retempo(world.dir.path());
    let mut standin = standin.args(here(command_of(&services["standin"]))).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(standin.stdout.take().unwrap()), &mut String::new()).unwrap();
    let health: Vec<String> =
        services["standin"]["healthcheck"]["test"].as_array().unwrap()[2..].iter().map(|w| w.as_str().unwrap().to_owned()).collect();
    run(here(health));
    run(here(command_of(&services["retempo"])));
    standin.kill().unwrap();
    standin.wait().unwrap();
}

#[test]
fn the_makefile_checks_its_arguments_before_anything_starts() {
    // `echo` in place of the container engine.
    let make = |arguments: &[&str]| {
        let output = Command::new("make").arg("-C").arg(deploy()).arg("COMPOSE=echo").args(arguments).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for target in ["up", "seed", "run", "ramp", "search", "dashboards", "down"] {
        let (fine, _, err) = make(&[target]);
        assert!(fine, "{target}: {err}");
    }
    let (_, out, _) = make(&["ramp", "STEPS=100,2k", "HOLD=10s"]);
    assert!(out.contains("ramp schedule.parquet") && out.contains("--steps 100,2k --hold 10s"), "{out}");
    for (target, argument, told) in [
        ("run", "RATE=fast", "RATE=fast is not right; write RATE=500"),
        ("ramp", "STEPS=1;reboot", "STEPS=1;reboot is not right"),
        ("up", "PRESET=Medium!", "PRESET=Medium! is not right"),
        ("search", "HOLD=10", "HOLD=10 is not right; write HOLD=30s"),
    ] {
        let (fine, out, err) = make(&[target, argument]);
        assert!(!fine && err.contains(told) && !out.contains("retempo"), "{argument}: {out}{err}");
    }
}
