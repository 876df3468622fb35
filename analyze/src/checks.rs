//! How the checks of answers went.

use crate::input::Input;
use crate::summary::CheckCount;
use runlog::{Checked, DueSent, chunks};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

/// One per check that an answer was held against, by answer and name: of replies, those to ops that were due in the time, as in
/// their series; of pushes, those received in it.
///
/// # Errors
/// The folder is damaged.
pub(crate) fn checks(input: &Input, due_ns: &Range<i64>) -> Result<Vec<CheckCount>, runlog::Error> {
    let answers = &input.manifest.schedule.answers;
    let checked = chunks::<Checked>(&input.dir)?;
    if checked.is_empty() {
        return Ok(Vec::new());
    }
    let not_due = not_due(input, due_ns)?;
    let counts = |op: i64, answer: u8, received_ns: i64| match answers.get(usize::from(answer)) {
        Some(rule) if rule.is_push() => due_ns.contains(&received_ns),
        _ => input.ops.contains(&op) && !not_due.contains(&op),
    };
    let mut judged: BTreeMap<u8, (u64, BTreeMap<String, u64>)> = BTreeMap::new();
    for chunk in checked {
        for c in chunk.read::<Checked>()? {
            for i in 0..c.op.len() {
                if !counts(c.op.value(i), c.answer.value(i), c.received_ns.value(i)) {
                    continue;
                }
                let (all, failed) = judged.entry(c.answer.value(i)).or_default();
                *all += 1;
                for name in c.failed.get(i).into_iter().flat_map(|names| names.split(',')) {
                    *failed.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
    }
    let known = judged.iter().filter_map(|(answer, counts)| Some((answers.get(usize::from(*answer))?, counts)));
    let counted = known.flat_map(|(rule, (all, failed))| {
        rule.checks.iter().map(move |(name, check)| {
            let failed = failed.get(name).copied().unwrap_or(0);
            CheckCount { answer: rule.series_name().to_owned(), name: name.clone(), check: check.to_string(), passed: all - failed, failed }
        })
    });
    Ok(counted.collect())
}

/// Those of the ops asked about that were due at another time: of a warm-up, or after the end of a step.
fn not_due(input: &Input, due_ns: &Range<i64>) -> Result<HashSet<i64>, runlog::Error> {
    let mut ops = HashSet::new();
    if *due_ns == (0..i64::MAX) {
        return Ok(ops);
    }
    for chunk in &input.sends {
        for c in chunk.read::<DueSent>()? {
            let others = (0..c.op.len()).filter(|&i| !due_ns.contains(&c.intended_ns.value(i)) && input.ops.contains(&c.op.value(i)));
            ops.extend(others.map(|i| c.op.value(i)));
        }
    }
    Ok(ops)
}
