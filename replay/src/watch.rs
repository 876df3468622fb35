//! CPU of other processes: those of the target that run on this machine.

use crate::os;
use std::path::PathBuf;
use std::str::FromStr;

/// A part of the target to watch, as typed: `mongod=1234`, or `mongod=/sys/fs/cgroup/mongod`.
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
}

impl FromStr for Watch {
    type Err = String;
    fn from_str(text: &str) -> Result<Watch, String> {
        let bad =
            || format!("`{text}` is not NAME=PID or NAME=CGROUP, like mongod=1234 or mongod=/sys/fs/cgroup/system.slice/mongod.service");
        let (name, part) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(bad)?;
        let part = match part.parse() {
            Ok(pid) => Part::Process(pid),
            Err(_) if part.starts_with('/') => Part::Cgroup(part.into()),
            Err(_) => return Err(bad()),
        };
        Ok(Watch { name: name.to_owned(), part })
    }
}

impl Watch {
    /// CPU time used so far, s.
    ///
    /// # Errors
    /// A sentence: there is no such process or group.
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for text in ["mongod", "=12", "mongod=x", ""] {
            assert!(text.parse::<Watch>().unwrap_err().contains("is not NAME=PID or NAME=CGROUP"), "{text}");
        }
        assert!("gone=4194305".parse::<Watch>().unwrap().cpu_seconds().unwrap_err().contains("no process 4194305"));
    }
}
