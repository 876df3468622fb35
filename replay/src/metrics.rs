//! The Prometheus endpoint: `GET /metrics` in the OpenMetrics text format, from [`Live`] and the counters of the run.

use crate::connection::Connection;
use crate::live::{Histogram, Live};
use crate::options::Error;
use crate::shared::{Counters, Shared};
use axum::http::header::CONTENT_TYPE;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use runlog::Outcome;
use schedule::Meta;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Names of the statuses of an answer, by number.
const STATUSES: [&str; 3] = ["ok", "error", "duplicate"];

/// Takes the address before anything is sent.
///
/// # Errors
/// [`Error::Server`] if it is taken, or not ours.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let failed = |e: std::io::Error| Error::Server(format!("cannot listen on {address} for --metrics-addr: {e}; choose another port"));
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Serves until told to finish.
pub(crate) fn serve(shared: &Arc<Shared>, meta: &Meta, listener: TcpListener) {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Run { shared: shared.clone(), meta: meta.clone() }));
    let registry = Arc::new(registry);
    let scrape = move || {
        let registry = registry.clone();
        async move {
            let mut body = String::new();
            text::encode(&mut body, &registry).expect("a String takes everything");
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], body)
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the system gives a runtime");
    let shared = shared.clone();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("it does not block");
        let app = axum::Router::new().route("/metrics", axum::routing::get(scrape));
        let finished = async {
            while !shared.finished() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // A scraper that holds its connection open does not hold up the end of a run.
        tokio::select! {
            _ = async { axum::serve(listener, app).await } => {}
            () = finished => {}
        }
    });
}

struct Run {
    shared: Arc<Shared>,
    meta: Meta,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Run")
    }
}

/// A value with labels, of the same name as its neighbours.
struct Sample<'a, V> {
    labels: Vec<(&'static str, &'a str)>,
    value: V,
}

enum Value<'a> {
    Counter(u64),
    Gauge(f64),
    Histogram(&'a Histogram),
}

impl EncodeMetric for Value<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Value::Counter(n) => encoder.encode_counter::<NoLabelSet, u64, u64>(n, None),
            Value::Gauge(n) => encoder.encode_gauge(n),
            Value::Histogram(histogram) => {
                let (sum, buckets) = histogram.read();
                let count = buckets.iter().map(|(_, n)| n).sum();
                encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            }
        }
    }

    fn metric_type(&self) -> MetricType {
        match self {
            Value::Counter(_) => MetricType::Counter,
            Value::Gauge(_) => MetricType::Gauge,
            Value::Histogram(_) => MetricType::Histogram,
        }
    }
}

/// One metric: its name, what it is, and its samples. Nothing is said of a metric without samples.
fn metric(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, samples: Vec<Sample<'_, Value<'_>>>) -> fmt::Result {
    let Some(first) = samples.first() else { return Ok(()) };
    let mut encoder = out.encode_descriptor(name, help, None, first.value.metric_type())?;
    if first.labels.is_empty() {
        return first.value.encode(encoder);
    }
    for sample in &samples {
        sample.value.encode(encoder.encode_family(&sample.labels)?)?;
    }
    Ok(())
}

fn one(value: Value<'_>) -> Vec<Sample<'_, Value<'_>>> {
    vec![Sample { labels: vec![], value }]
}

impl Collector for Run {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        totals(&mut out, &self.shared.counters)?;
        connections(&mut out, &self.shared.connections)?;
        let Some(live) = &self.shared.live else { return Ok(()) };
        let unsent = (0u8..).zip(&live.unsent).filter(|(_, n)| n.load(Relaxed) > 0);
        let unsent = unsent.map(|(i, n)| Sample { labels: vec![("reason", Outcome::name(i))], value: Value::Counter(n.load(Relaxed)) });
        metric(&mut out, "retempo_unsent", "Operations not sent, by reason", unsent.collect())?;
        metric(&mut out, "retempo_lateness_seconds", "Sent after intended", one(Value::Histogram(&live.lateness)))?;
        self.series(&mut out, live)?;
        consumers(&mut out, live)
    }
}

