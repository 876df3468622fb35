//! `docs/parity.md` says which command does what the reference load generator does: every command of it is run here, with
//! shorter times and fewer users.

mod common;

use common::{retempo, texts};
use harness::{Mongod, Services, World};
use schedule::Reader;
use standin::Config;

/// What a test has no time for, and what it does instead.
const SHORTER: &[(&str, &str)] = &[
    ("--duration 60s", "--duration 2s"),
    ("--duration 180s", "--duration 5s --set arrivals.compress=60"),
    ("--duration 150s", "--duration 4s --set life.within=1s"),
    ("--duration 10s", "--duration 2s"),
    ("presence-storm-silent --users 10k", "presence-storm-silent --users 60"),
    ("--users 10k", "--users 60"),
    ("--receivers 10k", "--receivers 30"),
    ("--steps 500,1k,2k,5k,10k", "--steps 50,100"),
    ("--steps 200,500,1k,2k,5k", "--steps 50,100"),
    ("--users-steps 1k,2k,5k,10k", "--users-steps 20,40"),
    ("--warmup 10s --hold 30s --cooldown 5s", "--warmup 0s --hold 1s --cooldown 0s"),
    ("--warmup 60s --hold 180s --cooldown 30s", "--warmup 0s --hold 1s --cooldown 0s"),
    ("--from 500 --to 10k", "--from 50 --to 60 --trials 4"),
    ("--warmup 10s", "--warmup 1s"),
];

/// The commands of the page, in its order.
fn commands() -> Vec<String> {
    let page = include_str!("../../docs/parity.md");
    let spans = page.split('`').skip(1).step_by(2);
    spans.filter(|span| span.starts_with("retempo ") && !span.contains('…') && !span.contains('>')).map(str::to_owned).collect()
}

fn shortened(command: &str) -> String {
    SHORTER.iter().fold(command.to_owned(), |command, (long, short)| command.replace(long, short))
}

/// Words as a shell splits them, as far as single quotes go.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('\'').enumerate();
    parts
        .flat_map(|(i, part)| match i % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

#[test]
fn every_command_of_the_page_works() {
    let (world, mongod) = (World::new(), Mongod::new());
    let all = commands();
    assert!(all.len() > 80, "{}", all.len());
    let mut serving: Option<(String, Services<'_>)> = None;
    for command in &all {
        let words = words(&shortened(command));
        let sends = ["replay", "ramp", "search"].contains(&words[1].as_str());
        if sends && serving.as_ref().is_none_or(|(schedule, _)| *schedule != words[2]) {
            if let Some((_, services)) = serving.take() {
                services.stop();
            }
            let meta = Reader::open(&world.path(&words[2])).unwrap().meta().clone();
            serving = Some((words[2].clone(), world.standin(&meta, Config::default())));
        }
        let mut line = retempo(world.dir.path());
        let output = line.args(&words[1..]).env("NATS_URL", world.server.url()).env("RETEMPO_MONGO", mongod.uri()).output().unwrap();
        let (code, _, err) = texts(&output);
        // A verdict is the machine's business.
        let judged = sends || words[1] == "analyze";
        let fine = if judged { vec![0, 3, 4] } else { vec![0] };
        assert!(fine.contains(&code), "{command}\n{words:?}\n{code} {err}");
    }
}
