use crate::Error;
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

/// One fault, as it was injected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Injected {
    /// Name of its kind.
    pub fault: &'static str,
    /// Durable of the stage, or the route over HTTP.
    pub stage: &'static str,
    /// Sequence in the stream that the stage consumes; over HTTP, the number of the request.
    pub stream_seq: u64,
    /// The message it befell.
    pub message_id: String,
}

/// Remembers and writes what was injected.
#[derive(Default)]
pub(crate) struct Ledger {
    file: Option<Mutex<File>>,
    injected: Mutex<Vec<Injected>>,
}

impl Ledger {
    pub fn create(path: Option<&Path>) -> Result<Ledger, Error> {
        let open = |path: &Path| File::create(path).map_err(|source| Error::Ledger { path: path.to_owned(), source });
        Ok(Ledger { file: path.map(open).transpose()?.map(Mutex::new), ..Ledger::default() })
    }

    pub fn record(&self, fault: &'static str, stage: &'static str, stream_seq: u64, message_id: &str) {
        let injected = Injected { fault, stage, stream_seq, message_id: message_id.to_owned() };
        if let Some(file) = &self.file {
            let line = serde_json::to_string(&injected).expect("plain data");
            // A full disk must not stop the services; the memory of the ledger stays whole.
            let _ = writeln!(file.lock().expect("no panic while locked"), "{line}");
        }
        self.injected.lock().expect("no panic while locked").push(injected);
    }

    pub fn injected(&self) -> Vec<Injected> {
        self.injected.lock().expect("no panic while locked").clone()
    }
}