impl Run {
    fn names(&self, action: usize, answer: u8) -> Vec<(&'static str, &str)> {
        vec![("action", &self.meta.actions[action].name), ("answer", &self.meta.answers[usize::from(answer)].name)]
    }

    fn series(&self, out: &mut DescriptorEncoder<'_>, live: &Live) -> fmt::Result {
        let known = || {
            live.series
                .iter()
                .enumerate()
                .map(|(i, series)| (live.pair(i), series))
                .filter(|((action, answer), _)| self.meta.actions[*action].answers.contains(answer))
        };
        let response = known().map(|((a, b), series)| Sample { labels: self.names(a, b), value: Value::Histogram(&series.response) });
        metric(out, "retempo_response_seconds", "Received after intended", response.collect())?;
        let answers = known().flat_map(|((a, b), series)| {
            STATUSES.iter().zip(&series.answers).map(move |(status, n)| {
                let labels = [self.names(a, b), vec![("outcome", *status)]].concat();
                Sample { labels, value: Value::Counter(n.load(Relaxed)) }
            })
        });
        metric(out, "retempo_answers", "Answers received, by outcome", answers.collect())?;
        let errors = live.errors.lock().expect("no panic while locked").clone();
        let errors = errors.iter().map(|((a, b, code), n)| {
            let labels = [self.names(*a, *b), vec![("code", code.as_str())]].concat();
            Sample { labels, value: Value::Counter(*n) }
        });
        metric(out, "retempo_errors", "Error answers, by class", errors.collect())
    }
}

fn totals(out: &mut DescriptorEncoder<'_>, c: &Counters) -> fmt::Result {
    let count = |n: &std::sync::atomic::AtomicI64| Value::Counter(n.load(Relaxed).max(0) as u64);
    metric(out, "retempo_intended", "Operations due", one(count(&c.due)))?;
    metric(out, "retempo_sent", "Operations sent", one(count(&c.sent)))?;
    metric(out, "retempo_sent_bytes", "Bytes of operations sent", one(count(&c.sent_bytes)))?;
    metric(out, "retempo_foreign", "Messages that carry no id of this run", one(count(&c.foreign)))?;
    metric(out, "retempo_dropped_records", "Records lost because a buffer was full", one(count(&c.dropped)))?;
    let in_flight = (c.expected.load(Relaxed) - c.answers.load(Relaxed)).max(0);
    metric(out, "retempo_in_flight", "Answers expected and not yet in", one(Value::Gauge(in_flight as f64)))?;
    metric(out, "retempo_step", "Number of the step under way, 0 without steps", one(Value::Gauge(c.step.load(Relaxed) as f64)))?;
    let target = f64::from_bits(c.target.load(Relaxed));
    metric(out, "retempo_target", "What is aimed at: operations per second, or users", one(Value::Gauge(target)))
}

fn connections(out: &mut DescriptorEncoder<'_>, all: &[Connection]) -> fmt::Result {
    let up = all.iter().filter(|c| c.stream().is_some()).count();
    let states = [("up", up), ("down", all.len() - up)];
    let samples = states.map(|(state, n)| Sample { labels: vec![("state", state)], value: Value::Gauge(n as f64) });
    metric(out, "retempo_connections", "Connections to the server", samples.into())?;
    let slowest_ns = all.iter().map(|c| c.ping_ns.load(Relaxed)).max().unwrap_or(0);
    metric(out, "retempo_ping_seconds", "From a PING to its PONG, the slowest connection", one(Value::Gauge(slowest_ns as f64 / 1e9)))
}

fn consumers(out: &mut DescriptorEncoder<'_>, live: &Live) -> fmt::Result {
    let consumers = live.consumers.lock().expect("no panic while locked").clone();
    let kinds = ["pending", "ack_pending", "redelivered"];
    let samples = consumers.iter().flat_map(|c| {
        kinds.into_iter().zip([c.pending, c.ack_pending, c.redelivered]).map(move |(kind, n)| Sample {
            labels: vec![("stream", c.stream.as_str()), ("durable", c.name.as_str()), ("kind", kind)],
            value: Value::Gauge(n as f64),
        })
    });
    metric(out, "retempo_backlog_messages", "Messages in the target's consumers", samples.collect())
}
