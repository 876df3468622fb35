//! What breaks first: the parts of the target that depart from what they were, between the last step that passes and the
//! first that trips.

use crate::capacity::show_target;
use crate::summary::{Backlog, Bottleneck, Outcome, Step};
use runlog::{Course, StepMark};
use schedule::Stage;
use schedule::units::{show_count, show_ns};

/// A backlog counts that grew by this share of the ops of its step …
const GROWTH_SHARE: f64 = 0.01;
/// … and by this many messages: what is being worked on is no backlog.
const GROWTH_MIN: f64 = 20.0;
/// Another stage departs with the first, if its backlog grew by this much of the first's.
const TOGETHER: f64 = 0.2;
/// A response time departs that is this many times what it was.
const SLOWER: f64 = 2.0;
/// CPU is flat that rose by less than this, while the load rose by more.
const FLAT: f64 = 0.1;
/// A part that uses less than this of a core is not what limits.
const BUSY_CORES: f64 = 0.5;

/// A stage behind the first may be as near its limit, if it holds a message for this share of the time that the first does.
const HOLDS: f64 = 0.5;

/// How a stage stands at the edge.
struct Departure<'a> {
    stage: &'a Stage,
    /// Growth of its backlog in the step that trips, messages; 0 if it is within what is normal.
    growth: f64,
    /// Its series, 95th percentile before and after, if they departed.
    slower: Option<(String, Option<i64>, Option<i64>)>,
    /// Watched parts whose CPU rose no more.
    flat: Vec<String>,
    seen: bool,
    /// How long it held a message before it departed, by Little's law: what waits in it over what passes. Milliseconds.
    held_ms: f64,
}

/// Names what broke first, or says what is missing to know.
pub(crate) fn bottleneck(stages: &[Stage], steps: &[Step]) -> Option<Bottleneck> {
    if stages.is_empty() {
        return None;
    }
    let usable = |s: &&Step| s.mark.course != Course::Back;
    let trips = || steps.iter().filter(usable).filter(|s| s.verdict.outcome == Outcome::Trip);
    let edge = trips().map(|s| s.mark.target).reduce(f64::min)?;
    let passed = steps.iter().filter(usable).filter(|s| s.verdict.outcome == Outcome::Pass && s.mark.target < edge);
    let before = passed.max_by(|a, b| a.mark.target.total_cmp(&b.mark.target));
    // Close to the edge little is to be seen; what trips further beyond shows the same more clearly.
    let mut trips: Vec<&Step> = trips().collect();
    trips.sort_by(|a, b| a.mark.target.total_cmp(&b.mark.target));
    let found = trips.iter().find_map(|trip| at(stages, before, trip));
    Some(found.unwrap_or_else(|| undetermined(stages, trips[0])))
}

fn at(stages: &[Stage], before: Option<&Step>, trip: &Step) -> Option<Bottleneck> {
    let all: Vec<Departure<'_>> = stages.iter().map(|stage| departure(stage, before, trip)).collect();
    let worst = all.iter().map(|d| d.growth).fold(0.0, f64::max);
    if worst == 0.0 {
        return None;
    }
    let (mut first, rest): (Vec<_>, Vec<_>) = all.iter().partition(|d| d.growth >= TOGETHER * worst);
    let target = |step: &Step| show_target(step.mark.axis, step.mark.target);
    let grew = |d: &&Departure<'_>| format!("the backlog of {} grew by {} at {}", d.stage.name, show_count(d.growth as u64), target(trip));
    let mut evidence: Vec<String> = first.iter().map(grew).collect();
    // What stands behind them was given no more than they let through: its backlog tells nothing of what it could take.
    let (near, hidden) = behind(&first, rest);
    if let Some(before) = before {
        let held = |d: &&Departure<'_>| format!("{} behind it held a message for {:.0} ms at {}", d.stage.name, d.held_ms, target(before));
        evidence.extend(near.iter().map(held));
    }
    first.extend(near);
    for departure in &first {
        if let Some((series, was, is)) = &departure.slower {
            let shown = |ns: &Option<i64>| ns.map_or_else(|| "beyond its timeout".into(), show_ns);
            evidence.push(format!("{series} p95 went from {} to {}", shown(was), shown(is)));
        }
        let range = before.map_or_else(String::new, |b| format!(" from {}", target(b)));
        evidence.extend(departure.flat.iter().map(|part| format!("CPU of {part} flat{range} on")));
    }
    if !hidden.is_empty() {
        let names: Vec<&str> = hidden.iter().map(|d| d.stage.name.as_str()).collect();
        evidence.push(format!("{} behind it saw no more than it lets through", names.join(", ")));
    }
    let names = first.iter().map(|d| d.stage.name.clone()).collect();
    let agreeing = |d: &&&Departure<'_>| d.stage.series.is_empty() || d.slower.is_some();
    let confidence = match (before, first.len()) {
        (Some(_), 1) if first.iter().filter(agreeing).count() == 1 => "high",
        (_, 1) => "medium",
        _ => "low",
    };
    Some(Bottleneck { stages: names, confidence: confidence.into(), evidence, missing: missing(&all, trip) })
}

