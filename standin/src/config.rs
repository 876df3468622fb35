use crate::{Fault, chance};
use fixtures::Workload;
use schedule::units;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How a stand-in behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// Site id in subjects and stream names.
    pub site: String,
    /// Seed of service times and faults.
    pub seed: u64,
    /// Rooms with more members take messages from owners only.
    pub large_room_threshold: usize,
    /// Settings of the stages, by [`StageName`] as index.
    pub stages: [StageConfig; STAGES],
    /// Most members of a room.
    pub room_size_max: usize,
    /// What adding members takes beside its service time, for each member that the room has.
    pub per_member: Duration,
    /// A presence connection that says nothing for so long is taken for dead …
    pub stale: Duration,
    /// … when the sweeper comes by, which it does this often …
    pub sweep: Duration,
    /// … and for so many at a time.
    pub sweep_max: usize,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// A JSON line for every fault injected.
    pub ledger: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            site: "site-local".into(),
            seed: 42,
            large_room_threshold: 500,
            stages: [StageConfig { concurrency: 100, service: ServiceTime::None }; STAGES],
            room_size_max: 1_000,
            per_member: Duration::ZERO,
            stale: Duration::from_secs(45),
            sweep: Duration::from_secs(5),
            sweep_max: 500,
            faults: Vec::new(),
            ledger: None,
        }
    }
}

impl Config {
    /// For a workload: its site, and the sweeper that it counts on.
    pub fn of(workload: &Workload) -> Config {
        let mut config = Config::default();
        if let Some(site) = workload.vars.get("site") {
            config.site.clone_from(site);
        }
        if let Some(sweeper) = workload.life.as_ref().and_then(|life| life.sweeper.as_ref()) {
            (config.stale, config.sweep) = (Duration::from_nanos(sweeper.stale_ns as u64), Duration::from_nanos(sweeper.every_ns as u64));
            config.sweep_max = sweeper.most as usize;
        }
        config
    }

    pub(crate) fn stage(&self, name: StageName) -> &StageConfig {
        &self.stages[name as usize]
    }
}

/// How many stages there are.
pub(crate) const STAGES: usize = 9;

/// The stages: workers behind streams, then services that answer requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageName {
    /// Checks, replies, publishes canonical messages.
    Gatekeeper = 0,
    /// Stores.
    MessageWorker = 1,
    /// Fans out.
    BroadcastWorker = 2,
    /// Pushes.
    NotificationWorker = 3,
    /// Adds members and creates rooms.
    RoomWorker = 4,
    /// Checks what is asked of rooms; marks as read, mutes.
    RoomService = 5,
    /// Messages of before.
    HistoryService = 6,
    /// Rooms of a user.
    UserService = 7,
    /// Who is there.
    PresenceService = 8,
}

impl StageName {
    const ALL: [StageName; STAGES] = [
        StageName::Gatekeeper,
        StageName::MessageWorker,
        StageName::BroadcastWorker,
        StageName::NotificationWorker,
        StageName::RoomWorker,
        StageName::RoomService,
        StageName::HistoryService,
        StageName::UserService,
        StageName::PresenceService,
    ];

    /// The name of its durable, or of its queue group.
    pub fn durable(self) -> &'static str {
        [
            "message-gatekeeper",
            "message-worker",
            "broadcast-worker",
            "notification-worker",
            "room-worker",
            "room-service",
            "history-service",
            "user-service",
            "presence-service",
        ][self as usize]
    }
}

impl FromStr for StageName {
    type Err = String;
    fn from_str(text: &str) -> Result<StageName, String> {
        let fits = |s: &StageName| s.durable() == text || s.durable().strip_prefix("message-") == Some(text) && *s == StageName::Gatekeeper;
        let names = || StageName::ALL.map(StageName::durable).join(", ");
        StageName::ALL.into_iter().find(fits).ok_or_else(|| format!("`{text}` is no stage; there are {}", names()))
    }
}

/// Settings of a stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StageConfig {
    /// Messages handled at a time.
    pub concurrency: usize,
    /// Time each takes.
    pub service: ServiceTime,
}

/// Distribution of a service time.
///
/// ```
/// let exponential: standin::ServiceTime = "exp:2ms".parse().unwrap();
/// assert!("lognormal:2ms".parse::<standin::ServiceTime>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ServiceTime {
    /// As fast as it can.
    None,
    /// `2ms`
    Constant(Duration),
    /// `exp:2ms`: exponential with this mean.
    Exponential(Duration),
    /// `lognormal:2ms:0.5`: with this median and sigma.
    Lognormal(Duration, f64),
    /// `bimodal:2ms:200ms:10%`: mostly the first, and the second with this share.
    Bimodal(Duration, Duration, f64),
}

impl FromStr for ServiceTime {
    type Err = String;
    fn from_str(text: &str) -> Result<ServiceTime, String> {
        let time = |text: &str| units::parse_duration_ns(text).map(|ns| Duration::from_nanos(ns as u64));
        match text.split(':').collect::<Vec<_>>()[..] {
            ["none"] => Ok(ServiceTime::None),
            ["exp", mean] => Ok(ServiceTime::Exponential(time(mean)?)),
            ["lognormal", median, sigma] => {
                let sigma = sigma.parse().map_err(|_| format!("`{sigma}` is not a sigma"))?;
                Ok(ServiceTime::Lognormal(time(median)?, sigma))
            }
            ["bimodal", fast, slow, share] => {
                let percent: Option<f64> = share.strip_suffix('%').and_then(|p| p.parse().ok()).filter(|p| (0.0..=100.0).contains(p));
                let percent = percent.ok_or_else(|| format!("`{share}` is not a share; write 10%"))?;
                Ok(ServiceTime::Bimodal(time(fast)?, time(slow)?, percent / 100.0))
            }
            [constant] => Ok(ServiceTime::Constant(time(constant)?)),
            _ => Err(format!("`{text}` is not a service time; write 2ms, exp:2ms, lognormal:2ms:0.5 or bimodal:2ms:200ms:10%")),
        }
    }
}

impl ServiceTime {
    /// The time that the message with this stream sequence takes in a stage.
    pub(crate) fn draw(self, seed: u64, sequence: u64, stage: &str) -> Duration {
        let unit = |purpose: &str| chance::unit(seed, sequence, &format!("{stage} {purpose}"));
        match self {
            ServiceTime::None => Duration::ZERO,
            ServiceTime::Constant(time) => time,
            ServiceTime::Exponential(mean) => mean.mul_f64(-libm::log(unit("u"))),
            ServiceTime::Bimodal(fast, slow, share) => {
                if unit("u") <= share {
                    slow
                } else {
                    fast
                }
            }
            ServiceTime::Lognormal(median, sigma) => {
                // Box-Muller.
                let normal = libm::sqrt(-2.0 * libm::log(unit("u"))) * libm::cos(2.0 * std::f64::consts::PI * unit("v"));
                median.mul_f64(libm::exp(sigma * normal))
            }
        }
    }
}
