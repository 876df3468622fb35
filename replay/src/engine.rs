//! Sets the threads up, waits for the drain, and closes the run.

use crate::answer_log::AnswerLog;
use crate::clock::{Clock, thread_cpu_ns};
use crate::connection::Connection;
use crate::decode::Decoder;
use crate::encoder::Encoder;
use crate::http::place::without_users;
use crate::http::{Collector, Dispatcher, Exchanges, Sockets, Told};
use crate::live::Live;
use crate::loader::{self, FrameBatch, Loader};
use crate::logger::Logger;
use crate::options::{Connections, Error, Options, Plan, Transport};
use crate::receiver::{Incoming, Receiver};
use crate::release::{Released, Releases};
use crate::sender::Sender;
use crate::sent_log::SentLog;
use crate::shared::{AnswerRecord, Counters, Progress, SentRecord, Shared, Stop};
use crate::steps::{Conduct, Steps, Stretches};
use crate::{metrics, monitor, os, reconnect};
use runlog::{ConnectionInfo, EventKind, Granted, HostInfo, Manifest, RUN_FORMAT, Role, State};
use schedule::{IdKey, Known};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{Builder, JoinHandle};
use wire::Connected;
use xxhash_rust::xxh3::xxh3_64;

/// From the end of the preparations to the first op, ns: the loader gets ahead.
const LEAD_NS: i64 = 300_000_000;
const TICK_NS: i64 = 20_000_000;
const PROGRESS_NS: i64 = 1_000_000_000;
/// Seconds at peak rate that the buffers between the hot threads and the logger hold.
const BUFFER_SECONDS: f64 = 5.0;
const BUFFER_RECORDS: std::ops::RangeInclusive<usize> = 1 << 16..=1 << 20;

/// How a replay ended.
#[derive(Debug, Clone)]
pub struct Report {
    /// The manifest as written.
    pub manifest: Manifest,
    /// The last progress.
    pub progress: Progress,
    /// Records lost because a buffer was full.
    pub dropped: i64,
}

/// Replays a schedule and writes the run folder. Blocks until everything is sent and drained, or `stop` is asked.
///
/// # Errors
/// [`Error`], before anything is sent: the schedule, the folder, the server. Once sending, what goes wrong is logged.
pub fn replay(options: &Options, plan: &Plan, stop: &Stop, progress: &mut dyn FnMut(&Progress)) -> Result<Report, Error> {
    run(options, plan, stop, progress, None)
}

/// As [`replay`], in steps that `conduct` decides one by one. `plan` should be that of the fastest.
///
/// # Errors
/// As [`replay`].
pub fn replay_steps(
    options: &Options,
    plan: &Plan,
    stop: &Stop,
    progress: &mut dyn FnMut(&Progress),
    conduct: &mut Conduct<'_>,
) -> Result<Report, Error> {
    let (steps, stretches) = Steps::new(conduct);
    run(options, plan, stop, progress, Some((steps, stretches)))
}

