//! The guides of docs/ work as written.

use std::path::Path;
use std::process::Command;

/// Fenced blocks: the word after the fence, the file they are, if any, and their text.
fn blocks(guide: &str) -> Vec<(String, Option<String>, String)> {
    let mut blocks = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        let Some(head) = line.strip_prefix("```") else { continue };
        let (kind, file) = head.split_once(' ').map_or((head, None), |(kind, file)| (kind, Some(file.to_owned())));
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push((kind.to_owned(), file, text.join("\n") + "\n"));
    }
    blocks
}

/// Ends the server of the guide, however the test ends.
struct Server(std::path::PathBuf);

impl Drop for Server {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(&self.0).ok().and_then(|pid| rustix::process::Pid::from_raw(pid.trim().parse().ok()?));
        // The last step has ended it already.
        let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
    }
}

/// Does what a guide says; `look` sees each line, and what it told.
fn follow(guide: &str, look: &dyn Fn(&str, &str)) {
    let dir = tempfile::tempdir().unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_retempo")).parent().unwrap();
    let path = std::env::join_paths([bin.to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap()))).unwrap();
    let port = harness::free_port().to_string();
    let _server = Server(dir.path().join("server.pid"));
    let steps = (1..=10).filter(|n| guide.contains(&format!("\n**{n}. "))).count();
    assert_eq!(steps, 10);
    for (kind, file, text) in blocks(guide) {
        let text = text.replace("8080", &port);
        match (kind.as_str(), file) {
            (_, Some(file)) => std::fs::write(dir.path().join(file), text).unwrap(),
            ("sh", None) => {
                for line in text.lines() {
                    let output = Command::new("sh").args(["-c", line]).current_dir(dir.path()).env("PATH", &path).output().unwrap();
                    let told = format!("{line}\n{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                    // A verdict is the machine's business: this one may be too busy for a PASS.
                    let judges = line.starts_with("retempo analyze") || line.starts_with("retempo ramp");
                    let fine = if judges { vec![0, 4] } else { vec![0] };
                    assert!(fine.contains(&output.status.code().unwrap_or(-1)), "{told}");
                    look(line, &told);
                }
            }
            _ => panic!("a block that is neither a file nor commands:\n{text}"),
        }
    }
    assert!(dir.path().join("report.html").exists());
}

#[test]
fn every_step_over_http_works_as_written() {
    follow(include_str!("../../docs/http.md"), &|line, told| {
        if line.contains("analyze run-3") {
            assert!(told.contains("search/found") && told.contains("record/recorded"), "{told}");
        }
    });
}

#[test]
fn every_step_over_websockets_works_as_written() {
    follow(include_str!("../../docs/websocket.md"), &|line, told| {
        if line.contains("analyze run-3") {
            assert!(told.contains("open/snapshot:staleness") && told.contains("snapshot quotes"), "{told}");
        }
        if line.contains("analyze run-7") {
            assert!(told.contains(" 1001"), "the target's close code: {told}");
        }
    });
}
