//! A real nats-server as a child process, on a free port, with a store of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running nats-server; killed when dropped.
pub struct NatsServer {
    child: Child,
    url: String,
    arguments: Vec<String>,
    binary: PathBuf,
}

/// Where `name` is: the environment variable `RETEMPO_NATS_SERVER` or the like, the `PATH`, or `.servers/bin` here or above.
///
/// # Errors
/// A sentence with the command that installs it.
pub fn find(name: &str) -> Result<PathBuf, String> {
    let variable = format!("RETEMPO_{}", name.replace('-', "_").to_uppercase());
    if let Some(path) = std::env::var_os(&variable) {
        return Ok(path.into());
    }
    let on_path = std::env::var_os("PATH").map(|p| std::env::split_paths(&p).map(|d| d.join(name)).collect::<Vec<_>>()).unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.servers/bin").join(name);
    let beside = here.ancestors().map(|dir| dir.join(".servers/bin").join(name)).chain([built_in]);
    let found = on_path.into_iter().chain(beside).find(|path| path.is_file());
    found.ok_or_else(|| format!("{name} is not installed: run scripts/servers (or `make servers`), put it on the PATH, or set {variable}"))
}

impl NatsServer {
    /// Starts one with JetStream in `store` and waits until it says that it is ready.
    ///
    /// # Errors
    /// A sentence: it is not installed, or it does not start.
    pub fn start(store: &Path) -> Result<NatsServer, String> {
        NatsServer::start_with(&["-js".into(), "-sd".into(), store.display().to_string()])
    }

    /// Starts one with these arguments besides address and port.
    ///
    /// # Errors
    /// As [`NatsServer::start`].
    pub fn start_with(arguments: &[String]) -> Result<NatsServer, String> {
        let binary = find("nats-server")?;
        let (child, port) = spawn(&binary, arguments, -1)?;
        Ok(NatsServer { child, url: format!("nats://127.0.0.1:{port}"), arguments: arguments.to_vec(), binary })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it and starts it again on the same port.
    ///
    /// # Errors
    /// As [`NatsServer::start`].
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        let port: i32 = self.url.rsplit(':').next().and_then(|p| p.parse().ok()).unwrap_or(-1);
        self.child = spawn(&self.binary, &self.arguments, port)?.0;
        Ok(())
    }

    /// Kills it.
    pub fn kill(&mut self) {
        // A child that is already gone is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads its log until it is ready; the rest is read and dropped, so that it never blocks.
fn spawn(binary: &Path, arguments: &[String], port: i32) -> Result<(Child, u16), String> {
    let mut command = Command::new(binary);
    // A Ctrl-C at the terminal is for us: the server lives until the drain is over, and is then killed.
    command.process_group(0);
    command
        .args(["-a", "127.0.0.1", "-p", &port.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("cannot start {}: {e}", binary.display()))?;
    let mut log = BufReader::new(child.stderr.take().expect("piped")).lines();
    let (mut port, mut last) = (None, String::new());
    for line in log.by_ref().map_while(Result::ok) {
        if let Some((_, address)) = line.split_once("Listening for client connections on ") {
            port = address.trim().rsplit(':').next().and_then(|p| p.parse().ok());
        }
        if line.contains("Server is ready") {
            std::thread::spawn(move || log.for_each(drop));
            return port.map(|port| (child, port)).ok_or_else(|| "nats-server did not tell its port".into());
        }
        last = line;
    }
    let _ = child.wait();
    Err(format!("nats-server did not start: {last}"))
}