fn run(
    options: &Options,
    plan: &Plan,
    stop: &Stop,
    progress: &mut dyn FnMut(&Progress),
    steps: Option<(Steps<'_, '_>, Stretches)>,
) -> Result<Report, Error> {
    let (mut steps, stretches) = steps.unzip();
    let io = |source| Error::Log(runlog::Error::Io { path: options.run_dir.clone(), source });
    std::fs::create_dir_all(&options.run_dir).map_err(io)?;
    let scraped = options.metrics_addr.map(metrics::listen).transpose()?;
    let key = IdKey::new(options.run.as_bytes());
    let decoder = Decoder::new(key.clone(), &plan.meta.actions, &plan.meta.answers).knowing(Known::new(&plan.meta.known));
    let (connections, opened) = match plan.transport {
        Transport::Nats => connect_all(options, options.connections.number(plan)?, &decoder)?,
        Transport::Web => (Vec::new(), Vec::new()),
    };
    let max_payload = opened.iter().map(|c| c.info.max_payload).min().unwrap_or(usize::MAX);
    let (sent_in, sent_out) = touched(buffer_records(plan, 1.0), SentRecord::default);
    let (answers_in, answers_out) = touched(buffer_records(plan, 4.0), AnswerRecord::default);
    let clock = Clock::anchored_in(LEAD_NS);
    let anchor_epoch_ns = clock.anchor_epoch_ns();
    let encoder = Arc::new(Encoder::new(plan, key, anchor_epoch_ns, max_payload, &connections));
    let (releases, released) = plan.gated.then(|| Releases::new(encoder.clone())).unzip();
    let (notes, notes_out) = mpsc::sync_channel(10_000);
    let shared = Arc::new(Shared {
        live: scraped.is_some().then(|| Live::new(&plan.meta)),
        has_backlog: !plan.meta.streams.is_empty(),
        keyed: plan.meta.answers.iter().map(|a| matches!(a.whose, schedule::Whose::Fields(_))).collect(),
        releases,
        ..Shared::new(clock, stop.clone(), connections, notes)
    });
    let (frames_in, frames) = mpsc::sync_channel(loader::BATCHES_AHEAD);
    let ways = Ways {
        frames,
        released: Released::new(released),
        sends: SentLog { shared: shared.clone(), out: sent_in },
        answers: AnswerLog::new(shared.clone(), answers_in),
        decoder,
    };
    let manifest = manifest(options, plan, shared.connections.iter().map(|c| c.role), &opened, anchor_epoch_ns);
    let awake = os::request_awake();
    let granted = Arc::new(Mutex::new(Granted { cpu_dma_latency: awake.is_ok(), ..Granted::default() }));
    let mut threads = Threads::default();
    // What cannot be used is told before there is a run.
    let over_http = (plan.transport == Transport::Web).then(|| OverHttp::new(&shared, options, plan)).transpose()?;
    manifest.write(&options.run_dir)?;

    let logger = Logger { shared: shared.clone(), sent: sent_out, answers: answers_out, notes: notes_out };
    // What cannot be recorded is not sent.
    let (dir, stop_sending) = (options.run_dir.clone(), stop.clone());
    let logging = spawn("logger", move || logger.run(&dir).inspect_err(|_| _ = stop_sending.ask()));
    let (monitored, asked, streams) = (shared.clone(), options.clone(), plan.meta.streams.clone());
    threads.add("monitor", move || monitor::run(&monitored, &asked, &streams));
    if let Some(listener) = scraped {
        let (told, meta) = (shared.clone(), plan.meta.clone());
        threads.add("metrics", move || metrics::serve(&told, &meta, listener));
    }
    let receivers = options.receivers.clone();
    let loader = Loader { shared: shared.clone(), plan: plan.clone(), encoder, receivers, stretches, out: frames_in };
    let path = options.schedule.clone();
    threads.add("loader", move || loader.run(&path));
    match over_http {
        Some(http) => http.start(&mut threads, ways, &granted),
        None => start_nats(&mut threads, ways, opened, options, plan, &granted),
    }

    wait_for_the_end(&shared, options, plan, progress, steps.as_mut());
    shared.finish.store(true, Relaxed);
    let mut cpu_ns = threads.join();
    drop(awake);
    shared.logged.store(true, Relaxed);
    let (logged, logger_cpu_ns) = logging.join().expect("the logger does not panic");
    logged?;
    cpu_ns.push(("logger", logger_cpu_ns));
    if let Some(error) = shared.failure.lock().expect("no panic while locked").take() {
        return Err(error);
    }
    let granted = granted.lock().expect("no panic while locked").clone();
    close(&shared, options, Manifest { granted, totals: totals(&shared.counters, cpu_ns), ..manifest })
}

/// What the threads of a transport take, and where they bring it.
struct Ways {
    frames: mpsc::Receiver<FrameBatch>,
    released: Released,
    sends: SentLog,
    answers: AnswerLog,
    decoder: Decoder,
}

fn start_nats(threads: &mut Threads, ways: Ways, opened: Vec<Connected>, options: &Options, plan: &Plan, granted: &Arc<Mutex<Granted>>) {
    let shared = ways.sends.shared.clone();
    let (incoming_in, incoming) = mpsc::channel();
    install(&shared.connections, opened, &incoming_in);
    let receiver = Receiver { shared: shared.clone(), decoder: ways.decoder, incoming, log: ways.answers };
    threads.add("receiver", move || receiver.run());
    let (reconnecting, nats) = (shared.clone(), options.nats.clone());
    threads.add("reconnect", move || reconnect::run(&reconnecting, &nats, &incoming_in));
    let sender = Sender {
        shared,
        batches: ways.frames,
        released: ways.released,
        log: ways.sends,
        rate_per_sec: peak_rate_per_sec(plan),
        on_disconnect: options.on_disconnect,
        write_spacing_ns: options.write_spacing_ns,
        give_up_ns: drain_timeout_ns(options, plan),
    };
    threads.pace(granted, move || sender.run());
}

