//! What waits in the target's consumers, from the JetStream API or from the server's monitoring port.

use crate::ask::Http;
use crate::control;
use crate::live::Consumer;
use crate::options::Options;
use crate::shared::Shared;
use futures::TryStreamExt;
use runlog::EventKind;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A sample takes no longer, or it is none.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Who is asked.
enum Source {
    Nobody,
    JetStream(async_nats::Client),
    Monitoring(Box<Http>, String),
}

/// The consumers of the schedule's streams, and what was seen of them.
pub(crate) struct Backlogs {
    source: Source,
    streams: Vec<String>,
    /// Streams that did not answer, told once.
    silent: BTreeSet<String>,
    consumers: HashMap<String, BTreeSet<String>>,
}

/// A stream, and its consumers or why there are none.
type Listed = (String, Result<Vec<Consumer>, String>);

impl Backlogs {
    /// Of these streams; who cannot be asked is told in the log.
    pub async fn of(shared: &Shared, options: &Options, streams: &[String]) -> Backlogs {
        let source = match &options.nats_monitoring {
            _ if streams.is_empty() => Source::Nobody,
            Some(url) => Source::Monitoring(Box::new(Http::new()), url.clone()),
            None => match control::connect(&options.nats).await {
                Ok(client) => Source::JetStream(client),
                Err(e) => {
                    shared.event(EventKind::Note, 0, Some(&format!("no backlog: cannot connect for JetStream ({e})")));
                    Source::Nobody
                }
            },
        };
        Backlogs { source, streams: streams.to_vec(), silent: BTreeSet::new(), consumers: HashMap::new() }
    }

    /// Logs pending, unacknowledged and redelivered messages of every consumer of every stream.
    pub async fn sample(&mut self, shared: &Shared) {
        let listed = match &self.source {
            Source::Nobody => return shared.counters.backlog_ns.store(i64::MAX, Relaxed),
            Source::JetStream(client) => tokio::time::timeout(TIMEOUT, from_jetstream(client, &self.streams)).await,
            Source::Monitoring(http, url) => Ok(from_monitoring(http, url, &self.streams).await),
        };
        let Ok(listed) = listed else {
            // Nobody should wait for a first sample that does not come.
            let _ = shared.counters.backlog_ns.compare_exchange(i64::MIN, i64::MAX, Relaxed, Relaxed);
            return shared.event(EventKind::Note, 0, Some("no backlog sample: JetStream did not answer for 2 s"));
        };
        let t_ns = shared.clock.now_ns();
        let mut waiting = 0;
        for (stream, consumers) in listed {
            match consumers {
                Ok(consumers) => waiting += self.log(shared, t_ns, &stream, &consumers),
                Err(why) => {
                    if self.silent.insert(stream.clone()) {
                        shared.event(EventKind::Note, 0, Some(&format!("no backlog of stream {stream}: {why}")));
                    }
                }
            }
        }
        shared.counters.backlog.store(waiting, Relaxed);
        shared.counters.backlog_ns.store(t_ns, Relaxed);
    }

    /// What waits in all consumers of a stream.
    fn log(&mut self, shared: &Shared, t_ns: i64, stream: &str, consumers: &[Consumer]) -> i64 {
        for gone in self.gone(stream, consumers.iter().map(|c| c.name.clone()).collect()) {
            shared.event(EventKind::ConsumerGone, 0, Some(&format!("{stream}/{gone}")));
        }
        if let Some(live) = &shared.live {
            let mut seen = live.consumers.lock().expect("no panic while locked");
            seen.retain(|consumer| consumer.stream != *stream);
            seen.extend_from_slice(consumers);
        }
        for consumer in consumers {
            let source = format!("consumer:{stream}/{}", consumer.name);
            shared.metric(t_ns, &source, "pending", consumer.pending as f64);
            shared.metric(t_ns, &source, "ack_pending", consumer.ack_pending as f64);
            shared.metric(t_ns, &source, "redelivered", consumer.redelivered as f64);
        }
        consumers.iter().map(|c| (c.pending + c.ack_pending) as i64).sum()
    }

    /// Durables of a stream that were there the last time it answered, and are not now.
    fn gone(&mut self, stream: &str, now: BTreeSet<String>) -> Vec<String> {
        let before = self.consumers.insert(stream.to_owned(), now.clone()).unwrap_or_default();
        before.difference(&now).cloned().collect()
    }
}

async fn from_jetstream(client: &async_nats::Client, streams: &[String]) -> Vec<Listed> {
    let jetstream = async_nats::jetstream::new(client.clone());
    let mut all = Vec::new();
    for name in streams {
        let consumers = async {
            let stream = jetstream.get_stream(name).await.map_err(|e| e.to_string())?;
            let infos: Vec<_> = stream.consumers().try_collect().await.map_err(|e| e.to_string())?;
            let consumer = |info: async_nats::jetstream::consumer::Info| Consumer {
                stream: name.clone(),
                name: info.name,
                pending: info.num_pending,
                ack_pending: info.num_ack_pending as u64,
                redelivered: info.num_redelivered as u64,
            };
            Ok(infos.into_iter().map(consumer).collect())
        };
        all.push((name.clone(), consumers.await));
    }
    all
}

async fn from_monitoring(http: &Http, url: &str, streams: &[String]) -> Vec<Listed> {
    let asked = http.get(url, "/jsz?consumers=true&limit=100000").await;
    let report = asked.and_then(|body| {
        serde_json::from_slice::<Value>(&body)
            .map_err(|_| format!("{url}: the answer is no JSON; is it the monitoring port of a nats-server?"))
    });
    streams.iter().map(|name| (name.clone(), report.as_ref().map_err(String::clone).and_then(|report| of_stream(report, name)))).collect()
}

/// The consumers of a stream in what `/jsz?consumers=true` answers.
fn of_stream(report: &Value, name: &str) -> Result<Vec<Consumer>, String> {
    let list = |value: &Value, field: &str| value[field].as_array().cloned().unwrap_or_default();
    let mut streams = list(report, "account_details").into_iter().flat_map(|account| list(&account, "stream_detail"));
    let stream = streams.find(|stream| stream["name"] == name).ok_or("the server has no such stream")?;
    let consumer = |info: &Value| Consumer {
        stream: name.to_owned(),
        name: info["name"].as_str().unwrap_or_default().to_owned(),
        pending: info["num_pending"].as_u64().unwrap_or(0),
        ack_pending: info["num_ack_pending"].as_u64().unwrap_or(0),
        redelivered: info["num_redelivered"].as_u64().unwrap_or(0),
    };
    Ok(list(&stream, "consumer_detail").iter().map(consumer).collect())
}
