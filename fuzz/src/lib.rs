//! Hostile bytes for everything that reads what others wrote. A target takes any bytes, and must neither panic nor take
//! memory that its input does not account for.
//!
//! `cargo test` feeds each target some thousand mutations of what it takes for good ([`feed`]); `fuzz/libfuzzer` drives
//! the same targets with coverage guidance.
#![forbid(unsafe_code)]

mod mutate;
mod seeds;

pub use mutate::feed;
pub use seeds::seeds;

use replay::decode::{Decoder, Source};
use schedule::IdKey;
use std::path::Path;

/// A target: its name and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 6] = [
    ("nats", nats),
    ("schedule_file", schedule_file),
    ("run_folder", run_folder),
    ("workload", workload),
    ("slo", slo),
    ("recording", recording),
];

/// What a server sends: parsed in reads of changing size, every message decoded by the rules of a chat.
pub fn nats(bytes: &[u8]) {
    let (mut buffer, mut rest, mut step) = (wire::ReadBuffer::with_capacity(64), bytes, 1);
    let decoder = seeds::decoder();
    while !rest.is_empty() {
        step = step % 97 + 13;
        let read = buffer.fill(|free| {
            let n = free.len().min(rest.len()).min(step);
            free[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        });
        rest = &rest[read.expect("a slice can be read")..];
        loop {
            match buffer.next_frame() {
                Ok(Some(wire::Frame::Message(message))) => decode(decoder, &message),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn decode(decoder: &Decoder, message: &wire::Message<'_>) {
    let _ = (message.status(), message.header("X-Request-ID"));
    for source in [Source::Inbox, Source::Subject(0), Source::Subject(1), Source::Subject(message.sid as usize)] {
        let _ = decoder.decode(source, message);
    }
}

fn with_file(bytes: &[u8], name: &str, take: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).expect("it is writable");
    take(&path);
}

/// A schedule file, read to its end.
pub fn schedule_file(bytes: &[u8]) {
    with_file(bytes, "a.parquet", |path| {
        let Ok(reader) = schedule::Reader::open(path) else { return };
        let Ok(batches) = reader.batches() else { return };
        for batch in batches.map_while(Result::ok) {
            for row in batch.rows() {
                std::hint::black_box(row.to_operation());
            }
        }
    });
}

/// A run folder in which one file is replaced: the first byte says which.
pub fn run_folder(bytes: &[u8]) {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let files = seeds::run_files();
    for (i, (name, content)) in files.iter().enumerate() {
        let content = if i == usize::from(which) % files.len() { bytes } else { content };
        std::fs::write(dir.path().join(name), content).expect("it is writable");
    }
    if let Ok(summary) = analyze::analyze(dir.path(), &analyze::Question::default()) {
        std::hint::black_box(analyze::render::text(&summary));
    }
}

/// A workload file, and ids as they may come back.
pub fn workload(bytes: &[u8]) {
    let _ = IdKey::new(b"run").read(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = fixtures::Workload::parse(text, "w.toml");
    }
}

/// An SLO line.
pub fn slo(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(line) = text.parse::<analyze::Line>()
    {
        let again: analyze::Line = line.to_string().parse().expect("a line reads back as it is shown");
        assert_eq!(again.to_string(), line.to_string());
    }
}

/// A recording of another tool, whichever it is of, and what is looked for in captured texts.
pub fn recording(bytes: &[u8]) {
    use capture::import::{Mapping, csv, gor, har, ndjson, vegeta};
    let pointers = Mapping::parse("time = \"/ts\"\nsubject = \"/s\"\npayload = \"/d\"").expect("ours");
    let columns = Mapping::parse("time = \"t\"\nsubject = \"s\"\npayload = \"p\"").expect("ours");
    let _ = std::hint::black_box((capture::ids::find(bytes, 1_782_896_400_000), gor(bytes), csv(bytes, &columns)));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = std::hint::black_box((har(text), vegeta(text, 100.0), ndjson(text, &pointers)));
        let _ = (Mapping::parse(text), capture::Policy::parse(text, |_| None), text.parse::<capture::Session>());
    }
    with_file(bytes, "p.pcap", |path| drop(capture::import::pcap(path, 4333, &mut |_| Ok(()))));
    let mut redactor = capture::Redactor::new(capture::Policy::default());
    let message = |part: &[u8]| part.to_vec();
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    let captured = runlog::Captured { t_ns: 0, subject: message(half), reply: Vec::new(), headers: message(rest), payload: message(bytes) };
    std::hint::black_box(redactor.redact(captured));
}