/// What is there before an HTTP run begins.
struct OverHttp {
    exchanges: Arc<Exchanges>,
    told: (mpsc::Sender<Told>, mpsc::Receiver<Told>),
    rate_per_sec: f64,
    write_spacing_ns: i64,
    give_up_ns: i64,
}

impl OverHttp {
    fn new(shared: &Arc<Shared>, options: &Options, plan: &Plan) -> Result<OverHttp, Error> {
        if plan.servers.contains("") && options.http.base_url.is_none() {
            return Err(Error::Plan(format!(
                "{}: some requests name no server; say --base-url http://HOST:PORT",
                options.schedule.display()
            )));
        }
        let most = match options.connections {
            Connections::Direct => options.connections.number(plan)?.into(),
            Connections::Shared(_) => options.http.max_connections,
        };
        allow_files((most * plan.servers.len().max(1) + plan.socket_sessions.len()) as u64)?;
        let told = mpsc::channel();
        Ok(OverHttp {
            exchanges: Arc::new(Exchanges::new(shared.clone(), options, &plan.meta, told.0.clone())?),
            told,
            rate_per_sec: peak_rate_per_sec(plan),
            write_spacing_ns: options.write_spacing_ns,
            give_up_ns: drain_timeout_ns(options, plan),
        })
    }

    fn start(self, threads: &mut Threads, ways: Ways, granted: &Arc<Mutex<Granted>>) {
        let exchanges = self.exchanges.clone();
        let dispatcher = Dispatcher {
            shared: ways.sends.shared.clone(),
            batches: ways.frames,
            released: ways.released,
            sockets: Sockets::new(self.exchanges.clone()),
            exchanges: self.exchanges,
            told: self.told.0,
            rate_per_sec: self.rate_per_sec,
            write_spacing_ns: self.write_spacing_ns,
            give_up_ns: self.give_up_ns,
        };
        let Ways { decoder, sends, answers, .. } = ways;
        let collector = Collector { exchanges, told: self.told.1, decoder, sends, answers, pushed: HashMap::new() };
        threads.add("collector", move || collector.run());
        threads.pace(granted, move || dispatcher.run());
    }
}

/// The last word on the run.
fn close(shared: &Shared, options: &Options, mut manifest: Manifest) -> Result<Report, Error> {
    let last = shared.progress();
    manifest.state = if shared.stop.asked() > 0 { State::Interrupted } else { State::Complete };
    manifest.end_ns = Some(last.t_ns);
    manifest.write(&options.run_dir)?;
    Ok(Report { manifest, progress: last, dropped: shared.counters.dropped.load(Relaxed) })
}

/// Gives each connection its stream, and the receiver all of them.
fn install(connections: &[Connection], opened: Vec<Connected>, incoming: &mpsc::Sender<Incoming>) {
    for (connection, connected) in connections.iter().zip(opened) {
        let stream = Arc::new(connected.stream);
        connection.install(stream.clone());
        let new = Incoming { connection: connection.index, generation: connection.generation(), stream, buffer: connected.received };
        incoming.send(new).expect("the receiver is not yet started");
    }
}

