//! CPU of other processes: those of the target that run on this machine.

use crate::{ask, os};
use serde_json::Value;
use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a container engine answers, unless `DOCKER_HOST` says so; Podman answers in the same words.
const ENGINE: &str = "/var/run/docker.sock";

/// A part of the target to watch, as typed: `mongod=1234`, `mongod=/sys/fs/cgroup/mongod`, or the name of a container,
/// `mongod=chat-mongodb-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// What it is called in the report; a stage of the workload may name it.
    pub name: String,
    part: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Process(u32),
    Cgroup(PathBuf),
    Container(String),
}

impl FromStr for Watch {
    type Err = String;
    fn from_str(text: &str) -> Result<Watch, String> {
        let bad =
            || format!("`{text}` is not NAME=PID, NAME=CGROUP or NAME=CONTAINER, like mongod=1234 or mongod=/sys/fs/cgroup/mongod.service");
        let (name, part) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(bad)?;
        let part = match part.parse() {
            Ok(pid) => Part::Process(pid),
            Err(_) if part.starts_with('/') => Part::Cgroup(part.into()),
            Err(_) if is_container(part) => Part::Container(part.to_owned()),
            Err(_) => return Err(bad()),
        };
        Ok(Watch { name: name.to_owned(), part })
    }
}

/// As container engines allow.
fn is_container(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

impl Watch {
    /// With a container's group found; it is there and its CPU can be read.
    ///
    /// # Errors
    /// A sentence: there is no such process, group or container.
    pub fn found(self) -> Result<Watch, String> {
        let Part::Container(container) = &self.part else { return self.cpu_seconds().map(|_| self) };
        let host = env::var("DOCKER_HOST").ok();
        let engine = host.as_deref().map_or(ENGINE, |host| host.strip_prefix("unix://").unwrap_or(host));
        let pid = main_process(container, Path::new(engine)).map_err(|why| format!("no container {container} ({}): {why}", self.name))?;
        let part = Part::Cgroup(group_of(pid).ok_or_else(|| format!("container {container}: its process {pid} is not of this machine"))?);
        Watch { part, ..self }.found()
    }

    /// CPU time used so far, s.
    ///
    /// # Errors
    /// A sentence: there is no such process or group, or it is a container that was not [`found`](Self::found).
    pub fn cpu_seconds(&self) -> Result<f64, String> {
        match &self.part {
            Part::Process(pid) => {
                let gone = |_| format!("there is no process {pid} ({})", self.name);
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(gone)?;
                Ok(os::busy_ticks(&stat) / os::ticks_per_sec())
            }
            Part::Cgroup(path) => {
                let file = path.join("cpu.stat");
                let stat = std::fs::read_to_string(&file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
                let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse::<f64>().ok());
                usage.map(|us| us / 1e6).ok_or_else(|| format!("{} has no usage_usec; a group of cgroup v2 is needed", file.display()))
            }
            Part::Container(container) => Err(format!("the group of container {container} was not looked for")),
        }
    }
}

/// Asks the engine, by [its API](https://docs.docker.com/reference/api/engine/) (`ContainerInspect`).
fn main_process(container: &str, engine: &Path) -> Result<u64, String> {
    let body = ask::get_local(engine, &format!("/containers/{container}/json"))?;
    let told: Value = serde_json::from_slice(&body).map_err(|e| format!("{}: {e}", engine.display()))?;
    if let Some(refused) = told["message"].as_str() {
        return Err(refused.to_owned());
    }
    told["State"]["Pid"].as_u64().filter(|&pid| pid > 0).ok_or_else(|| "it does not run".into())
}

/// The group of cgroup v2 that a process is in.
fn group_of(pid: u64) -> Option<PathBuf> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_process_and_a_group_are_watched() {
        let own: Watch = format!("us={}", std::process::id()).parse().unwrap();
        let before = own.cpu_seconds().unwrap();
        let mut n = 0u64;
        while own.cpu_seconds().unwrap() <= before {
            n = std::hint::black_box(n + 1);
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cpu.stat"), "usage_usec 2500000\nuser_usec 1\n").unwrap();
        let group: Watch = format!("db={}", dir.path().display()).parse().unwrap();
        assert_eq!((group.name.as_str(), group.cpu_seconds()), ("db", Ok(2.5)));
        for text in ["mongod", "=12", "mongod=x y", "mongod=", ""] {
            assert!(text.parse::<Watch>().unwrap_err().contains("is not NAME=PID, NAME=CGROUP or NAME=CONTAINER"), "{text}");
        }
        assert!("gone=4194305".parse::<Watch>().unwrap().cpu_seconds().unwrap_err().contains("no process 4194305"));
    }

    /// An engine that knows one container, which is this process.
    fn engine(socket: &Path) {
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(3) {
                let mut stream = stream.unwrap();
                let mut asked = [0; 512];
                let n = stream.read(&mut asked).unwrap();
                let (status, body) = match std::str::from_utf8(&asked[..n]).unwrap().split(' ').nth(1).unwrap() {
                    "/containers/db-1/json" => (200, format!(r#"{{"State":{{"Running":true,"Pid":{}}}}}"#, std::process::id())),
                    "/containers/off/json" => (200, r#"{"State":{"Running":false,"Pid":0}}"#.into()),
                    _ => (404, r#"{"message":"No such container: d"}"#.into()),
                };
                write!(stream, "HTTP/1.1 {status} OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        });
    }

    #[test]
    fn a_container_is_found_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        assert!(main_process("db-1", &socket).unwrap_err().contains("engine.sock: No such file"));
        engine(&socket);
        assert_eq!(main_process("db-1", &socket), Ok(u64::from(std::process::id())));
        assert_eq!(main_process("off", &socket), Err("it does not run".into()));
        assert_eq!(main_process("d", &socket), Err("No such container: d".into()));
        assert!(group_of(u64::from(std::process::id())).is_none_or(|group| group.starts_with("/sys/fs/cgroup")));
        assert_eq!(group_of(4_194_305), None);
    }
}
