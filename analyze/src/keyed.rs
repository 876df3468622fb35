//! Answers that carry no id of ours: found by their key, and then as good as any other.

use crate::Error;
use crate::input::Input;
use crate::wave::{Part, WAVE_OPS};
use arrow::array::Array;
use runlog::{Chunk, JoinBroadcast, KeySent, Keyed, Table};
use schedule::Whose;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// What the keyed answers of a run come to.
#[derive(Default)]
pub(crate) struct Found {
    /// Those that belong to an op.
    pub parts: Vec<Part>,
    /// Those that belong to none, by answer.
    pub unexpected: BTreeMap<u8, u64>,
}

/// Joins the keyed log: an answer is that of the latest op with its key that was sent before it came. Those that belong to none
/// count if they came within `due_ns`, as ops count that were due in it.
///
/// # Errors
/// The folder is damaged.
pub(crate) fn join(input: &Input, due_ns: &Range<i64>) -> Result<Found, Error> {
    let mut found = Found::default();
    if !input.manifest.schedule.answers.iter().any(|a| matches!(a.whose, Whose::Fields(_))) {
        return Ok(found);
    }
    let sent = sent(&input.sends)?;
    let mut rows: Vec<JoinBroadcast> = Vec::new();
    for chunk in &input.keyed {
        for c in chunk.read::<Keyed>()? {
            for i in 0..c.key.len() {
                let Keyed { key, answer, received_ns, status, code, recipient, .. } = c.row(i);
                let times = sent.get(&key).map_or(&[][..], Vec::as_slice);
                match times[..times.partition_point(|(sent_ns, _)| *sent_ns <= received_ns)].last() {
                    Some(&(_, op)) => rows.push(JoinBroadcast { op, answer, received_ns, status, code, recipient }),
                    None if due_ns.contains(&received_ns) => *found.unexpected.entry(answer).or_default() += 1,
                    None => {}
                }
            }
        }
    }
    rows.sort_by_key(|row| (row.op, row.received_ns));
    for rows in rows.chunk_by(|a, b| a.op.div_euclid(WAVE_OPS) == b.op.div_euclid(WAVE_OPS)) {
        let mut builder = Default::default();
        rows.iter().cloned().for_each(|row| row.append(&mut builder));
        let columns = JoinBroadcast::columns(&JoinBroadcast::take(&mut builder)).expect("columns follow the schema");
        found.parts.push(Part::of_broadcasts(vec![columns]));
    }
    Ok(found)
}

/// By key: when an op with it was sent, and which; in order of time.
fn sent(chunks: &[Chunk]) -> Result<HashMap<i64, Vec<(i64, i64)>>, Error> {
    let mut by_key: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
    for chunk in chunks {
        for c in chunk.read::<KeySent>()? {
            for i in (0..c.op.len()).filter(|&i| c.key.is_valid(i) && c.sent_ns.is_valid(i)) {
                by_key.entry(c.key.value(i)).or_default().push((c.sent_ns.value(i), c.op.value(i)));
            }
        }
    }
    by_key.values_mut().for_each(|times| times.sort_unstable());
    Ok(by_key)
}
