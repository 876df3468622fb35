//! What the gates did: how many ops waited for answers, and how far beyond their own time they slipped.

use crate::input::Input;
use crate::samples::Samples;
use arrow::array::Array;
use runlog::{GatedSent, Outcome};
use std::collections::BTreeMap;
use std::ops::Range;

/// The gated ops of one action.
#[derive(Debug, Default)]
pub(crate) struct Gated {
    pub ops: u64,
    /// Those whose gate opened.
    pub released: u64,
    pub slip: Samples,
}

/// By action; of ops due in this time only.
///
/// # Errors
/// The folder is damaged.
pub(crate) fn gated(input: &Input, due_ns: &Range<i64>) -> Result<BTreeMap<u16, Gated>, runlog::Error> {
    let mut by_action: BTreeMap<u16, Gated> = BTreeMap::new();
    for chunk in &input.sends {
        for c in chunk.read::<GatedSent>()? {
            let rows = (0..c.slip_ns.len()).filter(|&i| c.slip_ns.is_valid(i) && due_ns.contains(&c.intended_ns.value(i)));
            for i in rows {
                let gated = by_action.entry(c.action.value(i)).or_default();
                gated.ops += 1;
                if c.outcome.value(i) == Outcome::Sent as u8 {
                    gated.released += 1;
                    gated.slip.add(c.slip_ns.value(i));
                }
            }
        }
    }
    Ok(by_action)
}
