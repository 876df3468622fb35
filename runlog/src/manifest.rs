use crate::Error;
use schedule::{Format, Meta};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// File name of the manifest.
pub const MANIFEST: &str = "run.json";

/// Version of the run folder. History: 1.0, the first; 1.1, the log `keyed`, and `key` in `sends`; 1.2, the logs `frames` and `checks`,
/// and `opener` in `sends`; 1.3, `received_ns` in `checks`; 1.4, `cpu_dma_latency` of the manifest.
pub const RUN_FORMAT: Format = Format { major: 1, minor: 4 };

/// What a run was: enough, with the logs, to analyse it anywhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the folder.
    pub format: Format,
    /// ULID of the run; the key of its ids.
    pub run: String,
    /// How far it got.
    pub state: State,
    /// Tool and version.
    pub tool: String,
    /// Command line, without secrets.
    pub command: Vec<String>,
    /// Wall clock at the anchor, epoch ns.
    pub anchor_epoch_ns: i64,
    /// Metadata of the schedule.
    pub schedule: Meta,
    /// Where the schedule was.
    pub schedule_path: String,
    /// Speed at the start.
    pub speed: f64,
    /// Laps.
    pub loops: u32,
    /// Ops that should be sent in this run.
    pub planned_ops: i64,
    /// Operations per second that should be sent.
    pub intended_rate_per_sec: f64,
    /// Server addresses and versions, without credentials.
    pub target: Vec<String>,
    /// Connections by index.
    pub connections: Vec<ConnectionInfo>,
    /// What the system granted.
    pub granted: Granted,
    /// The machine.
    pub host: HostInfo,
    /// Time of the last observation, ns from the anchor; absent until the end.
    #[serde(default)]
    pub end_ns: Option<i64>,
    /// Bytes sent, answers received and the like, at the end.
    #[serde(default)]
    pub totals: std::collections::BTreeMap<String, i64>,
}

/// How far a run got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not ended, or cut off.
    Running,
    /// Everything was sent and drained.
    Complete,
    /// Ended early by a signal.
    Interrupted,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sends operations and receives their inbox.
    Publish,
    /// Receives answers on subjects.
    Answers,
}

/// One connection of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// What it is for.
    pub role: Role,
    /// Server it first connected to.
    pub server: String,
}

/// What was asked of the system and granted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Granted {
    /// Real-time scheduling of the pacer.
    pub sched_fifo: bool,
    /// Timer slack of the pacer, ns.
    pub timer_slack_ns: u64,
    /// That no CPU sleeps deeply while the run goes on: a limit of 0 on what waking one up may take.
    #[serde(default)]
    pub cpu_dma_latency: bool,
}

/// The machine a run was made on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HostInfo {
    /// Number of cores.
    pub cores: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Kernel.
    pub kernel: String,
}

impl Manifest {
    /// Reads the manifest of a run folder.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the folder is not a run folder, or a newer retempo wrote it.
    pub fn read(dir: &Path) -> Result<Manifest, Error> {
        let path = dir.join(MANIFEST);
        let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound if dir.is_dir() => {
                Error::damaged(dir, format!("is not a run folder: it has no {MANIFEST}; name a folder that `retempo replay` wrote"))
            }
            _ => Error::damaged(dir, format!("cannot be read as a run folder: {e}")),
        })?;
        #[derive(Deserialize)]
        struct Version {
            format: Format,
        }
        let broken = |e: serde_json::Error| Error::damaged(&path, format!("is not a run manifest: {e}"));
        let Version { format } = serde_json::from_str(&text).map_err(broken)?;
        if format.major > RUN_FORMAT.major {
            return Err(Error::damaged(
                &path,
                format!("has run format {format}, this retempo reads up to {RUN_FORMAT}; use a newer retempo"),
            ));
        }
        serde_json::from_str(&text).map_err(broken)
    }

    /// Writes the manifest by temporary file and rename.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let (path, part) = (dir.join(MANIFEST), dir.join("run.json.tmp"));
        let json = serde_json::to_vec_pretty(self).expect("plain data");
        std::fs::write(&part, json).map_err(Error::io(&part))?;
        std::fs::rename(&part, &path).map_err(Error::io(&path))
    }
}
