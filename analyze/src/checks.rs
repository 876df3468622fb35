//! How the checks of answers went.

use crate::input::Input;
use crate::summary::CheckCount;
use runlog::{Checked, chunks};
use schedule::AnswerKind;
use std::collections::BTreeMap;
use std::ops::Range;

/// One per check that an answer was held against, by answer and name: of replies, those to the ops asked about, once the warm-up
/// is over; of pushes, those received in the time.
///
/// # Errors
/// The folder is damaged.
pub(crate) fn checks(input: &Input, due_ns: &Range<i64>) -> Result<Vec<CheckCount>, runlog::Error> {
    let answers = &input.manifest.schedule.answers;
    let is_push = |answer: u8| answers.get(usize::from(answer)).is_some_and(|rule| rule.kind == AnswerKind::Push);
    let counts = |op: i64, answer: u8, received_ns: i64| {
        let in_time = if is_push(answer) { received_ns < due_ns.end } else { input.ops.contains(&op) };
        in_time && received_ns >= due_ns.start
    };
    let mut judged: BTreeMap<u8, (u64, BTreeMap<String, u64>)> = BTreeMap::new();
    for chunk in chunks::<Checked>(&input.dir)? {
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
