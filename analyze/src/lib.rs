//! Decides everything offline, from the raw log: percentiles, counts, verdicts, charts.
//!
//! ```text
//! run folder ─ Input ─► waves (join, in parallel) ─► Tally ─ merge ─► Summary ─► text, JSON, CSV, charts, page
//!                                                          SLO lines ─┘
//! ```
//!
//! The join is directly addressed: a wave holds the sends of `WAVE_OPS` ops in arrays and reads the row groups of
//! answers whose range of ops touches it. Waves are the unit of work and of memory. Every statistic is a value with
//! `add` and `merge`; any split of a log gives the same answer, and a property test compares it with a slow exact
//! oracle. Every renderer is a function from [`Summary`] to bytes.
#![forbid(unsafe_code)]

mod analysis;
mod attribution;
mod backlog;
mod buckets;
mod capacity;
mod checks;
mod count;
mod fidelity;
mod frames;
mod gated;
mod input;
mod keyed;
pub mod render;
mod samples;
mod scenario;
mod slo;
mod spool;
mod suggest;
mod summary;
mod tally;
mod verdict;
pub mod wave;

pub use analysis::{LATE_NS, Question, analyze, analyze_step, analyze_with, check_lines};
pub use capacity::{Knee, Trial, knee, show_target};
pub use fidelity::{Fidelity, Limits, fidelity};
pub use samples::{Percentile, Samples};
pub use slo::{Line, LineError, SLO_PRESETS, slo_preset};
pub use suggest::suggest;
pub use summary::*;

/// Why a run cannot be analysed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The run folder is of no use.
    #[error(transparent)]
    Run(#[from] runlog::Error),
    /// An SLO line that is none.
    #[error(transparent)]
    Slo(#[from] LineError),
    /// A schedule is of no use.
    #[error(transparent)]
    Schedule(#[from] schedule::Error),
    /// A run and a schedule that do not belong together.
    #[error("{} is no run of {}, which has other rows; name the schedule that was replayed", run.display(), schedule.display())]
    NotOfIt {
        /// The run folder.
        run: std::path::PathBuf,
        /// The schedule.
        schedule: std::path::PathBuf,
    },
    /// A run at several tempos, where one is needed.
    #[error("{} is a run in steps; compare a run at one tempo", .0.display())]
    SeveralTempos(std::path::PathBuf),
    /// A chart or file cannot be made.
    #[error("{0}")]
    Render(String),
}
