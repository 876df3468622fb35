use crate::summary::Backlog;
use runlog::Metric;
use std::collections::BTreeMap;

/// Pending and unacknowledged messages per consumer, from the metrics log.
pub fn backlog(metrics: &[Metric], sent_until_ns: i64) -> Vec<Backlog> {
    // Samples of one consumer share a time; pending and ack-pending add up.
    let mut samples: BTreeMap<&str, BTreeMap<i64, f64>> = BTreeMap::new();
    let mut redelivered: BTreeMap<&str, f64> = BTreeMap::new();
    for metric in metrics {
        let Some(consumer) = metric.source.strip_prefix("consumer:") else { continue };
        match &*metric.metric {
            "pending" | "ack_pending" => *samples.entry(consumer).or_default().entry(metric.t_ns).or_default() += metric.value,
            "redelivered" => {
                let peak = redelivered.entry(consumer).or_default();
                *peak = peak.max(metric.value);
            }
            _ => {}
        }
    }
    samples
        .into_iter()
        .map(|(consumer, points)| one(consumer, &points, redelivered.get(consumer).copied().unwrap_or(0.0), sent_until_ns))
        .collect()
}

fn one(consumer: &str, points: &BTreeMap<i64, f64>, redelivered: f64, sent_until_ns: i64) -> Backlog {
    let sending: Vec<(f64, f64)> = points.range(..=sent_until_ns).map(|(&t, &v)| (t as f64 / 1e9, v)).collect();
    let first = sending.first().map_or(0.0, |p| p.1);
    let last = sending.last().map_or(0.0, |p| p.1);
    let after = points.range(sent_until_ns..).find(|(_, v)| **v == 0.0).map(|(t, _)| t.saturating_sub(sent_until_ns));
    Backlog {
        consumer: consumer.to_owned(),
        peak: points.values().copied().fold(0.0, f64::max) as u64,
        growth: (last - first) as i64,
        slope_per_sec: slope(&sending),
        drained_after_ns: after,
        redelivered: redelivered as u64,
        points: points.iter().map(|(&t, &v)| (t, v as u64)).collect(),
    }
}

/// Least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (mean_t, mean_v) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let spread: f64 = points.iter().map(|p| (p.0 - mean_t).powi(2)).sum();
    if spread > 0.0 { points.iter().map(|p| (p.0 - mean_t) * (p.1 - mean_v)).sum::<f64>() / spread } else { 0.0 }
}
