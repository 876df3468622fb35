//! What `nats sub --dump` leaves: a file for each message, in the client's JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runlog::Captured;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// A message as Go's client marshals it: the body in base64.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Dumped {
    subject: String,
    #[serde(default)]
    reply: String,
    #[serde(default)]
    header: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default)]
    data: Option<String>,
}

impl Dumped {
    fn captured(self, t_ns: i64) -> Result<Captured, String> {
        let payload = STANDARD.decode(self.data.unwrap_or_default()).map_err(|_| "its Data is not base64")?;
        let lines: String = self
            .header
            .into_iter()
            .flatten()
            .flat_map(|(name, values)| values.into_iter().map(move |value| format!("{name}: {}\r\n", value.replace(['\r', '\n'], " "))))
            .collect();
        let headers = if lines.is_empty() { Vec::new() } else { format!("NATS/1.0\r\n{lines}\r\n").into_bytes() };
        Ok(Captured { t_ns, subject: self.subject.into_bytes(), reply: self.reply.into_bytes(), headers, payload })
    }
}

/// Messages of a folder of `nats sub --dump`, in the order of their numbers. They carry no times: those of the files are taken,
/// or evenly so many per second.
///
/// # Errors
/// A sentence with the file that does not fit.
pub fn nats_dump(folder: &Path, rate_per_sec: Option<f64>) -> Result<Vec<Captured>, String> {
    let unreadable = |e: std::io::Error| format!("cannot be read: {e}");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // `12.json`, or `12` alone.
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        files.extend(number.map(|number| (number, path)));
    }
    if files.is_empty() {
        return Err("holds no message; `nats sub --dump` names its files 1.json, 2.json, …".into());
    }
    files.sort();
    let mut all = Vec::with_capacity(files.len());
    for (n, (_, path)) in files.iter().enumerate() {
        let at = |what: String| format!("{}: {what}", path.file_name().unwrap_or_default().display());
        let text = std::fs::read(path).map_err(|e| at(unreadable(e)))?;
        let dumped: Dumped = serde_json::from_slice(&text).map_err(|e| at(format!("is no dumped message ({e})")))?;
        let written = || path.metadata().and_then(|meta| meta.modified()).ok()?.duration_since(UNIX_EPOCH).ok();
        let t_ns = match rate_per_sec {
            Some(rate) => (n as f64 / rate * 1e9) as i64,
            None => written().map_or(0, |time| time.as_nanos() as i64),
        };
        all.push(dumped.captured(t_ns).map_err(at)?);
    }
    all.sort_by_key(|message| message.t_ns);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_messages_is_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert!(nats_dump(dir.path(), None).unwrap_err().contains("holds no message"));
        write("10.json", r#"{"Subject":"b","Reply":"","Header":null,"Data":"aGk=","Sub":null}"#);
        write("2.json", r#"{"Subject":"a","Reply":"_INBOX.x","Header":{"K":["v","w"]},"Data":"","Sub":null}"#);
        let all = nats_dump(dir.path(), Some(10.0)).unwrap();
        assert_eq!((all[0].subject.as_slice(), all[0].reply.as_slice()), (&b"a"[..], &b"_INBOX.x"[..]));
        assert_eq!(all[0].headers, b"NATS/1.0\r\nK: v\r\nK: w\r\n\r\n");
        assert_eq!((all[1].payload.as_slice(), all[1].t_ns), (&b"hi"[..], 100_000_000));
        assert!(nats_dump(dir.path(), None).unwrap()[0].t_ns > 1_700_000_000_000_000_000, "the times of the files");
        write("11.json", r#"{"Subject":"b","Data":"?"}"#);
        assert_eq!(nats_dump(dir.path(), None).unwrap_err(), "11.json: its Data is not base64");
    }
}