/// Of the rest, those behind the first: which hold a message for as long, so that they may be as near their limits, and which not.
fn behind<'d, 's>(first: &[&Departure<'s>], rest: Vec<&'d Departure<'s>>) -> (Vec<&'d Departure<'s>>, Vec<&'d Departure<'s>>) {
    let over = |d: &Departure<'_>| first.iter().find(|f| d.stage.behind.as_ref() == Some(&f.stage.name)).map(|f| f.held_ms);
    let hidden = rest.into_iter().filter(|d| over(d).is_some());
    hidden.partition(|d| d.held_ms > 0.0 && over(d).is_some_and(|held_ms| d.held_ms >= HOLDS * held_ms))
}

fn departure<'a>(stage: &'a Stage, before: Option<&Step>, trip: &Step) -> Departure<'a> {
    let consumer = stage.consumer.as_deref();
    let backlog = |step: &Step| step.backlog.iter().find(|b| Some(b.consumer.as_str()) == consumer).cloned();
    let now = backlog(trip);
    let ops = trip.rate_per_sec.0 * trip.mark.until_ns.saturating_sub(trip.mark.hold_from_ns) as f64 / 1e9;
    let normal = before.and_then(backlog).map_or(0.0, |b| b.peak as f64);
    let grown = now.as_ref().map_or(0.0, |b| (b.growth as f64).max(b.peak as f64 - normal));
    let growth = if grown > GROWTH_MIN.max(GROWTH_SHARE * ops).max(2.0 * normal) { grown } else { 0.0 };
    let p95 = |step: &Step, name: &str| step.series.iter().find(|s| s.name == name).map(|s| s.response.p95_ns);
    let slower = stage.series.iter().find_map(|name| {
        let (was, is) = (before.and_then(|b| p95(b, name)), p95(trip, name)?);
        let departed = match (was.flatten(), is) {
            (Some(was), Some(is)) => is as f64 > SLOWER * was as f64,
            (_, is) => is.is_none() || before.is_none(),
        };
        departed.then(|| (name.clone(), was.flatten(), is))
    });
    let cpu = |step: &Step, part: &str| step.cpu.get(&format!("watch:{part}")).map(|(mean, _)| *mean);
    let rise = before.map_or(1.0, |b| trip.rate_per_sec.0 / b.rate_per_sec.0.max(1.0));
    let flat = stage.parts.iter().filter(|part| {
        let (was, is) = (before.and_then(|b| cpu(b, part)), cpu(trip, part));
        is.zip(was).is_some_and(|(is, was)| is > BUSY_CORES && rise > 1.0 + FLAT && is < was * (1.0 + FLAT))
    });
    let held_ms = before.map_or(0.0, |b| backlog(b).map_or(0.0, |held| waiting(&held, &b.mark) / b.rate_per_sec.0.max(1.0) * 1e3));
    Departure { stage, growth, slower, flat: flat.cloned().collect(), seen: now.is_some(), held_ms }
}

/// What waited at a time, on average over the hold of a step.
fn waiting(backlog: &Backlog, step: &StepMark) -> f64 {
    let hold = step.hold_from_ns..step.until_ns;
    let (n, sum) = backlog.points.iter().filter(|(t_ns, _)| hold.contains(t_ns)).fold((0, 0), |(n, sum), (_, v)| (n + 1, sum + v));
    sum as f64 / f64::from(n.max(1))
}

/// Which stages nothing is known of.
fn missing(all: &[Departure<'_>], trip: &Step) -> Vec<String> {
    let seen: Vec<&str> = trip.backlog.iter().map(|b| b.consumer.as_str()).collect();
    let seen = if seen.is_empty() { "none was seen".into() } else { format!("there are {}", seen.join(", ")) };
    let why = |d: &Departure<'_>| match &d.stage.consumer {
        Some(consumer) => format!("no backlog of {}: the server has no consumer {consumer}; {seen}", d.stage.name),
        None => format!("no backlog of {}: it names no consumer", d.stage.name),
    };
    all.iter().filter(|d| !d.seen).map(why).collect()
}

fn undetermined(stages: &[Stage], trip: &Step) -> Bottleneck {
    let all: Vec<Departure<'_>> = stages.iter().map(|stage| departure(stage, None, trip)).collect();
    let mut missing = missing(&all, trip);
    missing.push("no backlog of any stage grew beyond what is normal".into());
    Bottleneck { stages: vec![], confidence: "undetermined".into(), evidence: vec![], missing }
}

impl Bottleneck {
    /// `message-worker (the backlog of message-worker grew by 412 at 1,000/s) confidence: high`.
    pub fn words(&self) -> String {
        if self.stages.is_empty() {
            return format!("undetermined ({})", self.missing.join("; "));
        }
        format!("{} ({}) confidence: {}", self.stages.join(" and "), self.evidence.join("; "), self.confidence)
    }
}
