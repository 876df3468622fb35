use std::path::PathBuf;

/// What can go wrong with a schedule file. Each message says what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file could not be created or written.
    #[error("cannot write {path}: {source}; choose another place with -o")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not Parquet, or cut short.
    #[error("{path} is not a readable Parquet file ({detail}); it may be truncated, or not a schedule: compile it again")]
    NotParquet {
        /// The file.
        path: PathBuf,
        /// What the Parquet reader said.
        detail: String,
    },
    /// Parquet, but not ours.
    #[error("{path} is a Parquet file but not a retempo schedule ({detail}); make one with `retempo compile`")]
    NotSchedule {
        /// The file.
        path: PathBuf,
        /// What is missing.
        detail: String,
    },
    /// Written by a newer major version of the format.
    #[error("{path} has schedule format {found}, this retempo reads up to {supported}; use a newer retempo")]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Version of the file.
        found: crate::Format,
        /// Our version.
        supported: crate::Format,
    },
    /// A row that breaks a rule of the format.
    #[error("{path}: row {row}: {what}; the schedule is damaged, compile it again")]
    BadRow {
        /// The file.
        path: PathBuf,
        /// Row number.
        row: i64,
        /// Which rule.
        what: String,
    },
    /// The Parquet writer failed.
    #[error("cannot write {path}: {detail}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the Parquet writer said.
        detail: String,
    },
}
