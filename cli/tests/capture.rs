//! A capture as a user makes it: killed, finished, and what is typed wrongly.

mod common;

use common::{retempo, run};
use harness::World;
use schedule::Reader;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Killed captures; more are a matter of time only.
const ROUNDS: u64 = 8;
/// What may be lacking, and a margin for the time between a look at the clock and a kill.
const LACKING: Duration = Duration::from_millis(1_100);

#[test]
fn a_killed_capture_lacks_at_most_the_last_second() {
    captures_killed((0..ROUNDS).map(|round| 1_300 + round * 397 % 1_000));
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn captures_killed_at_fifty_moments_lack_at_most_the_last_second() {
    let mut rng = fixtures::Rng::new(42, "kill");
    captures_killed((0..50).map(|_| rng.within(0, 3_000)));
}

/// Kills a capture at each of these moments, in ms after it listens, and finishes it.
fn captures_killed(moments: impl Iterator<Item = u64>) {
    let world = World::new();
    let client = world.runtime.block_on(async { replay::control::connect(&world.nats()).await.unwrap() });
    for (round, moment_ms) in moments.enumerate() {
        let name = format!("killed-{round}.parquet");
        let line = ["capture", "nats", "app.>", "-s", world.server.url(), "-o", &name];
        let mut process = retempo(world.dir.path()).args(line).stderr(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(process.stderr.take().unwrap()).lines();
        assert!(told.next().unwrap().unwrap().starts_with("listening"), "it says when it listens");
        let kill_after = Duration::from_millis(moment_ms);
        let (began, mut published) = (Instant::now(), Vec::new());
        world.runtime.block_on(async {
            while began.elapsed() < kill_after {
                client.publish("app.event", format!("{{\"n\":{}}}", published.len()).into()).await.unwrap();
                client.flush().await.unwrap();
                published.push(Instant::now());
            }
        });
        let killed = Instant::now();
        process.kill().unwrap();
        process.wait().unwrap();
        let (code, _, err) = run(world.dir.path(), &format!("capture nats --finish -o {name}"));
        let due = published.iter().filter(|at| killed.duration_since(**at) > LACKING).count();
        assert!(due > 0 || moment_ms < 1_300, "there is something to lack");
        if code == 2 && due == 0 {
            assert!(err.contains("was cut off before it wrote an operation down"), "{err}");
            continue;
        }
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("it was cut off: up to a second of its end is lacking"), "{err}");
        let kept = Reader::open(&world.path(&name)).unwrap().meta().rows as usize;
        assert!(kept >= due, "{kept} of {} kept, {due} due", published.len());
        let mut next = 0;
        for batch in Reader::open(&world.path(&name)).unwrap().batches().unwrap() {
            for row in batch.unwrap().rows() {
                assert_eq!(row.payload, format!("{{\"n\":{next}}}").as_bytes(), "nothing is lacking in between");
                next += 1;
            }
        }
    }
}

#[test]
fn mistakes_get_a_sentence() {
    let world = World::new();
    let dir = world.dir.path();
    std::fs::write(dir.join("p.toml"), "pseudonym = [\"/a\"]").unwrap();
    std::fs::create_dir(dir.join("old.parquet.capture")).unwrap();
    let url = world.server.url();
    for (line, code, told) in [
        (format!("capture nats a.> -o s.parquet -s {url} --redact p.toml"), 2, "p.toml: pseudonyms need a key"),
        (format!("capture nats a.> -o s.parquet -s {url} --redact none.toml"), 2, "--redact: cannot read none.toml"),
        (format!("capture nats a.> -o s.parquet -s {url} --session tok:1"), 2, "none of token:N"),
        (format!("capture nats a.> -o s.parquet -s {url} --rules mediun"), 2, "did you mean medium?"),
        (format!("capture nats a.> -o s.parquet -s {url} --duration 200ms"), 2, "no operation was heard; check the subjects"),
        (format!("capture nats a.> -o old.parquet -s {url} --duration 200ms"), 2, "is a capture that was not finished"),
        ("capture nats --finish -o none.parquet".into(), 2, "is no folder of a capture"),
        ("capture nats a.> -o s2.parquet -s nats://127.0.0.1:1".into(), 1, "127.0.0.1:1"),
        (format!("capture jetstream NOWHERE -o s.parquet -s {url}"), 1, "stream NOWHERE: "),
    ] {
        let (found, _, err) = run(dir, &line);
        assert_eq!(found, code, "{line}: {err}");
        assert!(err.contains(told), "{line}: {err}");
        // What was begun for nothing is no reason to refuse the next.
        let _ = std::fs::remove_dir_all(dir.join("s.parquet.capture"));
    }
}
