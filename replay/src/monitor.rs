//! Once a second: the target's backlog and our own use of the machine.

use crate::control;
use crate::live::Consumer;
use crate::options::Options;
use crate::os;
use crate::promql::{Asker, Promql};
use crate::shared::{Note, Shared};
use crate::watch::Watch;
use futures::TryStreamExt;
use runlog::{EventKind, Metric};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A jump of the wall clock against the monotonic one that is worth an event, ns.
const CLOCK_STEP_NS: i64 = 10_000_000;

/// Samples until told to finish.
pub(crate) fn run(shared: &Arc<Shared>, options: &Options, streams: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the system gives a runtime");
    runtime.block_on(async {
        let client = if streams.is_empty() { None } else { connect(shared, &options.nats).await };
        let mut own = OwnUse::new(shared.clock.now_ns(), &options.watches);
        let mut wall = Wall { offset_ns: shared.clock.anchor_epoch_ns() };
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let mut known = Known::default();
        let (asker, mut unanswered) = (Asker::new(), false);
        while !shared.finished() {
            tokio::select! {
                _ = ticks.tick() => {}
                () = finished(shared) => break,
            }
            own.sample(shared);
            if let Some(promql) = &options.promql {
                sample_promql(shared, &asker, promql, &mut unanswered).await;
            }
            if let Some(step_ns) = wall.step_ns(shared.clock.anchor_epoch_ns()) {
                shared.event(EventKind::ClockStep, step_ns, None);
            }
            sample_backlog(shared, client.as_ref(), streams, &mut known).await;
        }
        // Once more, so that a backlog drained within the last second shows.
        sample_backlog(shared, client.as_ref(), streams, &mut known).await;
    });
}

/// A Prometheus that does not answer is no reason to end a run: it is told once.
async fn sample_promql(shared: &Shared, asker: &Asker, promql: &Promql, unanswered: &mut bool) {
    match asker.ask(promql).await {
        Ok(values) => {
            let t_ns = shared.clock.now_ns();
            values.iter().for_each(|(name, cores)| metric_note(shared, t_ns, &format!("watch:{name}"), "cpu", *cores));
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

async fn sample_backlog(shared: &Shared, client: Option<&async_nats::Client>, streams: &[String], known: &mut Known) {
    let Some(client) = client else {
        shared.counters.backlog_ns.store(i64::MAX, Relaxed);
        return;
    };
    if tokio::time::timeout(Duration::from_secs(2), backlog(shared, client, streams, known)).await.is_err() {
        // Nobody should wait for a first sample that does not come.
        let _ = shared.counters.backlog_ns.compare_exchange(i64::MIN, i64::MAX, Relaxed, Relaxed);
        shared.event(EventKind::Note, 0, Some("no backlog sample: JetStream did not answer for 2 s"));
    }
}

async fn finished(shared: &Shared) {
    while !shared.finished() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn connect(shared: &Shared, options: &wire::Options) -> Option<async_nats::Client> {
    match control::connect(options).await {
        Ok(client) => Some(client),
        Err(e) => {
            shared.event(EventKind::Note, 0, Some(&format!("no backlog: cannot connect for JetStream ({e})")));
            None
        }
    }
}

/// What was seen of the target's streams.
#[derive(Default)]
struct Known {
    /// Streams that did not answer, told once.
    silent: Vec<String>,
    consumers: HashMap<String, BTreeSet<String>>,
}

impl Known {
    /// Durables of a stream that were there the last time it answered, and are not now.
    fn gone(&mut self, stream: &str, now: BTreeSet<String>) -> Vec<String> {
        let before = self.consumers.insert(stream.to_owned(), now.clone()).unwrap_or_default();
        before.difference(&now).cloned().collect()
    }
}

/// Pending, unacknowledged and redelivered messages of every consumer of every stream.
async fn backlog(shared: &Shared, client: &async_nats::Client, streams: &[String], known: &mut Known) {
    let jetstream = async_nats::jetstream::new(client.clone());
    let mut pending_total = 0;
    for name in streams {
        let listed = async {
            let stream = jetstream.get_stream(name).await.map_err(|e| e.to_string())?;
            stream.consumers().try_collect::<Vec<_>>().await.map_err(|e| e.to_string())
        };
        let consumers = match listed.await {
            Ok(consumers) => consumers,
            Err(why) => {
                if !known.silent.contains(name) {
                    shared.event(EventKind::Note, 0, Some(&format!("no backlog of stream {name}: {why}")));
                    known.silent.push(name.clone());
                }
                continue;
            }
        };
        let t_ns = shared.clock.now_ns();
        for gone in known.gone(name, consumers.iter().map(|c| c.name.clone()).collect()) {
            shared.event(EventKind::ConsumerGone, 0, Some(&format!("{name}/{gone}")));
        }
        if let Some(live) = &shared.live {
            let mut seen = live.consumers.lock().expect("no panic while locked");
            seen.retain(|consumer| consumer.stream != *name);
            seen.extend(consumers.iter().map(|info| Consumer {
                stream: name.clone(),
                name: info.name.clone(),
                pending: info.num_pending,
                ack_pending: info.num_ack_pending as u64,
                redelivered: info.num_redelivered as u64,
            }));
        }
        for consumer in consumers {
            let source = format!("consumer:{name}/{}", consumer.name);
            pending_total += consumer.num_pending as i64 + consumer.num_ack_pending as i64;
            for (metric, value) in [
                ("pending", consumer.num_pending as f64),
                ("ack_pending", consumer.num_ack_pending as f64),
                ("redelivered", consumer.num_redelivered as f64),
            ] {
                metric_note(shared, t_ns, &source, metric, value);
            }
        }
    }
    shared.counters.backlog.store(pending_total, Relaxed);
    shared.counters.backlog_ns.store(shared.clock.now_ns(), Relaxed);
}

fn metric_note(shared: &Shared, t_ns: i64, source: &str, metric: &str, value: f64) {
    shared.note(Note::Metric(Metric { t_ns, source: source.into(), metric: metric.into(), value }));
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
                metric_note(shared, now_ns, source, "cpu", (now - before).max(0.0) / self.ticks_per_sec / seconds);
            }
        }
        if let Some(bytes) = rss_bytes() {
            metric_note(shared, now_ns, "self", "rss_bytes", bytes);
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
