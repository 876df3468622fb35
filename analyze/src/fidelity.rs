//! Whether a copy is faithful: a schedule against another, or against what a run really sent.

use crate::Error;
use crate::render::Chart;
use crate::render::offsets;
use runlog::{EventKind, MANIFEST, Manifest, Outcome, chunks};
use schedule::units::{show_count, show_ns};
use schedule::{Operation, Part, Reader};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// Points of the chart.
const POINTS: usize = 500;

/// What is still faithful.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// 99th percentile of the error of gaps between ops, ns.
    pub gap_ns: i64,
    /// Of the offset, from the first hundredth of the ops to the last, ns.
    pub drift_ns: i64,
}

/// How a copy compares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fidelity {
    /// Ops: of the original, of the copy, and those found in both.
    pub ops: (u64, u64, u64),
    /// Ops by action: of the original, of the copy.
    pub actions: BTreeMap<String, (u64, u64)>,
    /// Ops of a session that come before one that they followed.
    pub out_of_order: u64,
    /// Mean bytes of a payload: of the original, of the copy; absent where a copy is a run.
    pub payload_bytes: Option<(f64, f64)>,
    /// |gap in the copy − gap in the original|: 50th, 99th percentile and largest, ns.
    pub gap_error_ns: Option<(i64, i64, i64)>,
    /// Median offset of the last hundredth − of the first, ns.
    pub drift_ns: Option<i64>,
    /// Time in the original, and offset of the copy, ns; some of them.
    pub offsets: Vec<(i64, i64)>,
    /// What is not faithful.
    pub faults: Vec<String>,
}

impl Fidelity {
    /// Whether the copy is faithful.
    pub fn is_faithful(&self) -> bool {
        self.faults.is_empty()
    }

    /// The offset over time.
    pub fn chart(&self) -> Chart {
        offsets(&self.offsets)
    }

    /// For people.
    pub fn text(&self) -> String {
        let (original, copy, both) = self.ops;
        let mut out = format!("ops: {} and {}, {} in both\n", show_count(original), show_count(copy), show_count(both));
        for (name, (a, b)) in self.actions.iter().filter(|(_, (a, b))| a != b) {
            out += &format!("action {name}: {} and {}\n", show_count(*a), show_count(*b));
        }
        if let Some((a, b)) = self.payload_bytes {
            out += &format!("payload: {a:.1} and {b:.1} bytes on average\n");
        }
        out += &format!("out of order within a session: {}\n", show_count(self.out_of_order));
        if let Some((p50, p99, max)) = self.gap_error_ns {
            out += &format!("gap error: p50 {}, p99 {}, max {}\n", show_ns(p50), show_ns(p99), show_ns(max));
        }
        if let Some(drift_ns) = self.drift_ns {
            out += &format!("drift: {}{}\n", if drift_ns < 0 { "-" } else { "" }, show_ns(drift_ns.abs()));
        }
        out += if self.is_faithful() { "FAITHFUL\n" } else { "NOT FAITHFUL\n" };
        self.faults.iter().fold(out, |out, fault| out + "  - " + fault + "\n")
    }
}

/// An op, as far as it is compared.
struct Sight {
    at_ns: i64,
    session: u32,
    action: String,
    /// What it says, but for what is fresh at every replay.
    says: u64,
    bytes: usize,
}

/// Compares a schedule with another, or with a run of it.
///
/// # Errors
/// [`Error`]: a file cannot be read, or the run had several tempos.
pub fn fidelity(original: &Path, copy: &Path, limits: Limits) -> Result<Fidelity, Error> {
    let sights = sights(original)?;
    if copy.join(MANIFEST).is_file() { of_run(&sights, original, copy, limits) } else { Ok(compare(&sights, &self::sights(copy)?, limits)) }
}

fn sights(path: &Path) -> Result<Vec<Sight>, Error> {
    let reader = Reader::open(path)?;
    let mut all = Vec::new();
    for batch in reader.batches()? {
        all.extend(batch?.rows().map(|row| Sight {
            at_ns: row.at_ns,
            session: row.session,
            action: reader.meta().actions[usize::from(row.action)].name.clone(),
            says: says(row.to_operation()),
            bytes: row.payload.len(),
        }));
    }
    Ok(all)
}

