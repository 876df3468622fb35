use crate::{Error, Redacted, Redactor};
use runlog::{Captured, LogWriter, Sealer, chunks};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "capture.json";

/// What was not heard, and how it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Messages heard and written down.
    pub messages: u64,
    /// Messages heard, and dropped because writing did not keep up.
    pub dropped: u64,
    /// Times without a connection: from, to; epoch ns.
    pub gaps: Vec<(i64, i64)>,
    /// How often what was redacted; nothing of it was ever written down.
    #[serde(default)]
    pub redacted: Redacted,
    /// What the server complained about: a slow consumer, say.
    pub complaints: Vec<String>,
    /// The process died while it listened; at most the last second is lacking.
    #[serde(default)]
    pub cut_off: bool,
}

impl Ledger {
    /// Whether nothing is lacking.
    pub fn is_clean(&self) -> bool {
        self.dropped == 0 && self.gaps.is_empty() && !self.cut_off
    }
}

/// The manifest of a folder of segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What was listened to.
    pub subjects: Vec<String>,
    /// The servers, without credentials.
    pub source: String,
    /// When it began, epoch ns.
    pub began_ns: i64,
    /// What is lacking; absent while it goes on.
    #[serde(default)]
    pub ledger: Option<Ledger>,
}

/// A folder of segments: a capture that goes on, or was cut off.
pub struct Folder {
    dir: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
}

impl Folder {
    /// Where the segments of a capture to `output` lie.
    pub fn beside(output: &Path) -> PathBuf {
        let mut name = output.file_name().unwrap_or_default().to_owned();
        name.push(".capture");
        output.with_file_name(name)
    }

    /// Makes one; it must not exist.
    ///
    /// # Errors
    /// [`Error::Capture`].
    pub fn create(dir: &Path, subjects: &[String], source: &str, began_ns: i64) -> Result<Folder, Error> {
        if dir.exists() {
            let what = "is a capture that was not finished; nothing recorded is overwritten: finish it with `retempo capture finish`, or remove it";
            return Err(Error::Capture { path: dir.to_owned(), what: what.into() });
        }
        let io = |e: std::io::Error| Error::Capture { path: dir.to_owned(), what: format!("cannot be made: {e}") };
        std::fs::create_dir_all(dir).map_err(io)?;
        let manifest = Manifest { subjects: subjects.to_vec(), source: source.to_owned(), began_ns, ledger: None };
        let folder = Folder { dir: dir.to_owned(), manifest };
        folder.write()?;
        Ok(folder)
    }

    /// Opens one. What has no ledger was cut off.
    ///
    /// # Errors
    /// [`Error::Capture`].
    pub fn open(dir: &Path) -> Result<Folder, Error> {
        let bad = |what: String| Error::Capture { path: dir.to_owned(), what };
        let text = std::fs::read(dir.join(MANIFEST)).map_err(|e| bad(format!("is no folder of a capture: {MANIFEST}: {e}")))?;
        let manifest = serde_json::from_slice(&text).map_err(|e| bad(format!("{MANIFEST} is damaged: {e}")))?;
        Ok(Folder { dir: dir.to_owned(), manifest })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// What is lacking.
    pub fn ledger(&self) -> Ledger {
        self.manifest.ledger.clone().unwrap_or(Ledger { cut_off: true, ..Ledger::default() })
    }

    /// The last word on it.
    ///
    /// # Errors
    /// [`Error::Capture`].
    pub fn close(&mut self, ledger: Ledger) -> Result<(), Error> {
        self.manifest.ledger = Some(ledger);
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        let io = |e: std::io::Error| Error::Capture { path: self.dir.clone(), what: format!("cannot be written: {e}") };
        let temporary = self.dir.join("capture.json.tmp");
        std::fs::write(&temporary, serde_json::to_vec_pretty(&self.manifest).expect("plain data")).map_err(io)?;
        std::fs::rename(&temporary, self.dir.join(MANIFEST)).map_err(io)
    }

    /// Every message, in the order in which they came.
    ///
    /// # Errors
    /// [`Error::Log`].
    pub fn messages(&self) -> Result<impl Iterator<Item = Result<Captured, Error>> + use<>, Error> {
        let rows = |columns: runlog::CapturedColumns| (0..columns.t_ns.len()).map(move |i| columns.row(i));
        let of_chunk = move |chunk: runlog::Chunk| {
            let read = chunk.read::<Captured>();
            let (columns, error) = match read {
                Ok(columns) => (columns, None),
                Err(e) => (Vec::new(), Some(Err(e.into()))),
            };
            columns.into_iter().flat_map(rows).map(Ok).chain(error)
        };
        Ok(chunks::<Captured>(&self.dir)?.into_iter().flat_map(of_chunk))
    }
}

impl Folder {
    /// One of messages that were recorded elsewhere: `record` hands them on, and says what is lacking.
    ///
    /// # Errors
    /// [`Error`]: it cannot be written. What `record` says; nothing is left then.
    pub fn of(
        dir: &Path,
        source: &str,
        redactor: Option<Redactor>,
        record: impl FnOnce(&mut HandOn<'_>) -> Result<Ledger, String>,
    ) -> Result<Folder, Error> {
        let mut folder = Folder::create(dir, &[], source, 0)?;
        let mut segments = Segments::create(dir, redactor);
        let mut messages = 0;
        let lacking = record(&mut |message| {
            messages += 1;
            segments.push(message).map_err(|e| e.to_string())
        });
        let redacted = segments.close()?;
        let lacking = lacking.map_err(|what| {
            // It would only be in the way of the next attempt; the recording is where it was.
            let _ = std::fs::remove_dir_all(dir);
            Error::Capture { path: source.into(), what }
        })?;
        folder.close(Ledger { messages, redacted, ..lacking })?;
        Ok(folder)
    }
}

/// Takes a message that was recorded elsewhere.
pub type HandOn<'a> = dyn FnMut(Captured) -> Result<(), String> + 'a;

/// Writes the messages of a folder down; flushed at least once a second by whoever has it.
pub(crate) struct Segments {
    sealer: Sealer,
    log: LogWriter<Captured>,
    redactor: Option<Redactor>,
}

impl Segments {
    /// What `redactor` takes out is never on disk.
    pub fn create(dir: &Path, redactor: Option<Redactor>) -> Segments {
        let sealer = Sealer::start();
        Segments { log: LogWriter::create(dir, &sealer), sealer, redactor }
    }

    pub fn push(&mut self, message: Captured) -> Result<(), Error> {
        let message = match &mut self.redactor {
            Some(redactor) => redactor.redact(message),
            None => message,
        };
        Ok(self.log.push(message)?)
    }

    pub fn flush(&mut self) -> Result<(), Error> {
        Ok(self.log.flush()?)
    }

    /// How often what was redacted.
    pub fn close(self) -> Result<Redacted, Error> {
        self.log.close()?;
        self.sealer.finish()?;
        Ok(self.redactor.map(|redactor| redactor.redacted).unwrap_or_default())
    }
}
