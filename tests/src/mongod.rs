use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running mongod with a store of its own; killed when dropped.
pub struct Mongod {
    child: Child,
    uri: String,
    _store: TempDir,
}

impl Default for Mongod {
    fn default() -> Self {
        Mongod::new()
    }
}

impl Mongod {
    /// Starts one on a free port and waits until it accepts connections.
    ///
    /// # Panics
    /// With the command that installs it, if it is not there.
    pub fn new() -> Mongod {
        let binary = standin::server::find("mongod").unwrap_or_else(|e| panic!("{e}"));
        let store = tempfile::tempdir().expect("a temporary folder");
        // mongod cannot tell a port it chose; this one was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut child = Command::new(binary)
            .args(["--bind_ip", "127.0.0.1", "--port", &port.to_string(), "--wiredTigerCacheSizeGB", "0.25", "--nounixsocket", "--dbpath"])
            .arg(store.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mongod starts");
        let mut log = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = log.by_ref().map_while(Result::ok).any(|line| line.contains("Waiting for connections"));
        assert!(ready, "mongod did not start");
        std::thread::spawn(move || log.for_each(drop));
        Mongod { child, uri: format!("mongodb://127.0.0.1:{port}"), _store: store }
    }

    /// Its address.
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        // A child that is already gone is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