fn says(mut op: Operation) -> u64 {
    for slot in &op.slots {
        let range = slot.offset as usize..slot.offset as usize + usize::from(slot.width);
        match slot.part {
            Part::Payload => op.payload[range].fill(b'#'),
            Part::Target => op.target.replace_range(range.clone(), &"#".repeat(range.len())),
            Part::Header(n) => op.headers[usize::from(n)].1.replace_range(range.clone(), &"#".repeat(range.len())),
        }
    }
    let mut hasher = DefaultHasher::new();
    (op.target, op.headers, op.payload).hash(&mut hasher);
    hasher.finish()
}

/// By what they say, in order.
fn compare(original: &[Sight], copy: &[Sight], limits: Limits) -> Fidelity {
    let mut waiting: HashMap<u64, VecDeque<usize>> = HashMap::new();
    copy.iter().enumerate().for_each(|(i, sight)| waiting.entry(sight.says).or_default().push_back(i));
    let found = |sight: &Sight| waiting.get_mut(&sight.says).and_then(VecDeque::pop_front);
    let found: Vec<Option<usize>> = original.iter().map(found).collect();
    let pairs: Vec<(i64, i64)> = original.iter().zip(&found).filter_map(|(a, i)| Some((a.at_ns, copy[(*i)?].at_ns))).collect();
    let mut last: HashMap<u32, usize> = HashMap::new();
    let mut out_of_order = 0;
    for (sight, place) in original.iter().zip(&found).filter_map(|(sight, place)| Some((sight, (*place)?))) {
        let before = last.insert(sight.session, place);
        out_of_order += u64::from(before.is_some_and(|before| before > place));
    }
    let mean = |sights: &[Sight]| sights.iter().map(|s| s.bytes).sum::<usize>() as f64 / sights.len().max(1) as f64;
    let mut actions: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    original.iter().for_each(|s| actions.entry(s.action.clone()).or_default().0 += 1);
    copy.iter().for_each(|s| actions.entry(s.action.clone()).or_default().1 += 1);
    let ops = (original.len() as u64, copy.len() as u64, pairs.len() as u64);
    judged(ops, actions, out_of_order, Some((mean(original), mean(copy))), pairs, limits)
}

/// By their numbers: what was due, and when it was sent.
fn of_run(original: &[Sight], path: &Path, run: &Path, limits: Limits) -> Result<Fidelity, Error> {
    let manifest = Manifest::read(run)?;
    let rows = original.len() as i64;
    let lap_ns = Reader::open(path)?.meta().duration_ns;
    let same = manifest.schedule.rows == rows && manifest.schedule.duration_ns == lap_ns;
    if !same {
        return Err(Error::NotOfIt { run: run.to_owned(), schedule: path.to_owned() });
    }
    for chunk in chunks::<runlog::Event>(run)? {
        for columns in chunk.read::<runlog::Event>()? {
            if (0..columns.t_ns.len()).any(|i| &*columns.row(i).kind == EventKind::Step.name()) {
                return Err(Error::SeveralTempos(run.to_owned()));
            }
        }
    }
    let mut sent: Vec<(i64, Option<i64>)> = Vec::new();
    for chunk in chunks::<runlog::Sent>(run)? {
        for columns in chunk.read::<runlog::JoinSent>()? {
            let row = |i: usize| columns.row(i);
            let times = (0..columns.op.len()).map(row).map(|row| (row.op, row.sent_ns.filter(|_| row.outcome == Outcome::Sent as u8)));
            sent.extend(times);
        }
    }
    sent.sort_unstable();
    let mut actions: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let (mut pairs, mut out_of_order, mut last) = (Vec::new(), 0, HashMap::<u32, i64>::new());
    for (op, sent_ns) in &sent {
        let sight = &original[op.rem_euclid(rows) as usize];
        let due_ns = ((op.div_euclid(rows) * lap_ns + sight.at_ns) as f64 / manifest.speed) as i64;
        let counts = actions.entry(sight.action.clone()).or_default();
        counts.0 += 1;
        if let Some(sent_ns) = sent_ns {
            counts.1 += 1;
            pairs.push((due_ns, *sent_ns));
            out_of_order += u64::from(last.insert(sight.session, *sent_ns).is_some_and(|before| before > *sent_ns));
        }
    }
    let ops = (sent.len() as u64, pairs.len() as u64, pairs.len() as u64);
    Ok(judged(ops, actions, out_of_order, None, pairs, limits))
}

