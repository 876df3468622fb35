use crate::http::place;
use schedule::{Batch, Meta, Part, Reader, Row, Tempo};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// Op numbers are below this: an id has room for no more.
pub(crate) const OPS_MAX: i64 = 1 << 40;

/// What a replay needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// The schedule file.
    pub schedule: PathBuf,
    /// The run folder; must not exist, or be empty.
    pub run_dir: PathBuf,
    /// ULID of the run.
    pub run: String,
    /// Command line for the manifest, without secrets.
    pub command: Vec<String>,
    /// The server.
    pub nats: wire::Options,
    /// How HTTP operations reach theirs.
    pub http: crate::HttpOptions,
    /// How fast.
    pub tempo: TempoChoice,
    /// Laps; `None` is one, or as many as `duration_ns` needs.
    pub loops: Option<u32>,
    /// Stop sending after this, ns.
    pub duration_ns: Option<i64>,
    /// Publishing connections; a session keeps to one.
    pub connections: Connections,
    /// Who listens, if not one connection to everything.
    pub receivers: Option<std::sync::Arc<crate::Receivers>>,
    /// Least time between two writes, ns: 0 sends each op at its time, more sends several at once, later but with less CPU.
    pub write_spacing_ns: i64,
    /// What to do with ops due while the connection is down.
    pub on_disconnect: OnDisconnect,
    /// Longest wait for answers after the last send, ns; `None` is the longest timeout of the schedule.
    pub drain_timeout_ns: Option<i64>,
    /// Processes of the target whose CPU is recorded.
    pub watches: Vec<crate::Watch>,
    /// A Prometheus that knows their CPU.
    pub promql: Option<crate::Promql>,
    /// The server's monitoring port, `http://127.0.0.1:8222`: asked for backlogs instead of the JetStream API.
    pub nats_monitoring: Option<String>,
    /// Where Prometheus may scrape; `None` is nowhere.
    pub metrics_addr: Option<std::net::SocketAddr>,
    /// All expected answers are in and this long nothing came: the drain ends, ns.
    pub drain_quiet_ns: i64,
}

/// All expected answers in and this long nothing new: the drain is over, ns.
const DRAIN_QUIET_NS: i64 = 300_000_000;

impl Options {
    /// Sends the schedule once, as it is, over one connection; ops due while it is down are held.
    pub fn new(schedule: &Path, run_dir: &Path, run: &str, nats: wire::Options) -> Options {
        Options {
            schedule: schedule.to_owned(),
            run_dir: run_dir.to_owned(),
            run: run.to_owned(),
            command: Vec::new(),
            nats,
            http: crate::HttpOptions::default(),
            tempo: TempoChoice::Tempo(Tempo::default()),
            loops: None,
            duration_ns: None,
            connections: Connections::Shared(1),
            receivers: None,
            write_spacing_ns: 0,
            on_disconnect: OnDisconnect::Hold,
            drain_timeout_ns: None,
            watches: Vec::new(),
            promql: None,
            nats_monitoring: None,
            metrics_addr: None,
            drain_quiet_ns: DRAIN_QUIET_NS,
        }
    }
}

/// How schedule time maps to run time.
#[derive(Debug, Clone, PartialEq)]
pub enum TempoChoice {
    /// A given tempo.
    Tempo(Tempo),
    /// Operations per second, as an exact ratio.
    Rate((i128, i128)),
}

/// How sessions are spread over publishing connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// So many, shared by all sessions in turn.
    Shared(u16),
    /// One for each session.
    Direct,
}

impl Connections {
    /// Most connections: their numbers are 16 bits wide in the log.
    pub const MAX: u16 = 60_000;

    /// How many for a plan.
    ///
    /// # Errors
    /// [`Error::Plan`] for more sessions than connections can be.
    pub fn number(self, plan: &Plan) -> Result<u16, Error> {
        match self {
            Connections::Shared(n) => Ok(n.max(1)),
            Connections::Direct if plan.sessions <= Connections::MAX.into() => Ok(plan.sessions as u16),
            Connections::Direct => Err(Error::Plan(format!(
                "the schedule has {} sessions and {} connections are the most; share them with --connections",
                plan.sessions,
                Connections::MAX
            ))),
        }
    }
}

