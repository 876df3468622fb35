//! Scenarios, checks and WebSockets, for the terminal and for the page.

use super::text::percentile_cells;
use crate::{ScenarioSummary, Sockets, Summary};
use schedule::units::{show_bytes, show_count, show_ns};
use std::fmt::Write;

/// A table: a heading, the names of its columns, and its rows.
struct Table {
    heading: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// What stands below it.
    notes: Vec<String>,
}

/// For the terminal.
pub(super) fn text(s: &Summary) -> String {
    let mut out = String::new();
    for table in tables(s) {
        let width = |column: usize| {
            let cells = table.rows.iter().map(|row| row[column].chars().count());
            cells.chain([table.columns[column].len()]).max().unwrap_or(0)
        };
        let line = |cells: &[String]| {
            let cell =
                |(i, text): (usize, &String)| if i == 0 { format!("{text:w$}", w = width(i)) } else { format!("{text:>w$}", w = width(i)) };
            cells.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let head: Vec<String> = table.columns.iter().map(|name| (*name).to_owned()).collect();
        let rows = table.rows.iter().map(|row| line(row));
        let lines = [String::new(), line(&head)].into_iter().chain(rows).chain(table.notes.clone());
        lines.for_each(|line| writeln!(out, "{line}").expect("a String takes all"));
    }
    out
}

/// For the page.
pub(super) fn html(s: &Summary) -> String {
    let mut out = String::new();
    for table in tables(s) {
        let cells =
            |tag: &str, row: &[String]| row.iter().map(|cell| format!("<{tag}>{}</{tag}>", super::html::escape(cell))).collect::<String>();
        let head: Vec<String> = table.columns.iter().map(|name| (*name).to_owned()).collect();
        out += &format!("<h2>{}</h2>\n<table><tr>{}</tr>\n", table.heading, cells("th", &head));
        table.rows.iter().for_each(|row| out += &format!("<tr>{}</tr>\n", cells("td", row)));
        out += "</table>\n";
        table.notes.iter().for_each(|note| out += &format!("<p class=\"quiet\">{}</p>\n", super::html::escape(note)));
    }
    out
}

fn tables(s: &Summary) -> Vec<Table> {
    let tables = [scenarios(s), checks(s), s.sockets.as_ref().map(sockets)];
    tables.into_iter().flatten().filter(|table| !table.rows.is_empty() || !table.notes.is_empty()).collect()
}

fn scenarios(s: &Summary) -> Option<Table> {
    let row = |x: &ScenarioSummary| {
        let [p50, _, p95, p99, _] = percentile_cells(&x.response);
        let share = if x.runs > 0 { 100.0 * x.failed as f64 / x.runs as f64 } else { 0.0 };
        let max = x.response.max_ns.map_or_else(|| "-".into(), show_ns);
        vec![x.name.clone(), show_count(x.runs), format!("{share:.2}%"), p50, p95, p99, max]
    };
    let failed = s.scenarios.iter().flat_map(|x| {
        let at = |(step, classes): (&String, &std::collections::BTreeMap<String, u64>)| {
            let classes = classes.iter().map(|(class, n)| format!("{} {class}", show_count(*n))).collect::<Vec<_>>().join(", ");
            format!("{} failed at: {step} ({classes})", x.name)
        };
        let unresolved = (x.unresolved > 0).then(|| format!("{}: {} had not ended", x.name, show_count(x.unresolved)));
        x.failed_at.iter().map(at).chain(unresolved).collect::<Vec<_>>()
    });
    let notes = failed.collect();
    (!s.scenarios.is_empty()).then(|| Table {
        heading: "Scenarios",
        columns: vec!["scenario", "runs", "failed", "p50", "p95", "p99", "max"],
        rows: s.scenarios.iter().map(row).collect(),
        notes,
    })
}

fn checks(s: &Summary) -> Option<Table> {
    let row = |c: &crate::CheckCount| vec![format!("{} {}", c.answer, c.name), show_count(c.passed), show_count(c.failed)];
    (!s.checks.is_empty()).then(|| Table {
        heading: "Checks",
        columns: vec!["check", "passed", "failed"],
        rows: s.checks.iter().map(row).collect(),
        notes: Vec::new(),
    })
}

fn sockets(s: &Sockets) -> Table {
    let size = |bytes: u64| show_bytes(bytes);
    let row = |p: &crate::Pushes| vec![p.series.clone(), show_count(p.count), size(p.p50_bytes), size(p.p99_bytes), size(p.max_bytes)];
    let ended: Vec<String> = s.ended.iter().map(|(how, n)| format!("{} {how}", show_count(*n))).collect();
    let ended = if ended.is_empty() { "none ended".into() } else { format!("ended: {}", ended.join(", ")) };
    Table {
        heading: "WebSockets",
        columns: vec!["pushes", "count", "p50 size", "p99 size", "max size"],
        rows: s.pushes.iter().map(row).collect(),
        notes: vec![format!(
            "WebSockets: {} opened, {} at a time at most, {} open at the end; {ended}; {} other frames",
            show_count(s.opened),
            show_count(s.peak),
            show_count(s.at_end),
            show_count(s.other_frames)
        )],
    }
}