fn judged(
    ops: (u64, u64, u64),
    actions: BTreeMap<String, (u64, u64)>,
    out_of_order: u64,
    payload_bytes: Option<(f64, f64)>,
    pairs: Vec<(i64, i64)>,
    limits: Limits,
) -> Fidelity {
    let gap_error_ns = gap_error(&pairs);
    let offset = |(a, b): &(i64, i64)| b - a;
    let drift_ns = (pairs.len() >= 2).then(|| {
        let n = pairs.len().div_ceil(100);
        median(pairs[pairs.len() - n..].iter().map(offset)) - median(pairs[..n].iter().map(offset))
    });
    let mut faults = Vec::new();
    let (original, copy, both) = ops;
    if (original, copy) != (both, both) {
        faults.push(format!("{} ops are not in the copy, and {} only there", show_count(original - both), show_count(copy - both)));
    }
    if out_of_order > 0 {
        faults.push(format!("{} ops come before one of their session that they followed", show_count(out_of_order)));
    }
    if let Some((_, p99, _)) = gap_error_ns.filter(|(_, p99, _)| *p99 > limits.gap_ns) {
        faults.push(format!("gap error p99 {} > {}", show_ns(p99), show_ns(limits.gap_ns)));
    }
    if let Some(drift_ns) = drift_ns.filter(|drift| drift.abs() > limits.drift_ns) {
        faults.push(format!("drift {} > {}", show_ns(drift_ns.abs()), show_ns(limits.drift_ns)));
    }
    let base = pairs.first().map_or(0, offset);
    let step = pairs.len().div_ceil(POINTS).max(1);
    let offsets = pairs.iter().step_by(step).map(|pair| (pair.0, offset(pair) - base)).collect();
    Fidelity { ops, actions, out_of_order, payload_bytes, gap_error_ns, drift_ns, offsets, faults }
}

/// Nearest rank, as everywhere.
fn gap_error(pairs: &[(i64, i64)]) -> Option<(i64, i64, i64)> {
    let mut errors: Vec<i64> = pairs.windows(2).map(|w| ((w[1].1 - w[0].1) - (w[1].0 - w[0].0)).abs()).collect();
    errors.sort_unstable();
    let at = |q: f64| errors[((q * errors.len() as f64).ceil() as usize).clamp(1, errors.len()) - 1];
    (!errors.is_empty()).then(|| (at(0.5), at(0.99), at(1.0)))
}

fn median(values: impl Iterator<Item = i64>) -> i64 {
    let mut values: Vec<i64> = values.collect();
    values.sort_unstable();
    values.get((values.len().max(1) - 1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sights(rows: &[(i64, u32, u64)]) -> Vec<Sight> {
        let sight = |&(at_ns, session, says): &(i64, u32, u64)| Sight { at_ns, session, says, action: "a".into(), bytes: 10 };
        rows.iter().map(sight).collect()
    }

    const LIMITS: Limits = Limits { gap_ns: 5, drift_ns: 5 };

    #[test]
    fn a_copy_that_is_only_later_is_faithful() {
        let original = sights(&[(0, 1, 1), (10, 2, 2), (20, 1, 1)]);
        let copy = sights(&[(100, 7, 1), (112, 8, 2), (120, 7, 1)]);
        let found = compare(&original, &copy, LIMITS);
        assert_eq!((found.ops, found.gap_error_ns, found.drift_ns, found.out_of_order), ((3, 3, 3), Some((2, 2, 2)), Some(0), 0));
        assert!(found.is_faithful(), "{}", found.text());
    }

    #[test]
    fn what_is_not_faithful_is_said() {
        let original = sights(&[(0, 1, 1), (10, 1, 2), (20, 1, 3), (30, 2, 4)]);
        let copy = sights(&[(0, 1, 2), (10, 1, 1), (60, 2, 4), (70, 2, 9)]);
        let found = compare(&original, &copy, LIMITS);
        assert_eq!((found.ops, found.out_of_order), ((4, 4, 3), 1));
        let told = found.text();
        for fault in ["1 ops are not in the copy, and 1 only there", "1 ops come before", "gap error p99", "drift 20ns > 5ns"] {
            assert!(told.contains(fault), "{told}");
        }
    }
}
