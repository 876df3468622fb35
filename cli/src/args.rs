//! What may be typed. No defaults of the libraries are repeated here, and no work is done.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use schedule::units;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Compose traffic, replay it open-loop at any tempo, decide from the raw log.
#[derive(Debug, Parser)]
#[command(name = "retempo", version, max_term_width = 110, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 PASS or done · 1 could not run · 2 usage or bad input · 3 TRIP · 4 INCONCLUSIVE · 130 interrupted\n\n\
Examples:\n  retempo demo --duration 3s\n  retempo preset list"
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything at once, on a nats-server and a stand-in started for it
    Demo(Demo),
    /// The workloads that come with retempo
    Preset(Preset),
    /// Turn a workload into a schedule
    Compile(Compile),
    /// What is in a schedule, or in a run
    Inspect(Inspect),
    /// Write a population into MongoDB
    Seed(Seed),
    /// Remove from MongoDB what seed wrote, and nothing else
    Teardown(Teardown),
    /// Send one op of each action and show what answers
    Check(Check),
    /// Send a schedule and log everything
    Replay(Replay),
    /// Record live traffic as a schedule
    Capture(Capture),
    /// Turn a recording of another tool into a schedule
    Import(Import),
    /// Keep some ops of a schedule
    Cut(Cut),
    /// Several schedules at once
    #[command(
        after_help = "Examples:\n  retempo merge a.parquet small.parquet -o both.parquet\n  retempo merge a.parquet a.parquet -o twice.parquet"
    )]
    Merge(Several),
    /// Several schedules one after the other
    #[command(
        after_help = "Examples:\n  retempo concat a.parquet small.parquet -o long.parquet\n  retempo concat a.parquet a.parquet -o again.parquet"
    )]
    Concat(Several),
    /// The sessions of a schedule several times
    Scale(Scale),
    /// How faithful a copy is: a schedule against another, or against a run of it
    Fidelity(FidelityArgs),
    /// Walk given steps and say how much the target takes, and what breaks next
    Ramp(Ramp),
    /// Find how much the target takes, with an interval
    Search(SearchArgs),
    /// Percentiles and a verdict, from the log of a run
    Analyze(Analyze),
    /// Conditions from a run that went well
    Slo(Slo),
    /// Run the chat services, small and faithful, behind a nats-server
    Standin(StandinArgs),
    /// Run a search gateway or a market service, small, over HTTP
    StandinWeb(StandinWebArgs),
    /// Completions for a shell
    Completions(Completions),
}

fn count_u32(text: &str) -> Result<u32, String> {
    units::parse_count(text).and_then(|n| u32::try_from(n).map_err(|_| format!("`{text}` is too large")))
}

fn rate_per_sec(text: &str) -> Result<f64, String> {
    units::parse_rate(text).map(|(num, den)| num as f64 / den as f64)
}

