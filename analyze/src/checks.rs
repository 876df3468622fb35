//! How the checks of answers went.

use crate::input::Input;
use crate::summary::CheckCount;
use runlog::{Checked, chunks};
use std::collections::BTreeMap;

/// One per check that anything was held against, by answer and name.
///
/// # Errors
/// The folder is damaged.
pub(crate) fn checks(input: &Input) -> Result<Vec<CheckCount>, runlog::Error> {
    let mut judged: BTreeMap<u8, (u64, BTreeMap<String, u64>)> = BTreeMap::new();
    for chunk in chunks::<Checked>(&input.dir)? {
        for c in chunk.read::<Checked>()? {
            for i in (0..c.op.len()).filter(|&i| input.ops.contains(&c.op.value(i))) {
                let (all, failed) = judged.entry(c.answer.value(i)).or_default();
                *all += 1;
                for name in c.failed.get(i).into_iter().flat_map(|names| names.split(',')) {
                    *failed.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
    }
    let answers = &input.manifest.schedule.answers;
    let known = judged.iter().filter_map(|(answer, counts)| Some((answers.get(usize::from(*answer))?, counts)));
    let counted = known.flat_map(|(rule, (all, failed))| {
        rule.checks.iter().map(move |(name, check)| {
            let failed = failed.get(name).copied().unwrap_or(0);
            CheckCount { answer: rule.series_name().to_owned(), name: name.clone(), check: check.to_string(), passed: all - failed, failed }
        })
    });
    Ok(counted.collect())
}
