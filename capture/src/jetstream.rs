//! Reading a stream that is there already, at full speed, by an ordered consumer that disturbs nobody.

use crate::folder::{Folder, Ledger, Segments};
use crate::{Error, Policy, Redactor};
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use futures::StreamExt;
use runlog::Captured;
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;

/// No message for so long: the stream is at its end.
const QUIET: Duration = Duration::from_secs(2);

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Name of the stream.
    pub stream: String,
    /// Only these subjects of it.
    pub filter: Option<String>,
    /// From this sequence on.
    pub from_sequence: Option<u64>,
    /// From this time on, epoch ns.
    pub from_ns: Option<i64>,
    /// At most so many messages.
    pub max_messages: Option<u64>,
    /// What must not be recorded, beside credentials; `None` records everything.
    pub redact: Option<Policy>,
}

/// Reads what the stream holds when it begins, and leaves a folder of segments at `dir`. Times are those at which the server stored.
///
/// # Errors
/// [`Error`]: there is no such stream, or the folder cannot be written.
pub async fn read(client: &async_nats::Client, options: &Options, dir: &Path) -> Result<Folder, Error> {
    let failed = |what: String| Error::Server(format!("stream {}: {what}", options.stream));
    let jetstream = async_nats::jetstream::new(client.clone());
    let mut stream = jetstream.get_stream(&options.stream).await.map_err(|e| failed(format!("{e}; list them with the server's tools")))?;
    let last = stream.info().await.map_err(|e| failed(e.to_string()))?.state.last_sequence;
    let from = |ns: i64| OffsetDateTime::from_unix_timestamp_nanos(ns.into()).map_err(|e| failed(e.to_string()));
    let deliver_policy = match (options.from_sequence, options.from_ns) {
        (Some(start_sequence), _) => DeliverPolicy::ByStartSequence { start_sequence },
        (None, Some(ns)) => DeliverPolicy::ByStartTime { start_time: from(ns)? },
        (None, None) => DeliverPolicy::All,
    };
    let config = pull::OrderedConfig { deliver_policy, filter_subject: options.filter.clone().unwrap_or_default(), ..Default::default() };
    let consumer = stream.create_consumer(config).await.map_err(|e| failed(e.to_string()))?;
    let mut messages = consumer.messages().await.map_err(|e| failed(e.to_string()))?;
    let mut folder = Folder::create(dir, std::slice::from_ref(&options.stream), &options.stream, 0)?;
    let mut segments = Segments::create(dir, options.redact.clone().map(Redactor::new));
    let mut ledger = Ledger::default();
    while options.max_messages.is_none_or(|max| ledger.messages < max) {
        let Ok(Some(next)) = tokio::time::timeout(QUIET, messages.next()).await else { break };
        let message = next.map_err(|e| failed(e.to_string()))?;
        let info = message.info().map_err(|e| failed(e.to_string()))?;
        let (sequence, t_ns, pending) = (info.stream_sequence, info.published.unix_timestamp_nanos() as i64, info.pending);
        segments.push(Captured {
            t_ns,
            subject: message.subject.as_bytes().to_vec(),
            reply: Vec::new(),
            headers: message.headers.as_ref().map(header_block).unwrap_or_default(),
            payload: message.payload.to_vec(),
        })?;
        ledger.messages += 1;
        if pending == 0 || sequence >= last {
            break;
        }
    }
    ledger.redacted = segments.close()?;
    folder.close(ledger)?;
    Ok(folder)
}

/// Headers as they stand on the wire.
fn header_block(headers: &async_nats::HeaderMap) -> Vec<u8> {
    let mut out = b"NATS/1.0\r\n".to_vec();
    for (name, values) in headers.iter() {
        values.iter().for_each(|value| out.extend_from_slice(format!("{name}: {}\r\n", value.as_str()).as_bytes()));
    }
    out.extend_from_slice(b"\r\n");
    out
}