/// A port alone is one of this machine only.
fn metrics_addr(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    let address = port.parse().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    address.or_else(|_| text.parse()).map_err(|_| format!("`{text}` is not an address; write 9099, or 0.0.0.0:9099 for every interface"))
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo demo --duration 3s\n  retempo demo --preset small --rate 200 --duration 2s")]
pub struct Demo {
    /// Workload to run
    #[arg(long, default_value = "medium")]
    pub preset: String,
    /// Operations per second
    #[arg(long, value_parser = rate_per_sec)]
    pub rate: Option<f64>,
    /// How long
    #[arg(long, default_value = "20s", value_parser = units::parse_duration_ns)]
    pub duration: i64,
    /// Folder for run folders
    #[arg(long, default_value = "runs")]
    pub runs: PathBuf,
    /// Exit by the verdict: 3 for TRIP, 4 for INCONCLUSIVE
    #[arg(long)]
    pub verdict: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo preset list\n  retempo preset show medium")]
pub struct Preset {
    #[command(subcommand)]
    pub command: PresetCommand,
}

#[derive(Debug, Subcommand)]
pub enum PresetCommand {
    /// Names and what they are
    #[command(after_help = "Examples:\n  retempo preset list\n  retempo preset list | head -1")]
    List,
    /// The workload file of a preset, to copy and change
    #[command(after_help = "Examples:\n  retempo preset show medium\n  retempo preset show realistic > my.toml")]
    Show {
        /// Name of the preset
        name: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ImportFormat {
    /// A JSON object a line, with --map
    Ndjson,
    /// A header line, with --map
    Csv,
    /// GoReplay's request file
    Gor,
    /// HTTP archive
    Har,
    /// vegeta's JSON targets, with --rate
    Vegeta,
    /// Packets of the NATS protocol: pcap or pcapng, from tcpdump or Wireshark
    Pcap,
    /// Folder of `nats sub --dump`
    NatsDump,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  \
echo '{\"t\":1,\"s\":\"a\"}' >r; retempo import ndjson r --map time=/t,subject=/s -o i1.parquet\n  \
echo '{\"method\":\"GET\",\"url\":\"http://h/\"}' >t; retempo import vegeta t --rate 10 -o i2.parquet")]
pub struct Import {
    /// What kind of recording
    #[arg(value_enum)]
    pub format: ImportFormat,
    /// The recording
    pub file: PathBuf,
    /// Schedule to write
    #[arg(short, long)]
    pub output: PathBuf,
    /// Which field is what: time=/ts,subject=/subject,payload=/data,reply=/reply; or a TOML file with these and headers
    #[arg(long, value_name = "MAPPING")]
    pub map: Option<String>,
    /// Operations per second, for recordings without times
    #[arg(long, value_parser = rate_per_sec)]
    pub rate: Option<f64>,
    /// Of a pcap: the server's port
    #[arg(long, default_value_t = 4222)]
    pub port: u16,
    /// Of a pcap: only these subjects, and inboxes; may be repeated [default: all but those of the system]
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Vec<String>,
    #[command(flatten)]
    pub understanding: Understanding,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ArrivalsArg {
    Poisson,
    Uniform,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  retempo compile small --duration 2s -o small.parquet\n  retempo compile medium --rate 1000 --duration 3s --seed 7 -o a.parquet"
)]
pub struct Compile {
    /// Workload file (.toml) or name of a preset
    pub workload: String,
    /// Schedule to write
    #[arg(short, long)]
    pub output: PathBuf,
    /// Seed of every draw
    #[arg(long)]
    pub seed: Option<u64>,
    /// Operations per second: 500, 2k, 50/s
    #[arg(long, value_parser = rate_per_sec)]
    pub rate: Option<f64>,
    /// How long: 30s, 5m
    #[arg(long, value_parser = units::parse_duration_ns)]
    pub duration: Option<i64>,
    /// Number of users of the chat population
    #[arg(long, value_parser = count_u32)]
    pub users: Option<u32>,
    /// Gaps between operations
    #[arg(long)]
    pub arrivals: Option<ArrivalsArg>,
    /// Which of the workload's ways in: frontdoor or canonical
    #[arg(long)]
    pub inject: Option<String>,
    /// Any other value of the workload: action.send.timeout=2s; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// Overwrite the output
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo inspect a.parquet\n  retempo inspect a.parquet --json")]
pub struct Inspect {
    /// Schedule file, or run folder
    pub schedule: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Fixture {
    /// Schedule file, workload file (.toml) or name of a preset
    pub fixture: String,
    /// MongoDB; the database is that of the URI, or `chat`
    #[arg(long, env = "RETEMPO_MONGO", value_name = "URI", hide_env_values = true, default_value = "mongodb://127.0.0.1:27017")]
    pub mongo: String,
    /// Messages of before go into this Cassandra: HOST:PORT, several by commas. User and password by CASSANDRA_USERNAME and CASSANDRA_PASSWORD
    #[arg(long, env = "CASSANDRA_HOSTS", value_name = "HOSTS", value_delimiter = ',', hide_env_values = true)]
    pub cassandra: Vec<String>,
    /// … into this keyspace
    #[arg(long, env = "CASSANDRA_KEYSPACE", default_value = "chat", hide_env_values = true)]
    pub keyspace: String,
    /// … in buckets of so many hours, as its services are set
    #[arg(long, env = "MESSAGE_BUCKET_HOURS", default_value_t = fixtures::cassandra::BUCKET_HOURS, hide_env_values = true)]
    pub bucket_hours: i64,
    /// Seed of the population, for a workload or preset
    #[arg(long)]
    pub seed: Option<u64>,
    /// Number of users, for a workload or preset
    #[arg(long, value_parser = count_u32)]
    pub users: Option<u32>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo seed a.parquet\n  retempo seed small --seed 7")]
pub struct Seed {
    #[command(flatten)]
    pub fixture: Fixture,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo teardown a.parquet\n  retempo teardown small --seed 7")]
pub struct Teardown {
    #[command(flatten)]
    pub fixture: Fixture,
}

#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Server")]
pub struct Nats {
    /// Server addresses, separated by commas
    #[arg(short, long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222", value_delimiter = ',', hide_env_values = true)]
    pub server: Vec<String>,
    /// File with a user JWT and its nkey seed
    #[arg(long, env = "NATS_CREDS", value_name = "FILE", hide_env_values = true)]
    pub creds: Option<PathBuf>,
    /// File with an nkey seed
    #[arg(long, env = "NATS_NKEY", value_name = "FILE", hide_env_values = true)]
    pub nkey: Option<PathBuf>,
    /// User name
    #[arg(long, env = "NATS_USER", hide_env_values = true)]
    pub user: Option<String>,
    /// Password of the user; better given by the variable
    #[arg(long, env = "NATS_PASSWORD", hide_env_values = true, requires = "user")]
    pub password: Option<String>,
    /// Token; better given by the variable
    #[arg(long, env = "NATS_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Ask for TLS even if the server does not require it
    #[arg(long)]
    pub tls: bool,
    /// Authorities to trust instead of the system's, PEM
    #[arg(long, env = "NATS_CA", value_name = "FILE", hide_env_values = true)]
    pub tls_ca: Option<PathBuf>,
    /// Our certificate chain, PEM
    #[arg(long, env = "NATS_CERT", value_name = "FILE", hide_env_values = true)]
    pub tls_cert: Option<PathBuf>,
    /// Key of our certificate, PEM
    #[arg(long, env = "NATS_KEY", value_name = "FILE", hide_env_values = true)]
    pub tls_key: Option<PathBuf>,
    /// Send load to a server that is not on this machine
    #[arg(long)]
    pub yes: bool,
}

/// How requests over HTTP reach their servers.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "HTTP")]
pub struct Http {
    /// Send every request to this server: http://127.0.0.1:8080; a path in it comes before theirs
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub base_url: Option<String>,
    /// Open connections to a server, at most; past that requests wait, and are flagged
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=60_000))]
    pub max_connections: usize,
    /// A connection takes no longer to open
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = units::parse_duration_ns)]
    pub connect_timeout: i64,
    /// A response takes no longer to begin [default: no limit but the action's timeout]
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration_ns)]
    pub first_byte_timeout: Option<i64>,
    /// Header of every request, in place of its own: 'Accept: text/html'; may be repeated
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = header)]
    pub header: Vec<(String, String)>,
    /// Token for `Authorization: Bearer`: env:NAME or file:PATH
    #[arg(long, value_name = "SOURCE")]
    pub bearer: Option<String>,
    /// Address of a server: shop.test:443=127.0.0.1:8443; may be repeated
    #[arg(long, value_name = "NAME:PORT=ADDRESS", value_parser = resolve)]
    pub resolve: Vec<(String, std::net::SocketAddr)>,
    /// Take any certificate
    #[arg(long)]
    pub insecure: bool,
    /// Send requests over HTTP/2, up to 100 at a time over each connection
    #[arg(long)]
    pub http2: bool,
    /// Have each session keep its cookies
    #[arg(long)]
    pub cookies: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once(':').filter(|(name, _)| !name.trim().is_empty());
    parts.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).ok_or_else(|| format!("`{text}` is not NAME: VALUE"))
}