/// What to do with ops due while the connection is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisconnect {
    /// Send them late.
    Hold,
    /// Do not send them.
    Skip,
}

/// What carries the operations of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// NATS.
    Nats,
    /// HTTP, WebSockets, and what goes nowhere.
    Web,
}

impl Transport {
    fn of(meta: &Meta) -> Result<Transport, String> {
        let mut found = None;
        for action in &meta.actions {
            let transport = match action.transport.as_str() {
                "nats" => Transport::Nats,
                "http" | "websocket" | "local" => Transport::Web,
                other => return Err(format!("action `{}` goes over {other}; this replay speaks nats, http and websocket", action.name)),
            };
            if *found.get_or_insert(transport) != transport {
                return Err("some actions go over NATS and some over HTTP; cut it in two by --action, and replay both".into());
            }
        }
        Ok(found.unwrap_or(Transport::Nats))
    }
}

/// Why a replay could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The schedule is of no use.
    #[error(transparent)]
    Schedule(#[from] schedule::Error),
    /// Options that do not fit the schedule.
    #[error("{0}")]
    Plan(String),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] wire::Error),
    /// The server refuses what a replay needs.
    #[error("{0}")]
    Server(String),
    /// The run folder cannot be written.
    #[error("cannot write the run folder: {0}")]
    Log(#[from] runlog::Error),
}

/// What a replay would do: known before anything is sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Metadata of the schedule.
    pub meta: Meta,
    /// What carries it.
    pub transport: Transport,
    /// Over HTTP: where its requests go, `http://127.0.0.1:8080`; empty for those that name no server.
    pub servers: BTreeSet<String>,
    /// Sessions that have a WebSocket at times.
    pub socket_sessions: HashSet<u32>,
    /// Tempo.
    pub tempo: Tempo,
    /// Laps.
    pub loops: u32,
    /// Stop sending after this, ns of run time.
    pub until_ns: i64,
    /// Operations to send.
    pub ops: i64,
    /// From the first to the last of them, ns.
    pub span_ns: i64,
    /// Operations per second at the start.
    pub rate_per_sec: f64,
    /// Subjects, headers and payloads of a lap, bytes.
    pub lap_bytes: u64,
    /// Largest payload, bytes.
    pub max_payload_bytes: usize,
    /// Ops by action, of a lap.
    pub ops_by_action: Vec<u64>,
    /// Sessions are numbered below this.
    pub sessions: u32,
    /// Ops by bucket.
    pub buckets: BTreeMap<String, i64>,
    /// Whether any op waits for an answer.
    pub gated: bool,
    /// Whether it may be sent more than once: no op is of an action marked once.
    pub may_loop: bool,
}

impl Plan {
    /// Reads the whole schedule once, checks it, and counts what would be sent.
    ///
    /// # Errors
    /// [`Error::Schedule`], or [`Error::Plan`] for loops and answers that cannot be.
    pub fn of(options: &Options) -> Result<Plan, Error> {
        Plan::new(&options.schedule, &options.tempo, options.loops, options.duration_ns)
    }

    /// As [`Plan::of`], before there are options.
    ///
    /// # Errors
    /// As [`Plan::of`].
    pub fn new(path: &Path, tempo: &TempoChoice, loops: Option<u32>, duration_ns: Option<i64>) -> Result<Plan, Error> {
        let reader = Reader::open(path)?;
        let meta = reader.meta().clone();
        let refuse = |what: String| Error::Plan(format!("{}: {what}", path.display()));
        if meta.rows == 0 || meta.duration_ns <= 0 {
            return Err(refuse("the schedule has no operations".into()));
        }
        let transport = Transport::of(&meta).map_err(refuse)?;
        let tempo = match tempo {
            TempoChoice::Tempo(tempo) => tempo.clone(),
            TempoChoice::Rate(rate) => Tempo::for_rate(*rate, meta.rows, meta.duration_ns),
        };
        let lap_ns = tempo.run_ns(meta.duration_ns).max(1);
        let until_ns = duration_ns.unwrap_or(i64::MAX);
        let loops = loops.unwrap_or_else(|| duration_ns.map_or(1, |d| u32::try_from((d + lap_ns - 1) / lap_ns).unwrap_or(u32::MAX)).max(1));
        if i128::from(meta.rows) * i128::from(loops) >= OPS_MAX.into() {
            return Err(refuse("more than 2^40 operations; send fewer laps".into()));
        }
        let mut plan = Plan {
            rate_per_sec: meta.nominal_rate_per_sec * tempo.speed(),
            transport,
            servers: BTreeSet::new(),
            socket_sessions: HashSet::new(),
            ops_by_action: vec![0; meta.actions.len()],
            sessions: 1,
            buckets: BTreeMap::new(),
            gated: false,
            may_loop: true,
            lap_bytes: 0,
            max_payload_bytes: 0,
            ops: 0,
            span_ns: 0,
            until_ns,
            loops,
            tempo,
            meta,
        };
        let whole_laps = plan.whole_laps();
        plan.ops = plan.meta.rows * i64::from(whole_laps);
        for batch in reader.batches()? {
            plan.count(&batch?, whole_laps).map_err(refuse)?;
        }
        Ok(plan)
    }

