//! What came over WebSockets: pushes as series of their own, and how many sockets were open when.

use crate::input::Input;
use crate::samples::{Percentile, Samples};
use crate::spool::Spool;
use crate::summary::{Pushes, Sockets};
use crate::tally::{Cell, Copy, SeriesKey};
use arrow::array::Array;
use runlog::{Frame, chunks};
use schedule::AnswerRule;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Of frames received in a time.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Gaps between pushes, and their staleness.
    pub series: BTreeMap<SeriesKey, Cell>,
    /// By (action, answer): sizes.
    sizes: BTreeMap<(u16, u8), Samples>,
    other: u64,
    opened: u64,
    ended: BTreeMap<String, u64>,
    /// Changes of how many are open: when, and by how much.
    changes: Vec<(i64, i64)>,
}

/// Reads the log of frames.
///
/// # Errors
/// The folder is damaged.
pub(crate) fn frames(input: &Input, due_ns: &Range<i64>) -> Result<Frames, runlog::Error> {
    let mut found = Frames::default();
    // When the last push of a kind came over a socket. Frames of one socket are in their order.
    let mut last: HashMap<(i64, u8), i64> = HashMap::new();
    let (actions, answers) = (&input.manifest.schedule.actions, &input.manifest.schedule.answers);
    let is_push = |action: u16, answer: u8| {
        let theirs = actions.get(usize::from(action)).is_some_and(|a| a.answers.contains(&answer));
        theirs && answers.get(usize::from(answer)).is_some_and(AnswerRule::is_push)
    };
    for chunk in chunks::<Frame>(&input.dir)? {
        for c in chunk.read::<Frame>()? {
            for i in 0..c.op.len() {
                let (received_ns, counts) = (c.received_ns.value(i), due_ns.contains(&c.received_ns.value(i)));
                let (action, answer) = (c.action.value(i), c.answer.value(i));
                match c.kind.value(i) {
                    Frame::OPEN => {
                        found.changes.push((received_ns, 1));
                        found.opened += u64::from(counts);
                    }
                    Frame::CLOSE => {
                        found.changes.push((received_ns, -1));
                        let how = c.code.get(i).unwrap_or("closed by us");
                        *found.ended.entry(how.to_owned()).or_default() += u64::from(counts);
                    }
                    _ if answer == Frame::OTHER => found.other += u64::from(counts),
                    // What answers an op by its id is a reply, and with those.
                    _ if !is_push(action, answer) => {}
                    _ => {
                        let before = last.insert((c.op.value(i), answer), received_ns);
                        if counts {
                            let stamp_ns = c.stamp_ns.is_valid(i).then(|| c.stamp_ns.value(i));
                            found.push((action, answer), (received_ns, before, stamp_ns), c.bytes.value(i), c.code.get(i));
                        }
                    }
                }
            }
        }
    }
    found.ended.retain(|_, n| *n > 0);
    Ok(found)
}

impl Frames {
    /// A push, when it came, the one before it, and when it was made.
    fn push(&mut self, (action, answer): (u16, u8), times: (i64, Option<i64>, Option<i64>), bytes: u32, code: Option<&str>) {
        let (received_ns, before, stamp_ns) = times;
        self.sizes.entry((action, answer)).or_default().add(i64::from(bytes));
        if let Some(before) = before {
            // The first of a socket counts as the answer to its op.
            let cell = self.series.entry((action, answer, Copy::Gap)).or_default();
            match code {
                Some(class) => *cell.errors.entry(class.into()).or_default() += 1,
                None => cell.ok += 1,
            }
            cell.response.add(received_ns.saturating_sub(before));
        }
        if let Some(stamp_ns) = stamp_ns {
            self.series.entry((action, answer, Copy::Staleness)).or_default().response.add(received_ns.saturating_sub(stamp_ns));
        }
    }

    /// `None` if there was no WebSocket.
    pub fn summary(&mut self, names: &BTreeMap<SeriesKey, String>, window_ns: i64, spool: &Spool) -> Option<Sockets> {
        if self.changes.is_empty() && self.sizes.is_empty() {
            return None;
        }
        self.changes.sort_unstable();
        let (mut open, mut peak, mut points) = (0i64, 0i64, BTreeMap::new());
        for (t_ns, change) in &self.changes {
            open += change;
            peak = peak.max(open);
            // As many as there are at the end of a window.
            points.insert(t_ns.div_euclid(window_ns).saturating_mul(window_ns), open);
        }
        let pushes = self.sizes.iter_mut().map(|(&(action, answer), sizes)| {
            let found = sizes.percentiles(&[0.5, 0.99], 0, Some(spool));
            let value = |p: Percentile| if let Percentile::Value(n) = p { n as u64 } else { 0 };
            Pushes {
                series: names.get(&(action, answer, Copy::Each)).cloned().unwrap_or_default(),
                count: sizes.count(),
                p50_bytes: value(found[0]),
                p99_bytes: value(found[1]),
                max_bytes: sizes.max_ns() as u64,
            }
        });
        Some(Sockets {
            pushes: pushes.collect(),
            opened: self.opened,
            ended: self.ended.clone(),
            peak: peak as u64,
            at_end: open.max(0) as u64,
            other_frames: self.other,
            points: points.into_iter().map(|(t_ns, open)| (t_ns, open.max(0) as u64)).collect(),
        })
    }
}