fn resolve(text: &str) -> Result<(String, std::net::SocketAddr), String> {
    let bad = || format!("`{text}` is not NAME:PORT=ADDRESS, like shop.test:443=127.0.0.1:8443");
    let (name, address) = text.split_once('=').filter(|(name, _)| name.contains(':')).ok_or_else(bad)?;
    Ok((name.to_owned(), address.parse().map_err(|_| bad())?))
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo check a.parquet\n  retempo check a.parquet --yes")]
pub struct Check {
    /// Schedule file
    pub schedule: PathBuf,
    #[command(flatten)]
    pub http: Http,
    #[command(flatten)]
    pub nats: Nats,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OnDisconnectArg {
    /// Send them late, flagged
    Hold,
    /// Do not send them, logged
    Skip,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo replay a.parquet --dry-run\n  retempo replay a.parquet --speed 2 -o run-1")]
pub struct Replay {
    /// Schedule file
    pub schedule: PathBuf,
    /// Run folder to write [default: runs/ULID]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Times as fast: 2, 0.5, 200%
    #[arg(long, conflicts_with = "rate")]
    pub speed: Option<String>,
    /// Operations per second: 500, 2k
    #[arg(long, value_parser = units::parse_rate)]
    pub rate: Option<(i128, i128)>,
    /// How often the schedule is sent
    #[arg(long)]
    pub loops: Option<u32>,
    /// Stop sending after this; loops as often as it takes, unless --loops
    #[arg(long, value_parser = units::parse_duration_ns)]
    pub duration: Option<i64>,
    /// Publishing connections, over NATS; over HTTP see --max-connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(replay::Connections::MAX)))]
    pub connections: u16,
    /// A connection for each session
    #[arg(long, conflicts_with = "connections")]
    pub direct: bool,
    #[command(flatten)]
    pub listening: Listening,
    /// Over NATS, least time between two writes: saves CPU at high rates, makes sends late by as much
    #[arg(long, default_value = "0s", value_parser = units::parse_duration_ns)]
    pub write_spacing: i64,
    /// Over NATS, operations due while a connection is down
    #[arg(long, value_enum, default_value = "hold")]
    pub on_disconnect: OnDisconnectArg,
    /// Longest wait for answers after the last send [default: the longest timeout of the schedule]
    #[arg(long, value_parser = units::parse_duration_ns)]
    pub drain_timeout: Option<i64>,
    /// Refuse to send faster than this
    #[arg(long, value_parser = rate_per_sec)]
    pub max_rate: Option<f64>,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub judge: Judge,
    #[command(flatten)]
    pub sight: Sight,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Refuse a schedule whose population this MongoDB does not hold
    #[arg(long, value_name = "URI")]
    pub mongo: Option<String>,
    #[command(flatten)]
    pub http: Http,
    #[command(flatten)]
    pub nats: Nats,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  retempo capture jetstream MESSAGES_site-local -o m.parquet\n  retempo replay a.parquet -q & retempo capture nats 'chat.>' --duration 2s -o c1.parquet"
)]
pub struct Capture {
    #[command(subcommand)]
    pub command: CaptureCommand,
}

#[derive(Debug, Subcommand)]
pub enum CaptureCommand {
    /// What is published on subjects from now on, and what answers
    #[command(after_help = "Examples:\n  retempo replay a.parquet -q & retempo capture nats 'chat.>' --duration 2s -o c2.parquet\n  \
retempo replay a.parquet -q & retempo capture nats 'chat.>' --max-messages 9 -o c3.parquet")]
    Nats(CaptureNats),
    /// What a stream holds, with the times at which it was stored
    #[command(after_help = "Examples:\n  retempo capture jetstream MESSAGES_site-local -o m2.parquet\n  \
retempo capture jetstream MESSAGES_site-local --from-sequence 5 --max-messages 100 -o m3.parquet")]
    Jetstream(CaptureJetstream),
}

#[derive(Debug, ClapArgs)]
pub struct CaptureNats {
    /// Subjects, with wildcards
    #[arg(required_unless_present = "finish")]
    pub subjects: Vec<String>,
    /// Schedule to write
    #[arg(short, long)]
    pub output: PathBuf,
    /// Stop after this
    #[arg(long, value_parser = units::parse_duration_ns)]
    pub duration: Option<i64>,
    /// Stop after so many messages
    #[arg(long)]
    pub max_messages: Option<u64>,
    /// Do not listen to reply inboxes (_INBOX.>) beside the subjects
    #[arg(long)]
    pub no_inboxes: bool,
    /// Listen to nothing: make the schedule of a capture that was cut off
    #[arg(long)]
    pub finish: bool,
    #[command(flatten)]
    pub understanding: Understanding,
    #[command(flatten)]
    pub nats: Nats,
}

#[derive(Debug, ClapArgs)]
pub struct CaptureJetstream {
    /// Name of the stream
    pub stream: String,
    /// Schedule to write
    #[arg(short, long)]
    pub output: PathBuf,
    /// Only these subjects of it
    #[arg(long, value_name = "SUBJECT")]
    pub filter: Option<String>,
    /// From this sequence on
    #[arg(long)]
    pub from_sequence: Option<u64>,
    /// What was stored in this last while only: 10m, 24h
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration_ns, conflicts_with = "from_sequence")]
    pub last: Option<i64>,
    /// At most so many messages
    #[arg(long)]
    pub max_messages: Option<u64>,
    #[command(flatten)]
    pub understanding: Understanding,
    #[command(flatten)]
    pub nats: Nats,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  retempo replay small.parquet -q -o sent && retempo fidelity small.parquet sent --gap 1s --drift 1s\n  \
retempo fidelity a.parquet twice.parquet --json || test $? = 3"
)]
pub struct FidelityArgs {
    /// The original, a schedule file
    pub original: PathBuf,
    /// The copy: a schedule file, or a run of the original
    pub copy: PathBuf,
    /// Largest 99th percentile of the error of gaps that is still faithful
    #[arg(long, default_value = "1ms", value_parser = units::parse_duration_ns)]
    pub gap: i64,
    /// Largest drift, from the first hundredth of the ops to the last
    #[arg(long, default_value = "1ms", value_parser = units::parse_duration_ns)]
    pub drift: i64,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Write a chart of the offset over time, SVG
    #[arg(long, value_name = "FILE")]
    pub chart: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  retempo cut a.parquet --from 1s --to 2s -o cut-1.parquet\n  retempo cut a.parquet --action send --sample 50% -o cut-2.parquet"
)]
pub struct Cut {
    /// Schedule file
    pub schedule: PathBuf,
    /// Schedule to write
    #[arg(short, long)]
    pub output: PathBuf,
    /// Leave out what comes before
    #[arg(long, default_value = "0s", value_parser = units::parse_duration_ns)]
    pub from: i64,
    /// … and what comes from here on
    #[arg(long, value_parser = units::parse_duration_ns)]
    pub to: Option<i64>,
    /// Only ops of this action; may be repeated
    #[arg(long)]
    pub action: Vec<String>,
    /// Only the first so many sessions
    #[arg(long, value_parser = count_u32)]
    pub sessions: Option<u32>,
    /// Only this share of the sessions: 10%
    #[arg(long, value_parser = units::parse_fraction)]
    pub sample: Option<f64>,
    /// Seed of the sample
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

/// Schedules that become one.
#[derive(Debug, ClapArgs)]
pub struct Several {
    /// Schedule files
    #[arg(required = true)]
    pub schedules: Vec<PathBuf>,
    /// Schedule to write
    #[arg(short, long)]
    pub output: PathBuf,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  retempo scale a.parquet --copies 3 -o s3.parquet\n  retempo scale a.parquet --copies 2 --entity 2 --spread 500ms -o s2.parquet"
)]
pub struct Scale {
    /// Schedule file
    pub schedule: PathBuf,
    /// Schedule to write
    #[arg(short, long)]
    pub output: PathBuf,
    /// How often its sessions are there, the original among them
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub copies: u32,
    /// Token of the subject, from 0, that names who acts: copies get other names of the same shape
    #[arg(long, allow_negative_numbers = true)]
    pub entity: Option<i32>,
    /// Copies begin up to so much later
    #[arg(long, default_value = "1s", value_parser = units::parse_duration_ns)]
    pub spread: i64,
    /// Seed of the beginnings and names
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

/// How captured messages are understood.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Understanding")]
pub struct Understanding {
    /// Take answer rules and streams from this workload file or preset
    #[arg(long, value_name = "WORKLOAD")]
    pub rules: Option<String>,
    /// Name of the action of a subject, with wildcards: send='chat.user.*.room.*.*.msg.send'; may be repeated
    #[arg(long, value_name = "NAME=SUBJECT", value_parser = key_value)]
    pub action: Vec<(String, String)>,
    /// Who sends: token:2, header:NAME, json:/POINTER, inbox or one
    #[arg(long, default_value = "one", value_name = "RULE")]
    pub session: capture::Session,
    /// An id beside UUIDs and 20 characters, as a regular expression: 'ord-([0-9a-z]{8})'; may be repeated
    #[arg(long, value_name = "REGEX", value_parser = id_rule)]
    pub id: Vec<regex::bytes::Regex>,
    /// How long a replay waits for answers
    #[arg(long, default_value = "5s", value_parser = units::parse_duration_ns)]
    pub timeout: i64,
    /// What is redacted beside credentials, by this TOML file; `off` keeps even those
    #[arg(long, value_name = "POLICY")]
    pub redact: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo analyze run-1\n  retempo analyze run-1 --slo 'send/reply p95 < 100ms' --html r.html")]
pub struct Analyze {
    /// Run folder
    pub run: PathBuf,
    #[command(flatten)]
    pub judge: Judge,
    /// Leave out what was due before
    #[arg(long, default_value = "0s", value_parser = units::parse_duration_ns)]
    pub warmup: i64,
    /// Length of the windows of charts and tables
    #[arg(long, value_parser = units::parse_duration_ns)]
    pub window: Option<i64>,
    /// Buckets by the size of the reply, in place of the schedule's
    #[arg(long)]
    pub by_size: bool,
    #[command(flatten)]
    pub outputs: Outputs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo slo suggest run-1 --factor 3\n  retempo slo suggest run-1 -o slo.toml")]
pub struct Slo {
    #[command(subcommand)]
    pub command: SloCommand,
}

#[derive(Debug, Subcommand)]
pub enum SloCommand {
    /// Write what a healthy run had, with room, as a file for --slo-file
    #[command(after_help = "Examples:\n  retempo slo suggest run-1 --factor 2\n  retempo slo suggest run-1 -o slo2.toml")]
    Suggest(SloSuggest),
}

#[derive(Debug, ClapArgs)]
pub struct SloSuggest {
    /// Run folder
    pub run: PathBuf,
    /// So many times as long as it took there may be
    #[arg(long, default_value_t = 1.5)]
    pub factor: f64,
    /// Leave out what was due before
    #[arg(long, default_value = "0s", value_parser = units::parse_duration_ns)]
    pub warmup: i64,
    /// File to write [default: standard output]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
}

/// Who receives what is fanned out.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Receivers")]
pub struct Listening {
    /// Receive as users do: the first so many by a connection of their own, to their own rooms
    #[arg(long, value_name = "USERS", value_parser = count_u32)]
    pub receivers: Option<u32>,
    /// … and the others by so many connections that they share
    #[arg(long, value_name = "N", default_value_t = 200, requires = "receivers")]
    pub receiver_pool: u32,
}

/// What is looked at while it runs.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "While it runs")]
pub struct Sight {
    /// Record the CPU of a part of the target: NAME=PID, NAME=CGROUP or NAME=CONTAINER; may be repeated
    #[arg(long, value_name = "NAME=PID")]
    pub watch: Vec<replay::Watch>,
    /// Record the CPU of the workload's stages from this Prometheus (by cAdvisor's containers)
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub prometheus: Option<String>,
    /// Ask it this for a part instead: NAME=QUERY, in cores; may be repeated
    #[arg(long, value_name = "NAME=QUERY", value_parser = named_query, requires = "prometheus")]
    pub prometheus_query: Vec<(String, String)>,
    /// Ask the server's monitoring port for backlogs, instead of the JetStream API
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub nats_monitoring: Option<String>,
    /// Serve live metrics for Prometheus here: 9099, or 127.0.0.1:9099
    #[arg(long, value_name = "ADDR", value_parser = metrics_addr)]
    pub metrics_addr: Option<SocketAddr>,
}

fn http_url(text: &str) -> Result<String, String> {
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    is_url.then(|| text.trim_end_matches('/').to_owned()).ok_or_else(|| format!("`{text}` is not an address; write http://HOST:PORT"))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    parts.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| format!("`{text}` is not KEY=VALUE"))
}

fn named_query(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(name, query)| !name.is_empty() && !query.is_empty());
    parts.map(|(name, query)| (name.to_owned(), query.to_owned())).ok_or_else(|| format!("`{text}` is not NAME=QUERY"))
}

/// What a report is written to besides standard output.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Report")]
pub struct Outputs {
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Write CSV files to this folder
    #[arg(long, value_name = "DIR")]
    pub csv: Option<PathBuf>,
    /// Write charts, SVG and PNG, to this folder
    #[arg(long, value_name = "DIR")]
    pub charts: Option<PathBuf>,
    /// Write the report page, one file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write a percentile table (.hgrm) of each series to this folder
    #[arg(long, value_name = "DIR")]
    pub hgrm: Option<PathBuf>,
}

/// What a run is judged by; with none of these, by the workload's own lines.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Verdict")]
pub struct Judge {
    /// Condition: 'send/reply p95 < 100ms'; may be repeated. The exit code is the verdict's
    #[arg(long, value_name = "LINE")]
    pub slo: Vec<String>,
    /// TOML file with slo = ["LINE", ...]
    #[arg(long, value_name = "FILE")]
    pub slo_file: Option<PathBuf>,
    /// Conditions that the reference load generator judges by: messages, daily, history, max-room-size
    #[arg(long, value_name = "NAME")]
    pub slo_preset: Option<String>,
    /// More than 1% of the sends later than this by retempo's own fault make a verdict INCONCLUSIVE; 1ms or more
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = late_after)]
    pub late_after: i64,
}

