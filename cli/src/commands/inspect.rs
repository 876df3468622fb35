use crate::args::Inspect;
use crate::failure::{Exit, Result};
use crate::output::print;
use runlog::Manifest;
use schedule::units::{show_bytes, show_count, show_ns, show_rate};
use schedule::{LogicalHash, Reader};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

pub fn run(args: &Inspect) -> Result<Exit> {
    if args.schedule.is_dir() { run_folder(args) } else { schedule(args) }
}

/// What a run was, and how large its logs are.
fn run_folder(args: &Inspect) -> Result<Exit> {
    let dir = &args.schedule;
    let manifest = Manifest::read(dir)?;
    let rows = BTreeMap::from([
        ("sends", rows::<runlog::Sent>(dir)?),
        ("replies", rows::<runlog::Reply>(dir)?),
        ("broadcasts", rows::<runlog::Broadcast>(dir)?),
        ("events", rows::<runlog::Event>(dir)?),
        ("metrics", rows::<runlog::Metric>(dir)?),
    ]);
    if args.json {
        print(&format!("{:#}\n", serde_json::json!({ "manifest": manifest, "rows": rows })));
        return Ok(Exit::Done);
    }
    print(&format!("run {} of {} · {:?} · {}\n", manifest.run, manifest.schedule.name, manifest.state, manifest.tool));
    print(&format!("{}\n{}\n", manifest.command.join(" "), manifest.target.join(", ")));
    let (planned, rate) = (show_count(manifest.planned_ops as u64), show_rate(manifest.intended_rate_per_sec));
    print(&format!("{planned} ops planned at {rate}, {} connections\n", manifest.connections.len()));
    rows.iter().for_each(|(log, n)| print(&format!("{log:18} {:>12} rows\n", show_count(*n as u64))));
    Ok(Exit::Done)
}

fn rows<T: runlog::Table>(dir: &Path) -> Result<usize> {
    Ok(runlog::chunks::<T>(dir)?.iter().map(|c| c.rows).sum())
}

fn schedule(args: &Inspect) -> Result<Exit> {
    let reader = Reader::open(&args.schedule)?;
    let meta = reader.meta();
    let (mut hash, mut bytes, mut sessions) = (LogicalHash::default(), 0u64, HashSet::new());
    let mut by_action = vec![0u64; meta.actions.len()];
    let mut by_bucket: BTreeMap<String, u64> = BTreeMap::new();
    let (mut gated, mut expected) = (0u64, BTreeMap::<String, u64>::new());
    for batch in reader.batches()? {
        for row in batch?.rows() {
            hash.add(&row);
            bytes += (row.target.len() + row.payload.len()) as u64;
            sessions.insert(row.session);
            by_action[usize::from(row.action)] += 1;
            gated += u64::from(row.gate().is_some());
            if let Some(bucket) = row.bucket {
                *by_bucket.entry(bucket.to_owned()).or_default() += 1;
            }
            for e in row.expect() {
                *expected.entry(meta.series_name(row.action, e.answer)).or_default() += u64::from(e.count.unwrap_or(1));
            }
        }
    }
    let actions: BTreeMap<&str, u64> = meta.actions.iter().map(|a| a.name.as_str()).zip(by_action).collect();
    let hash = hash.finish(meta);
    if args.json {
        let report = serde_json::json!({
            "name": meta.name, "seed": meta.seed, "format": meta.format, "tool": meta.tool, "rows": meta.rows, "duration_ns": meta.duration_ns,
            "nominal_rate_per_sec": meta.nominal_rate_per_sec, "peak_rate_per_sec": meta.peak_rate_per_sec, "bytes": bytes,
            "sessions": sessions.len(), "actions": actions, "expected": expected, "buckets": by_bucket, "gated": gated,
            "fingerprint": meta.fingerprint, "logical_hash": hash, "slo": meta.slo, "losses": meta.losses, "history": meta.history,
        });
        print(&format!("{report:#}\n"));
        return Ok(Exit::Done);
    }
    print(&format!("{} · seed {} · format {} · {}\n", meta.name, meta.seed, meta.format, meta.tool));
    print(&format!(
        "{} ops over {}: {}, peak {}\n",
        show_count(meta.rows as u64),
        show_ns(meta.duration_ns),
        show_rate(meta.nominal_rate_per_sec),
        show_rate(meta.peak_rate_per_sec)
    ));
    print(&format!("{} of subjects and payloads, {} sessions, {gated} gated ops\n", show_bytes(bytes), show_count(sessions.len() as u64)));
    for (title, counts) in
        [("ops", actions.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect()), ("expected answers", expected), ("buckets", by_bucket)]
    {
        for (name, n) in counts {
            print(&format!("{title:18} {name:20} {:>12}\n", show_count(n)));
        }
    }
    print(&format!("fingerprint        {}\nlogical hash       {hash}\n", meta.fingerprint));
    Ok(Exit::Done)
}
