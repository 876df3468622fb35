use super::charts::charts;
use super::text::{count_words, outcome_name, percentile_cells, unexpected_words, unsent_words};
use crate::{Error, LineState, Series, Summary};
use schedule::units::{show_bytes, show_count, show_ns, show_rate};

/// The report page: one file that needs nothing else. Its size depends on the number of windows, not of operations.
///
/// # Errors
/// [`Error::Render`] when a chart cannot be drawn.
pub fn html(summary: &Summary) -> Result<String, Error> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>retempo: {} {}</title>\n<style>{STYLE}</style></head><body>\n",
        escape(&summary.run.workload),
        outcome_name(summary.verdict.outcome)
    );
    page += &verdict(summary);
    page += &steps(summary);
    page += &latency_table(summary);
    page += &super::web::html(summary);
    page += "<h2>Charts</h2>\n";
    for chart in charts(summary) {
        page += &format!("<figure>{}</figure>\n", chart.svg()?);
    }
    page += &buckets(summary);
    page += &evidence(summary);
    page += &reproduce(summary);
    page += "</body></html>\n";
    Ok(page)
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:1rem 0;width:100%}th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #ddd;\
font-variant-numeric:tabular-nums}th:first-child,td:first-child{text-align:left}th{color:#666;font-weight:600}\
figure{margin:1rem 0}figure svg{width:100%;height:auto}.badge{display:inline-block;padding:.2rem .8rem;border-radius:.4rem;color:#fff;font-weight:700}\
.PASS{background:#27ae60}.TRIP{background:#c0392b}.INCONCLUSIVE{background:#e67e22}.met{color:#27ae60}.breached{color:#c0392b;font-weight:700}\
.undecidable{color:#e67e22;font-weight:700}pre{background:#f5f5f5;padding:.8rem;overflow:auto}.quiet{color:#666}";

/// Of a run in steps: each, with the first reason where it did not pass.
fn steps(s: &Summary) -> String {
    if s.steps.is_empty() {
        return String::new();
    }
    let mut out = "<h2>Steps</h2>\n<table><tr><th>target</th><th>verdict</th><th>achieved</th><th>late p99</th><th>series</th>\
                   <th>p50</th><th>p95</th><th>p99</th></tr>\n"
        .to_owned();
    for step in &s.steps {
        let outcome = outcome_name(step.verdict.outcome);
        let late = step.late_p99_ns.map_or_else(|| "-".into(), show_ns);
        let why = if outcome == "PASS" { "" } else { step.verdict.reasons.first().map_or("", String::as_str) };
        let head = format!(
            "<td>{}</td><td><span class=\"badge {outcome}\">{outcome}</span><br><span class=\"quiet\">{}</span></td><td>{}</td><td>{late}</td>",
            crate::capacity::show_target(step.mark.axis, step.mark.target),
            escape(why),
            show_rate(step.rate_per_sec.1)
        );
        for (i, series) in step.series.iter().filter(|x| !x.name.contains(':')).enumerate() {
            let head = if i == 0 { head.as_str() } else { "<td></td><td></td><td></td><td></td>" };
            let [p50, _, p95, p99, _] = percentile_cells(&series.response);
            out += &format!("<tr>{head}<td>{}</td><td>{p50}</td><td>{p95}</td><td>{p99}</td></tr>\n", escape(&series.name));
        }
    }
    out + "</table>\n"
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn verdict(s: &Summary) -> String {
    let outcome = outcome_name(s.verdict.outcome);
    let state = if s.run.state == "complete" { String::new() } else { format!(" · <b>{}</b>", escape(&s.run.state)) };
    let mut out = format!(
        "<h1>{} <span class=\"badge {outcome}\">{outcome}</span></h1>\n<p class=\"quiet\">{} ops in {} · {} intended, {} achieved · seed {}{state}<br>{}</p>\n",
        escape(&s.run.workload),
        show_count(s.run.ops),
        show_ns(s.run.observed_ns),
        show_rate(s.rate.intended_per_sec),
        show_rate(s.rate.achieved_per_sec),
        s.run.seed,
        escape(&s.run.target.join(", ")),
    );
    out += "<ul>";
    for reason in &s.verdict.reasons {
        out += &format!("<li>{}</li>", escape(reason));
    }
    out += "</ul>\n<table><tr><th>condition</th><th>measured</th><th>state</th></tr>\n";
    for slo in &s.verdict.slos {
        let state = match slo.state {
            LineState::Met => "met",
            LineState::Breached => "breached",
            LineState::Undecidable => "undecidable",
        };
        let why = slo.why.as_ref().map_or_else(String::new, |w| format!("<br><span class=\"quiet\">{}</span>", escape(w)));
        out +=
            &format!("<tr><td>{}{why}</td><td>{}</td><td class=\"{state}\">{state}</td></tr>\n", escape(&slo.line), escape(&slo.measured));
    }
    out + "</table>\n"
}

fn latency_table(s: &Summary) -> String {
    let mut out = "<h2>Latency</h2>\n<p class=\"quiet\">Response time counts from when an op was due, service time from when it was sent. \
                   Answers that never came rank as slower than all others.</p>\n"
        .to_owned();
    out += "<table><tr><th>series</th><th>time</th><th>count</th><th>p50</th><th>p90</th><th>p95</th><th>p99</th><th>p99.9</th><th>max</th></tr>\n";
    s.series.iter().filter(|x| !x.is_scenario()).for_each(|series| out += &rows(&series.name, series));
    out += "</table>\n<ul>";
    for series in s.series.iter().filter(|x| !x.name.contains(':') && !x.is_scenario()) {
        out += &format!("<li>{}: {}</li>", escape(&series.name), escape(&count_words(series)));
    }
    out + "</ul>\n"
}

fn rows(name: &str, series: &Series) -> String {
    let mut out = String::new();
    let times = [("response", &series.response), ("service", &series.service)];
    for (label, p) in times.into_iter().filter(|(label, p)| *label == "response" || p.max_ns.is_some() || series.count == 0) {
        let max = p.max_ns.map_or_else(|| "-".into(), show_ns);
        let cells: String = percentile_cells(p).iter().chain([&max]).map(|c| format!("<td>{}</td>", escape(c))).collect();
        out += &format!("<tr><td>{}</td><td>{label}</td><td>{}</td>{cells}</tr>\n", escape(name), show_count(series.count));
    }
    out
}

fn buckets(s: &Summary) -> String {
    if s.buckets.is_empty() {
        return String::new();
    }
    let head =
        "<tr><th>bucket</th><th>time</th><th>count</th><th>p50</th><th>p90</th><th>p95</th><th>p99</th><th>p99.9</th><th>max</th></tr>";
    let mut out = format!("<h2>By bucket</h2>\n<table>{head}\n");
    for bucket in s.buckets.iter().filter(|b| !b.series.name.contains(':')) {
        out += &rows(&format!("{} · {}", bucket.series.name, bucket.bucket), &bucket.series);
    }
    out + "</table>\n"
}

fn evidence(s: &Summary) -> String {
    let e = &s.evidence;
    let at = |ns: Option<i64>| ns.map_or_else(|| "-".into(), show_ns);
    let late = &s.lateness.percentiles;
    let causes: Vec<String> = s.lateness.late_by_cause.iter().map(|(cause, n)| format!("{} {cause}", show_count(*n))).collect();
    let cpu: Vec<String> = e.cpu.iter().map(|(source, (mean, peak))| format!("{source} {mean:.2} (peak {peak:.2})")).collect();
    let unsent = unsent_words(s);
    let or_none = |list: Vec<String>| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    let gaps = e.gaps.iter().map(|(c, t, d)| format!("connection {c} at {} for {}", show_ns(*t), show_ns(*d))).collect();
    let later = format!("Sends later than {}, by cause", show_ns(s.lateness.late_ns));
    let mut rows = vec![
        ("Lateness", format!("p50 {}, p99 {}, max {}", at(late.p50_ns), at(late.p99_ns), at(late.max_ns))),
        (later.as_str(), or_none(causes)),
        ("Not sent", or_none(unsent)),
        ("Unexpected, by no op's key", or_none(unexpected_words(s))),
        ("CPU, cores", or_none(cpu)),
        ("Own memory, peak", show_bytes(e.rss_peak_bytes)),
        (
            "Records that waited to be logged, peak",
            format!("{} sends, {} answers", show_count(e.queued_peak.0), show_count(e.queued_peak.1)),
        ),
        ("Connections lost", or_none(gaps)),
        ("Sent but unconfirmed", show_count(e.unconfirmed)),
        ("Records lost", show_count(e.dropped_records)),
        ("Foreign messages", show_count(e.foreign)),
        ("Jumps of the wall clock", or_none(e.clock_steps.iter().map(|ns| show_ns(*ns)).collect())),
        ("Machine", s.run.host.clone()),
        ("Granted", s.run.granted.clone()),
    ];
    for b in &s.backlog {
        let drained = b.drained_after_ns.map_or_else(|| "not drained".into(), |ns| format!("drained after {}", show_ns(ns)));
        rows.push(("Backlog", format!("{}: peak {}, growth {}, {drained}, redelivered {}", b.consumer, b.peak, b.growth, b.redelivered)));
    }
    rows.extend(e.first_errors.iter().map(|t| ("First error", t.clone())));
    rows.extend(e.server_errors.iter().map(|t| ("Server error", t.clone())));
    rows.extend(e.notes.iter().map(|t| ("Note", t.clone())));
    let body: String = rows.iter().map(|(name, value)| format!("<tr><td>{name}</td><td>{}</td></tr>\n", escape(value))).collect();
    format!("<h2>What there is to distrust</h2>\n<table>{body}</table>\n")
}

fn reproduce(s: &Summary) -> String {
    let commands = format!("{}\nretempo analyze {}", s.run.command.join(" "), s.run.folder);
    format!(
        "<h2>How to reproduce</h2>\n<p>Run {} of workload {}, seed {}. The run folder holds every send and every answer; any number here can be asked of it again.</p>\n<pre>{}</pre>\n",
        escape(&s.run.id),
        escape(&s.run.workload),
        s.run.seed,
        escape(&commands)
    )
}
