use super::outcome_name;
use crate::{Series, Summary};

/// CSV files by name: `series.csv`, `windows.csv`, `rate.csv`, `backlog.csv`, `buckets.csv`, and
/// `steps.csv` of a run in steps. Times in ns; an empty field
/// is a percentile that falls among missing answers, or has no samples.
pub fn csv(summary: &Summary) -> Vec<(&'static str, String)> {
    let cell = |ns: Option<i64>| ns.map_or_else(String::new, |ns| ns.to_string());
    let mut windows = "start_ns,series,count,errors,missing,p50_ns,p95_ns,p99_ns,max_ns\n".to_owned();
    for w in &summary.windows {
        let latencies = [w.p50_ns, w.p95_ns, w.p99_ns, w.max_ns].map(cell).join(",");
        windows += &format!("{},{},{},{},{},{latencies}\n", w.start_ns, quoted(&w.series), w.count, w.errors, w.missing);
    }
    let mut rate = "start_ns,intended,sent\n".to_owned();
    for (start, intended, sent) in &summary.rate.windows {
        rate += &format!("{start},{intended},{sent}\n");
    }
    let mut backlog = "t_ns,consumer,messages\n".to_owned();
    for b in &summary.backlog {
        for (t, n) in &b.points {
            backlog += &format!("{t},{},{n}\n", quoted(&b.consumer));
        }
    }
    let series = format!("{SERIES_HEADER}\n{}", summary.series.iter().map(|s| series_line(s) + "\n").collect::<String>());
    let buckets = summary.buckets.iter().map(|b| format!("{},{}\n", quoted(&b.bucket), series_line(&b.series))).collect::<String>();
    let mut files = vec![
        ("series.csv", series),
        ("windows.csv", windows),
        ("rate.csv", rate),
        ("backlog.csv", backlog),
        ("buckets.csv", format!("bucket,{SERIES_HEADER}\n{buckets}")),
    ];
    if !summary.steps.is_empty() {
        files.push(("steps.csv", steps(summary)));
    }
    files
}

/// A line per step and series.
fn steps(summary: &Summary) -> String {
    let mut steps = format!("step,target,verdict,intended_per_sec,achieved_per_sec,late_p99_ns,backlog_left,{SERIES_HEADER}\n");
    for step in &summary.steps {
        let late = step.late_p99_ns.map_or_else(String::new, |ns| ns.to_string());
        let (mark, outcome, (intended, achieved)) = (&step.mark, outcome_name(step.verdict.outcome), step.rate_per_sec);
        for series in &step.series {
            let left = mark.backlog_left;
            steps += &format!("{},{},{outcome},{intended},{achieved},{late},{left},{}\n", mark.number, mark.target, series_line(series));
        }
    }
    steps
}

const SERIES_HEADER: &str = "series,count,ok,errors,late,missing,duplicates,unresolved,void,\
response_p50_ns,response_p90_ns,response_p95_ns,response_p99_ns,response_p999_ns,response_max_ns,\
service_p50_ns,service_p90_ns,service_p95_ns,service_p99_ns,service_p999_ns,service_max_ns";

fn series_line(s: &Series) -> String {
    let errors: u64 = s.errors.values().sum();
    let counts = [s.count, s.ok, errors, s.late, s.missing, s.duplicates, s.unresolved, s.void].map(|n| n.to_string()).join(",");
    let latencies = [&s.response, &s.service].map(|p| {
        [p.p50_ns, p.p90_ns, p.p95_ns, p.p99_ns, p.p999_ns, p.max_ns].map(|ns| ns.map_or_else(String::new, |ns| ns.to_string())).join(",")
    });
    format!("{},{counts},{}", quoted(&s.name), latencies.join(","))
}

/// RFC 4180.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
