//! Once a second: the target's backlog and our own use of the machine.

use crate::ask::Http;
use crate::backlog::Backlogs;
use crate::options::Options;
use crate::os;
use crate::promql::Promql;
use crate::shared::Shared;
use crate::watch::Watch;
use runlog::EventKind;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A jump of the wall clock against the monotonic one that is worth an event, ns.
const CLOCK_STEP_NS: i64 = 10_000_000;

/// Samples until told to finish.
pub(crate) fn run(shared: &Arc<Shared>, options: &Options, streams: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the system gives a runtime");
    runtime.block_on(async {
        let mut backlogs = Backlogs::of(shared, options, streams).await;
        let mut own = OwnUse::new(shared.clock.now_ns(), &options.watches);
        let mut wall = Wall { offset_ns: shared.clock.anchor_epoch_ns() };
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let (http, mut unanswered) = (Http::new(), false);
        while !shared.finished() {
            tokio::select! {
                _ = ticks.tick() => {}
                () = finished(shared) => break,
            }
            own.sample(shared);
            if let Some(promql) = &options.promql {
                sample_promql(shared, &http, promql, &mut unanswered).await;
            }
            if let Some(step_ns) = wall.step_ns(shared.clock.anchor_epoch_ns()) {
                shared.event(EventKind::ClockStep, step_ns, None);
            }
            backlogs.sample(shared).await;
        }
        // Once more, so that a backlog drained within the last second shows.
        backlogs.sample(shared).await;
    });
}

/// A Prometheus that does not answer is no reason to end a run: it is told once.
async fn sample_promql(shared: &Shared, http: &Http, promql: &Promql, unanswered: &mut bool) {
    match promql.ask(http).await {
        Ok(values) => {
            let t_ns = shared.clock.now_ns();
            values.iter().for_each(|(name, cores)| shared.metric(t_ns, &format!("watch:{name}"), "cpu", *cores));
        }
        Err(why) if !*unanswered => {
            *unanswered = true;
            shared.event(EventKind::Note, 0, Some(&format!("no CPU of the target from Prometheus: {why}")));
        }
        Err(_) => {}
    }
}

/// The wall clock against the monotonic one: the wall time of the anchor, as it was seen last.
struct Wall {
    offset_ns: i64,
}

impl Wall {
    /// By how much the wall clock jumped since the last look; slow corrections are none.
    fn step_ns(&mut self, offset_ns: i64) -> Option<i64> {
        let step_ns = offset_ns - std::mem::replace(&mut self.offset_ns, offset_ns);
        (step_ns.abs() > CLOCK_STEP_NS).then_some(step_ns)
    }
}

async fn finished(shared: &Shared) {
    while !shared.finished() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// CPU of our threads, of the host and of what is watched, and our memory, from `/proc`.
struct OwnUse<'a> {
    watches: &'a [Watch],
    last_ns: i64,
    ticks: HashMap<String, f64>,
    ticks_per_sec: f64,
}

impl<'a> OwnUse<'a> {
    fn new(now_ns: i64, watches: &'a [Watch]) -> OwnUse<'a> {
        OwnUse { watches, last_ns: now_ns, ticks: HashMap::new(), ticks_per_sec: os::ticks_per_sec() }
    }

    fn sample(&mut self, shared: &Shared) {
        let now_ns = shared.clock.now_ns();
        let seconds = (now_ns - self.last_ns) as f64 / 1e9;
        let mut ticks = thread_ticks();
        ticks.extend(host_ticks().map(|busy| ("host".to_owned(), busy)));
        // A process that has ended has no CPU to tell of.
        let watched = self.watches.iter().filter_map(|watch| Some((format!("watch:{}", watch.name), watch.cpu_seconds().ok()?)));
        ticks.extend(watched.map(|(source, seconds)| (source, seconds * self.ticks_per_sec)));
        for (source, now) in &ticks {
            // A source seen for the first time has no rate yet.
            if let (Some(before), true) = (self.ticks.get(source), seconds > 0.0) {
                shared.metric(now_ns, source, "cpu", (now - before).max(0.0) / self.ticks_per_sec / seconds);
            }
        }
        for (metric, records) in [("queued_sends", &shared.counters.queued_sends), ("queued_answers", &shared.counters.queued_answers)] {
            shared.metric(now_ns, "self", metric, records.swap(0, Relaxed) as f64);
        }
        if let Some(bytes) = rss_bytes() {
            shared.metric(now_ns, "self", "rss_bytes", bytes);
        }
        (self.last_ns, self.ticks) = (now_ns, ticks);
    }
}

/// Busy ticks by thread name (`thread:pacer`), and of the process (`self`).
fn thread_ticks() -> HashMap<String, f64> {
    let mut all = HashMap::new();
    for entry in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else { continue };
        let busy = os::busy_ticks(&stat);
        *all.entry(format!("thread:{}", &stat[open + 1..close])).or_insert(0.0) += busy;
        *all.entry("self".to_owned()).or_insert(0.0) += busy;
    }
    all
}

/// Busy ticks of all cores.
fn host_ticks() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<f64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    // All but idle and iowait; guest time is within user time.
    Some(fields.iter().take(8).sum::<f64>() - fields.get(3)? - fields.get(4)?)
}

fn rss_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_is_told_once_and_a_slew_never() {
        let mut wall = Wall { offset_ns: 1_000 };
        assert_eq!(wall.step_ns(1_000 + CLOCK_STEP_NS), None);
        assert_eq!(wall.step_ns(3_600_000_000_000), Some(3_600_000_000_000 - 1_000 - CLOCK_STEP_NS));
        assert_eq!(wall.step_ns(3_600_000_000_000), None);
        assert_eq!(wall.step_ns(0), Some(-3_600_000_000_000));
        // A slew of 500 ppm for a day.
        let slewed = (0..86_400).map(|second| second * 500_000).filter_map(|offset| wall.step_ns(offset)).count();
        assert_eq!(slewed, 0);
    }
}
