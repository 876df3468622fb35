use runlog::{Chunk, Event, EventKind, Manifest, Metric, Role, State, StepMark, chunks};
use schedule::Whose;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Metrics are sampled this often, ns: the last sample before a step belongs to it.
const SAMPLE_NS: i64 = 1_100_000_000;

/// A run folder, opened: everything but the rows of the large logs.
pub struct Input {
    pub dir: PathBuf,
    pub manifest: Manifest,
    pub sends: Vec<Chunk>,
    pub replies: Vec<Chunk>,
    pub broadcasts: Vec<Chunk>,
    pub keyed: Vec<Chunk>,
    pub events: Vec<Event>,
    pub metrics: Vec<Metric>,
    /// Ops outside of these are of no interest.
    pub ops: Range<i64>,
    /// The schedule ended before its time.
    pub spent: bool,
    /// Steps that are over.
    pub steps: Vec<StepMark>,
    /// Observed up to here, ns.
    pub observed_ns: i64,
    /// Times without a connection.
    pub gaps: Vec<Gap>,
}

/// A connection was down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub connection: u16,
    /// Everything sent up to here had arrived.
    pub confirmed_ns: i64,
    pub lost_ns: i64,
    /// The end of the run, if it never came up again.
    pub up_ns: i64,
}

impl Input {
    pub fn open(dir: &Path) -> Result<Input, runlog::Error> {
        let manifest = Manifest::read(dir)?;
        let events: Vec<Event> = rows::<Event>(dir, |columns| columns.t_ns.len(), |columns, i| columns.row(i))?;
        let metrics = rows::<Metric>(dir, |columns| columns.t_ns.len(), |columns, i| columns.row(i))?;
        let flushed = events.iter().filter(|e| &*e.kind == EventKind::Flushed.name()).map(|e| e.value).max().unwrap_or(0);
        let observed_ns = manifest.end_ns.filter(|_| manifest.state != State::Running).unwrap_or(flushed);
        let gaps = gaps(&events, observed_ns);
        Ok(Input {
            sends: chunks::<runlog::Sent>(dir)?,
            replies: chunks::<runlog::Reply>(dir)?,
            broadcasts: chunks::<runlog::Broadcast>(dir)?,
            keyed: chunks::<runlog::Keyed>(dir)?,
            dir: dir.to_owned(),
            ops: i64::MIN..i64::MAX,
            spent: false,
            steps: steps(&events),
            manifest,
            events,
            metrics,
            observed_ns,
            gaps,
        })
    }

    /// What a step was, as a run of its own: it is over, whatever became of the run.
    pub fn of_step(mut self, mark: &StepMark) -> Input {
        self.ops = mark.first_op..mark.end_op;
        self.spent = mark.spent;
        let during = mark.from_ns.saturating_sub(SAMPLE_NS)..=mark.drained_ns;
        self.metrics.retain(|metric| during.contains(&metric.t_ns));
        self.events.retain(|event| during.contains(&event.t_ns));
        self.gaps.retain(|gap| gap.lost_ns <= mark.drained_ns && gap.up_ns >= mark.from_ns);
        self.manifest.state = State::Complete;
        self.steps.clear();
        self
    }

    /// Events of one kind.
    pub fn events_of(&self, kind: EventKind) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |e| &*e.kind == kind.name())
    }

    /// The largest value of a cumulative event.
    pub fn counter(&self, kind: EventKind) -> u64 {
        self.events_of(kind).map(|e| e.value as u64).max().unwrap_or(0)
    }

    /// Whether an answer to an op sent over `connection` could have come, between these times, while nobody listened.
    pub fn in_gap(&self, answer: u8, connection: u16, from_ns: i64, to_ns: i64) -> bool {
        let inbox = self.manifest.schedule.answers[usize::from(answer)].whose == Whose::Inbox;
        self.gaps.iter().any(|gap| {
            let role = self.manifest.connections.get(usize::from(gap.connection)).map(|c| c.role);
            let carries = if inbox { gap.connection == connection } else { role == Some(Role::Answers) };
            carries && gap.lost_ns <= to_ns && from_ns <= gap.up_ns
        })
    }

    /// Whether a send may never have reached the server.
    pub fn unconfirmed(&self, connection: u16, sent_ns: i64) -> bool {
        self.gaps.iter().any(|gap| gap.connection == connection && gap.confirmed_ns < sent_ns && sent_ns <= gap.lost_ns)
    }
}

/// What events say of steps; one that cannot be read is of a later version, and no step to us.
fn steps(events: &[Event]) -> Vec<StepMark> {
    let of_kind = events.iter().filter(|e| &*e.kind == EventKind::Step.name());
    of_kind.filter_map(|e| serde_json::from_str(e.text.as_deref()?).ok()).collect()
}

fn rows<T: runlog::Table>(
    dir: &Path,
    len: impl Fn(&T::Columns) -> usize,
    row: impl Fn(&T::Columns, usize) -> T,
) -> Result<Vec<T>, runlog::Error> {
    let mut all = Vec::new();
    for chunk in chunks::<T>(dir)? {
        for columns in chunk.read::<T>()? {
            all.extend((0..len(&columns)).map(|i| row(&columns, i)));
        }
    }
    Ok(all)
}

fn gaps(events: &[Event], observed_ns: i64) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for event in events {
        if &*event.kind == EventKind::Lost.name() {
            gaps.push(Gap { connection: event.connection, confirmed_ns: event.value, lost_ns: event.t_ns, up_ns: observed_ns });
        } else if &*event.kind == EventKind::Up.name()
            && let Some(gap) = gaps.iter_mut().rev().find(|g| g.connection == event.connection)
        {
            gap.up_ns = event.t_ns;
        }
    }
    gaps
}