fn id_rule(text: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::Regex::new(text).map_err(|e| e.to_string())
}

/// What is no later than a millisecond has no cause in the log.
fn late_after(text: &str) -> Result<i64, String> {
    let late_ns = units::parse_duration_ns(text).map_err(|e| e.to_string())?;
    if late_ns < analyze::LATE_NS { Err("it is less than 1ms, and the log tells no cause for so little".into()) } else { Ok(late_ns) }
}

/// Steps of a run.
#[derive(Debug, ClapArgs)]
pub struct Course {
    /// Schedule file; it is looped as often as it takes
    pub schedule: PathBuf,
    /// Run folder to write [default: runs/ULID]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// At the start of each step, not counted
    #[arg(long, default_value = "5s", value_parser = units::parse_duration_ns)]
    pub warmup: i64,
    /// What counts of each step
    #[arg(long, default_value = "30s", value_parser = units::parse_duration_ns)]
    pub hold: i64,
    /// Between steps, at least; the next also waits until the target's consumers are drained
    #[arg(long, default_value = "2s", value_parser = units::parse_duration_ns)]
    pub cooldown: i64,
    /// Publishing connections, over NATS; over HTTP see --max-connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(replay::Connections::MAX)))]
    pub connections: u16,
    /// A connection for each session
    #[arg(long, conflicts_with = "connections")]
    pub direct: bool,
    #[command(flatten)]
    pub listening: Listening,
    #[command(flatten)]
    pub sight: Sight,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub judge: Judge,
    #[command(flatten)]
    pub http: Http,
    #[command(flatten)]
    pub nats: Nats,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo ramp a.parquet --steps 100,200 --warmup 1s --hold 2s\n  \
retempo ramp a.parquet --users-steps 10,20 --warmup 0s --hold 2s --slo 'missing == 0' --json")]
pub struct Ramp {
    /// Operations per second, ascending: 500,1k,2k
    #[arg(long, value_name = "LIST", conflicts_with = "users_steps")]
    pub steps: Option<String>,
    /// Users, ascending: the first so many sessions, each keeping its own rhythm
    #[arg(long, value_name = "LIST")]
    pub users_steps: Option<String>,
    /// Sizes, ascending: 50,100,200; of each, the ops of the bucket that begins with it
    #[arg(long, value_name = "LIST", conflicts_with_all = ["steps", "users_steps"])]
    pub size_steps: Option<String>,
    /// With --size-steps, operations per second of every size [default: the schedule's]
    #[arg(long, value_parser = rate_per_sec, requires = "size_steps")]
    pub rate: Option<f64>,
    /// End with the first step that trips
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub stop_on_trip: bool,
    #[command(flatten)]
    pub course: Course,
    #[command(flatten)]
    pub outputs: Outputs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo search a.parquet --from 100 --to 150 --warmup 0s --hold 1s\n  \
retempo search a.parquet --from 50 --to 100 --warmup 0s --hold 1s --slo-preset messages")]
pub struct SearchArgs {
    /// The first rate: 100, 2k
    #[arg(long, value_parser = rate_per_sec, default_value = "100")]
    pub from: f64,
    /// Never above this
    #[arg(long, value_parser = rate_per_sec, default_value = "100k")]
    pub to: f64,
    /// How exactly the edge is wanted
    #[arg(long, value_parser = units::parse_fraction, default_value = "5%")]
    pub resolution: f64,
    /// Trials at most
    #[arg(long, default_value_t = 30)]
    pub trials: usize,
    /// Order of the repeats at the edge
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    #[command(flatten)]
    pub course: Course,
    #[command(flatten)]
    pub outputs: Outputs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo standin --schedule a.parquet --for 1s\n  \
retempo standin --schedule a.parquet --for 1s --fault drop=1% --ledger f.jsonl")]
pub struct StandinArgs {
    /// Schedule whose population it serves [default: preset medium]
    #[arg(long)]
    pub schedule: Option<PathBuf>,
    /// Take the population from this MongoDB instead
    #[arg(long, value_name = "URI")]
    pub mongo: Option<String>,
    /// Something that goes wrong: drop=1%, error_reply=1%:unavailable, late_reply=1%:2s, missing_broadcast=1%, duplicate_broadcast=1%,
    /// reorder=1%:300ms, stall=broadcast-worker:5s:2s; may be repeated
    #[arg(long)]
    pub fault: Vec<standin::Fault>,
    /// Service time of a stage: message-gatekeeper=2ms, broadcast-worker=exp:2ms, message-worker=lognormal:2ms:0.5 or bimodal:2ms:200ms:10%
    #[arg(long, value_name = "STAGE=TIME", value_parser = stage_service)]
    pub service: Vec<(standin::StageName, standin::ServiceTime)>,
    /// Messages that a stage handles at a time: message-gatekeeper=100
    #[arg(long, value_name = "STAGE=N", value_parser = stage_concurrency)]
    pub concurrency: Vec<(standin::StageName, usize)>,
    /// Most members of a room
    #[arg(long, default_value_t = 1_000)]
    pub max_room_size: usize,
    /// What adding members takes more for each member that the room has
    #[arg(long, default_value = "0s", value_parser = units::parse_duration_ns)]
    pub per_member: i64,
    /// A presence connection that says nothing for so long is taken for dead [default: the workload's [life.sweeper], or 45s]
    #[arg(long, value_parser = units::parse_duration_ns)]
    pub stale: Option<i64>,
    #[command(flatten)]
    pub stand: Stand,
    #[command(flatten)]
    pub nats: Nats,
}

/// How a stand-in is run, whatever it stands in for.
#[derive(Debug, ClapArgs)]
pub struct Stand {
    /// Seed of faults and service times
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Write every injected fault to this file, a JSON line each
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Stop by itself after this
    #[arg(long = "for", value_name = "TIME", value_parser = units::parse_duration_ns)]
    pub lifetime: Option<i64>,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  retempo standin-web market --listen 127.0.0.1:0 --for 1s\n  retempo standin-web gateway --listen 127.0.0.1:0 --fault error@search=1%:503 --for 1s"
)]
pub struct StandinWebArgs {
    /// What it serves: gateway or market
    pub service: standin::Service,
    /// Where it listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: std::net::SocketAddr,
    /// Schedule whose table `worker` the gateway finds [default: preset multitier]
    #[arg(long)]
    pub schedule: Option<PathBuf>,
    /// Something that goes wrong: error@search=1%:503, late=1%:300ms, drop=1%, wrong@push=1%, big@push=1%, disconnect=1%, overload=8,
    /// stall=5s:2s; may be repeated
    #[arg(long)]
    pub fault: Vec<standin::WebFault>,
    /// What a request takes: 2ms, exp:2ms, lognormal:2ms:0.5 or bimodal:2ms:200ms:10%
    #[arg(long, default_value = "none", value_name = "TIME")]
    pub service_time: standin::ServiceTime,
    /// Requests in any second, at most; more are answered 429
    #[arg(long, value_name = "N")]
    pub rate_limit: Option<u64>,
    /// Who has not this bearer token is answered 401
    #[arg(long, env = "RETEMPO_STANDIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Between the pushes over a WebSocket
    #[arg(long, default_value = "200ms", value_name = "TIME", value_parser = units::parse_duration_ns)]
    pub push_every: i64,
    #[command(flatten)]
    pub stand: Stand,
}

fn stage_service(text: &str) -> Result<(standin::StageName, standin::ServiceTime), String> {
    let (stage, time) = text.split_once('=').ok_or("write STAGE=TIME, like message-gatekeeper=2ms")?;
    Ok((stage.parse()?, time.parse()?))
}

fn stage_concurrency(text: &str) -> Result<(standin::StageName, usize), String> {
    let (stage, n) = text.split_once('=').ok_or("write STAGE=N, like message-gatekeeper=100")?;
    match n.parse() {
        Ok(n @ 1..=10_000) => Ok((stage.parse()?, n)),
        _ => Err(format!("`{n}` is not a number from 1 to 10000")),
    }
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  retempo completions bash\n  retempo completions zsh > _retempo")]
pub struct Completions {
    /// Which shell
    pub shell: clap_complete::Shell,
}
