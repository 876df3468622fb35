//! Runs the real binary in a fresh folder.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::Path;
use std::process::{Command, Output};

/// The binary, in a folder, without the environment's servers.
pub fn retempo(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retempo"));
    command.current_dir(dir);
    for name in [
        "NATS_URL",
        "NATS_CREDS",
        "NATS_NKEY",
        "NATS_USER",
        "NATS_PASSWORD",
        "NATS_TOKEN",
        "NATS_CA",
        "NATS_CERT",
        "NATS_KEY",
        "RETEMPO_MONGO",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs a line of arguments and returns exit code, standard output and standard error.
pub fn run(dir: &Path, line: &str) -> (i32, String, String) {
    let output = retempo(dir).args(line.split_whitespace()).output().expect("the binary runs");
    texts(&output)
}

/// Exit code (-1 for a signal), standard output and standard error.
pub fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