#[derive(Default)]
struct Threads(Vec<(&'static str, JoinHandle<((), i64)>)>);

impl Threads {
    fn add(&mut self, name: &'static str, run: impl FnOnce() + Send + 'static) {
        self.0.push((name, spawn(name, run)));
    }

    /// The thread that keeps the times.
    fn pace(&mut self, granted: &Arc<Mutex<Granted>>, run: impl FnOnce() + Send + 'static) {
        let asked = granted.clone();
        self.add("pacer", move || {
            request_pacing(&mut asked.lock().expect("no panic while locked"));
            run();
        });
    }

    /// What each took of a core, ns.
    fn join(self) -> Vec<(&'static str, i64)> {
        let end =
            |(name, thread): (&'static str, JoinHandle<((), i64)>)| (name, thread.join().expect("a thread of the replay does not panic").1);
        self.0.into_iter().map(end).collect()
    }
}

/// A thread that also says how much CPU time it took, ns.
fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<(T, i64)> {
    Builder::new().name(name.into()).spawn(|| (run(), thread_cpu_ns())).expect("the system gives a thread")
}

/// Timer slack of 1 ns and real-time scheduling, as far as they are granted.
fn request_pacing(granted: &mut Granted) {
    let slack = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)).is_ok();
    (granted.sched_fifo, granted.timer_slack_ns) = (os::request_fifo(), if slack { 1 } else { 50_000 });
}

fn peak_rate_per_sec(plan: &Plan) -> f64 {
    plan.meta.peak_rate_per_sec * plan.tempo.speed()
}

fn buffer_records(plan: &Plan, per_op: f64) -> usize {
    let records = peak_rate_per_sec(plan) * per_op * BUFFER_SECONDS;
    (records as usize).clamp(*BUFFER_RECORDS.start(), *BUFFER_RECORDS.end())
}

/// A buffer between two threads whose memory has been written once: the system gives memory on first use, which takes
/// microseconds a page, and a hot thread has none to give.
fn touched<T>(records: usize, any: impl Fn() -> T) -> (rtrb::Producer<T>, rtrb::Consumer<T>) {
    let (mut into, mut out) = rtrb::RingBuffer::new(records);
    while into.push(any()).is_ok() {}
    while out.pop().is_ok() {}
    (into, out)
}

/// Publishing connections first, then one for all answers on subjects.
fn connect_all(options: &Options, publishing: u16, decoder: &Decoder) -> Result<(Vec<Connection>, Vec<Connected>), Error> {
    let listening = options.receivers.as_ref().map_or(0, |receivers| receivers.listeners.len());
    let total = usize::from(publishing) + listening + 1;
    if total > usize::from(u16::MAX) {
        return Err(Error::Plan(format!(
            "{total} connections are more than can be told apart ({}); share some with --receiver-pool",
            u16::MAX
        )));
    }
    allow_files(total as u64)?;
    let mut connections: Vec<Connection> = (0..publishing)
        .map(|i| {
            let prefix = format!("_INBOX.{}{i}", options.run);
            Connection::new(i, Role::Publish, prefix.clone(), vec![format!("{prefix}.>")])
        })
        .collect();
    let mut listen = |subjects: Vec<String>, sources: Vec<u16>, recipient: u64| {
        let index = connections.len() as u16;
        let mut connection = Connection::new(index, Role::Answers, format!("_INBOX.{}{index}", options.run), subjects);
        (connection.sources, connection.recipient) = (sources, recipient);
        connections.push(connection);
    };
    let theirs = options.receivers.as_ref().map(|receivers| receivers.patterns()).unwrap_or_default();
    let (subjects, sources): (Vec<String>, Vec<u16>) =
        decoder.subjects().into_iter().zip(0u16..).filter(|(subject, _)| !theirs.contains(subject.as_str())).unzip();
    if !subjects.is_empty() {
        listen(subjects, sources, 0);
    }
    for receivers in options.receivers.iter() {
        for listener in &receivers.listeners {
            let subjects = listener.subjects.iter().map(|(subject, _)| subject.clone()).collect();
            listen(subjects, receivers.sources(listener, decoder), xxh3_64(listener.name.as_bytes()));
        }
    }
    let mut opened = Vec::new();
    for connection in &connections {
        let mut connected = wire::connect_any(&options.nats, 0)?;
        connection.prepare(&mut connected)?;
        opened.push(connected);
    }
    Ok((connections, opened))
}

/// Open files besides connections: the log, the schedule, the server's binary.
const OTHER_FILES: u64 = 100;

/// Raises the limit of open files, if it must and may be.
fn allow_files(connections: u64) -> Result<(), Error> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let (wanted, limit) = (connections + OTHER_FILES, getrlimit(Resource::Nofile));
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).map_err(|_| {
        let most = limit.maximum.map_or("unknown".to_owned(), |n| n.to_string());
        Error::Plan(format!("{connections} connections need {wanted} open files and the limit is {most}; raise it with ulimit -Hn, or use fewer --connections"))
    })
}