    /// Run time of offset `at_ns` of a lap.
    pub fn run_ns(&self, lap: i64, at_ns: i64) -> i64 {
        self.tempo.run_ns((lap * self.meta.duration_ns).saturating_add(at_ns))
    }

    /// Laps that end before the time is up; at most one more begins.
    fn whole_laps(&self) -> u32 {
        let ends_in_time = |laps: u32| self.tempo.run_ns(i64::from(laps) * self.meta.duration_ns) <= self.until_ns;
        let (mut whole, mut beyond) = (0, self.loops.saturating_add(1));
        while beyond - whole > 1 {
            let middle = whole + (beyond - whole) / 2;
            if ends_in_time(middle) { whole = middle } else { beyond = middle }
        }
        whole
    }

    /// Where a row of the web goes.
    fn count_server(&mut self, row: &Row<'_>) -> Result<(), String> {
        let transport = &self.meta.actions[usize::from(row.action)].transport;
        let server = place::server(transport, row.target)?;
        if transport == "websocket" {
            self.socket_sessions.insert(row.session);
        }
        // Behind `METHOD `. Whether load may go there is asked before it does.
        let end = row.target.find(' ').map_or(0, |space| space + 1 + server.len());
        if !server.is_empty() && row.slots().flatten().any(|slot| slot.part == Part::Target && slot.offset as usize <= end) {
            return Err(format!("a value of an answer would be a part of the server in `{}`; name that whole", row.target));
        }
        let names_none = transport == "local" || matches!(row.target, "SEND" | "CLOSE");
        if !names_none && !self.servers.contains(server) {
            self.servers.insert(server.to_owned());
        }
        Ok(())
    }

    fn count(&mut self, batch: &Batch, whole_laps: u32) -> Result<(), String> {
        for row in batch.rows() {
            self.gated |= row.gate().is_some();
            self.may_loop &= !self.meta.actions[usize::from(row.action)].once;
            if self.loops > 1 && !self.may_loop {
                return Err(format!("op {} cannot be sent twice (its action is marked once); replay without --loops", row.op));
            }
            self.ops_by_action[usize::from(row.action)] += 1;
            if self.transport == Transport::Web {
                self.count_server(&row).map_err(|what| format!("op {}: {what}", row.op))?;
            }
            if let Some(bucket) = row.bucket {
                match self.buckets.get_mut(bucket) {
                    Some(ops) => *ops += 1,
                    None => drop(self.buckets.insert(bucket.to_owned(), 1)),
                }
            }
            self.sessions = self.sessions.max(row.session.saturating_add(1));
            self.lap_bytes += (row.target.len() + row.payload.len() + row.headers().map(|(n, v)| n.len() + v.len()).sum::<usize>()) as u64;
            self.max_payload_bytes = self.max_payload_bytes.max(row.payload.len());
            if whole_laps > 0 {
                self.span_ns = self.span_ns.max(self.run_ns(i64::from(whole_laps) - 1, row.at_ns));
            }
            let intended_ns = self.run_ns(whole_laps.into(), row.at_ns);
            if whole_laps < self.loops && intended_ns < self.until_ns {
                self.ops += 1;
                self.span_ns = self.span_ns.max(intended_ns);
            }
        }
        Ok(())
    }
}
