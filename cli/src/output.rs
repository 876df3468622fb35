//! Files, terminals and progress.

use crate::failure::{Result, usage};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::Path;

/// Writes `text` to standard output. A reader that has gone away is success.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // `retempo … | head` closes the pipe early, and that is fine.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a file, and the folders above it.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let failed = |e: std::io::Error| usage(format!("cannot write {}: {e}; choose another place", path.display()));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, bytes).map_err(failed)
}

/// Refuses to overwrite, unless forced.
pub fn must_not_exist(path: &Path, force: bool) -> Result<()> {
    if path.exists() && !force {
        return Err(usage(format!("{} exists; remove it, choose another name with -o, or add --force", path.display())));
    }
    Ok(())
}

/// A bar of `total` steps on a terminal, nothing elsewhere.
pub fn bar(total: u64, what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {eta}").expect("a valid template");
    ProgressBar::new(total).with_style(style).with_message(what.to_owned())
}

/// Whether standard error is looked at by a person.
pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}