fn manifest(options: &Options, plan: &Plan, roles: impl Iterator<Item = Role>, opened: &[Connected], anchor_epoch_ns: i64) -> Manifest {
    let mut target: Vec<String> = opened.iter().map(|c| format!("{} nats-server {}", c.server, c.info.version)).collect();
    target.dedup();
    if plan.transport == Transport::Web {
        let base = options.http.base_url.iter().map(|url| without_users(url));
        target = if base.len() > 0 { base.collect() } else { plan.servers.iter().map(|url| without_users(url)).collect() };
    }
    let connection = |(role, c): (Role, &Connected)| ConnectionInfo { role, server: c.server.to_string() };
    Manifest {
        format: RUN_FORMAT,
        run: options.run.clone(),
        state: State::Running,
        tool: concat!("retempo ", env!("CARGO_PKG_VERSION")).into(),
        command: options.command.clone(),
        anchor_epoch_ns,
        schedule: plan.meta.clone(),
        schedule_path: options.schedule.display().to_string(),
        speed: plan.tempo.speed(),
        loops: plan.loops,
        planned_ops: plan.ops,
        intended_rate_per_sec: plan.rate_per_sec,
        target,
        connections: roles.zip(opened).map(connection).collect(),
        granted: Granted::default(),
        host: host(),
        end_ns: None,
        totals: BTreeMap::new(),
    }
}

fn host() -> HostInfo {
    let uname = rustix::system::uname();
    let info = rustix::system::sysinfo();
    HostInfo {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: info.totalram * u64::from(info.mem_unit),
        kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
    }
}

fn totals(c: &Counters, cpu_ns: Vec<(&str, i64)>) -> BTreeMap<String, i64> {
    let named = [
        ("due", &c.due),
        ("sent", &c.sent),
        ("sent_bytes", &c.sent_bytes),
        ("expected_answers", &c.expected),
        ("answers", &c.answers),
        ("foreign", &c.foreign),
        ("dropped", &c.dropped),
    ];
    let counted = named.into_iter().map(|(name, value)| (name.to_owned(), value.load(Relaxed)));
    counted.chain(cpu_ns.into_iter().map(|(thread, ns)| (format!("cpu_ns:{thread}"), ns))).collect()
}

fn drain_timeout_ns(options: &Options, plan: &Plan) -> i64 {
    options.drain_timeout_ns.unwrap_or_else(|| plan.meta.longest_timeout_ns())
}

/// Until the drain is over: every expected answer is in and it was quiet for a while, or the longest timeout has passed.
fn wait_for_the_end(
    shared: &Shared,
    options: &Options,
    plan: &Plan,
    progress: &mut dyn FnMut(&Progress),
    mut steps: Option<&mut Steps<'_, '_>>,
) {
    let longest_ns = drain_timeout_ns(options, plan);
    let (mut next_progress, mut interrupted) = (PROGRESS_NS, false);
    loop {
        shared.clock.sleep_until(shared.clock.now_ns() + TICK_NS, 0);
        let now = shared.clock.now_ns();
        if now >= next_progress {
            next_progress += PROGRESS_NS;
            progress(&shared.progress());
        }
        let asked = shared.stop.asked();
        if asked > 0 && !interrupted {
            interrupted = true;
            shared.event(EventKind::Interrupted, asked.into(), None);
        }
        if asked > 1 {
            return shared.event(EventKind::Drained, 0, Some("asked twice to stop"));
        }
        if let Some(steps) = &mut steps {
            steps.tick(shared, || drained(shared, options.drain_quiet_ns, longest_ns).is_some());
        }
        if shared.sending_done.load(Relaxed)
            && let Some(reason) = drained(shared, options.drain_quiet_ns, longest_ns)
        {
            return shared.event(EventKind::Drained, 0, Some(reason));
        }
    }
}

/// Whether the answers to everything sent so far are in, or will not come: why.
fn drained(shared: &Shared, quiet_ns: i64, longest_ns: i64) -> Option<&'static str> {
    let (c, now) = (&shared.counters, shared.clock.now_ns());
    let is_quiet = now - c.last_answer_ns.load(Relaxed).max(c.last_sent_ns.load(Relaxed)) >= quiet_ns;
    let waited_ns = now - c.last_sent_ns.load(Relaxed);
    let all_in = c.answers.load(Relaxed) == c.expected.load(Relaxed) && c.answers_hash.load(Relaxed) == c.expected_hash.load(Relaxed);
    match () {
        () if all_in && is_quiet => Some("every expected answer is in"),
        // Strictly past every deadline, so that what is missing then is missing.
        () if waited_ns > longest_ns + TICK_NS => Some("the longest timeout has passed"),
        () => None,
    }
}
