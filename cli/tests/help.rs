//! `-h` of every command ends with two examples that work as typed.

mod common;

use common::retempo;
use harness::{Mongod, World};
use schedule::Reader;
use standin::Config;
use std::path::Path;
use std::process::Command;

fn help(dir: &Path, path: &[&str]) -> String {
    let output = retempo(dir).args(path).arg("-h").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Every command with its help, sub-commands after their parent.
fn commands(dir: &Path, path: &[&str], all: &mut Vec<(String, String)>) {
    let text = help(dir, path);
    let subcommands = text.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| l.starts_with("  "));
    let names: Vec<String> = subcommands.filter_map(|l| l.split_whitespace().next()).filter(|n| *n != "help").map(str::to_owned).collect();
    all.push((path.join(" "), text));
    for name in names {
        let mut below = path.to_vec();
        below.push(&name);
        commands(dir, &below, all);
    }
}

fn examples(text: &str) -> Vec<String> {
    text.lines().skip_while(|l| *l != "Examples:").skip(1).map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect()
}

#[test]
fn every_example_works_as_typed() {
    let (world, mongod) = (World::new(), Mongod::new());
    let dir = world.dir.path();
    let bin = Path::new(env!("CARGO_BIN_EXE_retempo")).parent().unwrap();
    let path = std::env::join_paths([bin.to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap()))).unwrap();
    let mut all = Vec::new();
    commands(dir, &[], &mut all);
    assert!(all.len() > 10, "{all:?}");
    let mut services = None;
    for (command, text) in &all {
        let examples = examples(text);
        assert_eq!(examples.len(), 2, "`{command} -h` must end with two examples:\n{text}");
        if command == "standin" {
            // Its examples start their own.
            services = None;
        }
        for example in examples {
            let output = Command::new("sh")
                .args(["-c", &example])
                .current_dir(dir)
                .env("PATH", &path)
                .env("NATS_URL", world.server.url())
                .env("RETEMPO_MONGO", mongod.uri())
                .output()
                .unwrap();
            // A verdict is the machine's business: this one may be too busy for a PASS.
            let judges = ["analyze", "ramp", "search"].contains(&command.as_str());
            let fine = if judges { vec![0, 3, 4] } else { vec![0] };
            assert!(fine.contains(&output.status.code().unwrap_or(-1)), "{example}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        if command == "compile" {
            let meta = Reader::open(&dir.join("a.parquet")).unwrap().meta().clone();
            services = Some(world.standin(&meta, Config::default()));
        }
    }
    drop(services);
}

#[test]
fn the_top_level_help_is_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let text = help(dir.path(), &[]);
    insta::assert_snapshot!(text);
}
