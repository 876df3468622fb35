//! Bad input gets one clear sentence and exit code 2, and nothing is lost.

mod common;

use common::run;
use std::path::Path;

/// Exit code 2, one line, with these words.
fn refused(dir: &Path, line: &str, words: &[&str]) {
    let (code, out, err) = run(dir, line);
    assert_eq!((code, out.as_str()), (2, ""), "{line}: {err}");
    assert_eq!(err.trim_end().lines().count(), 1, "{line}: {err}");
    for word in words {
        assert!(err.contains(word), "{line}: `{word}` is not in: {err}");
    }
}

fn ok(dir: &Path, line: &str) {
    let (code, _, err) = run(dir, line);
    assert_eq!(code, 0, "{line}: {err}");
}

#[test]
fn workloads() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    refused(at, "compile medum -o s.parquet", &["there is no preset `medum`", "did you mean medium?"]);
    refused(at, "preset show bogus", &["there is no preset `bogus`", "small, medium, large, realistic"]);
    refused(at, "compile absent.toml -o s.parquet", &["cannot read the workload absent.toml", "retempo preset list"]);
    std::fs::write(at.join("broken.toml"), "name = \"x\"\n[arrivals]\nrate = = 5\n").unwrap();
    refused(at, "compile broken.toml -o s.parquet", &["broken.toml:3", "key `rate`"]);
    std::fs::write(at.join("key.toml"), "name = \"x\"\nnmae = \"y\"\n").unwrap();
    refused(at, "compile key.toml -o s.parquet", &["key.toml:2", "unknown field `nmae`"]);
    let staged = |stage: &str| {
        format!(
            "name = \"x\"\nstreams = [\"S\"]\n[[action]]\nname = \"a\"\ntarget = \"t\"\npayload = \"\"\n[arrivals]\nrate = 5\nduration = \"1s\"\n[[stage]]\nname = \"worker\"\n{stage}\n"
        )
    };
    for (stage, told) in [
        ("consumer = \"T/worker\"", "stage `worker`: consumer `T/worker`: `streams` has no `T`"),
        ("consumer = \"worker\"", "consumer `worker` should be STREAM/DURABLE"),
        ("series = [\"a/reply\"]", "series `a/reply`: no action has such an answer"),
    ] {
        std::fs::write(at.join("stage.toml"), staged(stage)).unwrap();
        refused(at, "compile stage.toml -o s.parquet", &["stage.toml", told]);
    }
    refused(at, "compile small --inject frontdor -o s.parquet", &["--inject frontdor", "did you mean frontdoor?"]);
    refused(at, "compile small -o absent/s.parquet", &["cannot write absent/s.parquet", "-o"]);
    assert!(!at.join("s.parquet").exists());
}

#[test]
fn schedules() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    ok(at, "compile small --duration 1s -o s.parquet");
    refused(at, "compile small --duration 1s -o s.parquet", &["s.parquet exists", "--force"]);
    ok(at, "compile small --duration 1s -o s.parquet --force");
    let bytes = std::fs::read(at.join("s.parquet")).unwrap();
    std::fs::write(at.join("cut.parquet"), &bytes[..bytes.len() - 100]).unwrap();
    for command in ["inspect", "replay", "check", "seed"] {
        refused(at, &format!("{command} cut.parquet"), &["cut.parquet is not a readable Parquet file"]);
    }
    refused(at, "inspect absent.parquet", &["cannot read absent.parquet"]);
    refused(at, "replay s.parquet --speed fast", &["`fast` is not a speed", "200%"]);
    refused(at, "replay s.parquet --max-rate 100", &["above --max-rate 100/s"]);
    refused(at, "replay s.parquet --slo errrors<1", &["SLO `errrors<1`"]);
    refused(at, "replay s.parquet -s http://x", &["`http://x` is not a NATS address"]);
    refused(at, "replay s.parquet -s nats://192.0.2.1 --quiet", &["192.0.2.1:4222 is not this machine", "--yes"]);
    refused(at, "replay s.parquet --creds absent.creds", &["absent.creds cannot be read"]);
    refused(at, "replay s.parquet --token a --user b", &["choose one"]);
    refused(at, "seed s.parquet --users 5", &["a schedule has them already"]);
}

#[test]
fn outputs_are_checked_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    ok(at, "compile small --duration 1s -o s.parquet");
    std::fs::write(at.join("file"), "").unwrap();
    refused(at, "replay s.parquet -o file", &["file is a file"]);
    refused(at, "replay s.parquet -o file/run", &["cannot write the run folder file/run"]);
    std::fs::create_dir(at.join("old")).unwrap();
    std::fs::write(at.join("old/run.json"), "{}").unwrap();
    refused(at, "replay s.parquet -o old", &["old is a run already", "nothing recorded is overwritten"]);
    let (code, _, err) = run(at, "replay s.parquet -o new -s nats://127.0.0.1:1");
    assert_eq!(code, 1, "{err}");
    assert!(err.starts_with("retempo: cannot reach a NATS server at 127.0.0.1:1") && err.trim_end().lines().count() == 1, "{err}");
    assert!(!at.join("new/run.json").exists(), "nothing was sent, so there is no run");
}

#[test]
fn runs() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    std::fs::create_dir(at.join("empty")).unwrap();
    refused(at, "analyze empty", &["empty is not a run folder: it has no run.json"]);
    refused(at, "analyze absent", &["absent cannot be read as a run folder"]);
    refused(at, "analyze empty --slo p95<1", &["SLO"]);
}

#[test]
fn typos_of_flags_are_clap_s_business_and_exit_2_too() {
    let dir = tempfile::tempdir().unwrap();
    for line in ["replya s.parquet", "compile small", "replay s.parquet --rat 5", "compile small --rate many -o s", "completions tcsh"] {
        let (code, _, err) = run(dir.path(), line);
        assert_eq!(code, 2, "{line}: {err}");
        assert!(err.contains("error:"), "{line}: {err}");
    }
}
