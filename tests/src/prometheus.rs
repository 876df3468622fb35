use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running Prometheus that scrapes one address twice a second; killed when dropped.
pub struct Prometheus {
    child: Child,
    url: String,
    promtool: PathBuf,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts one on a free port and waits until it is ready to answer queries.
    ///
    /// # Panics
    /// With the command that installs it, if it is not there.
    pub fn scraping(target: &str) -> Prometheus {
        let binary = |name| standin::server::find(name).unwrap_or_else(|e| panic!("{e}"));
        let dir = tempfile::tempdir().expect("a temporary folder");
        let config = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}\n\
             scrape_configs: [{{ job_name: retempo, static_configs: [{{ targets: [\"{target}\"] }}] }}]\n"
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).expect("it is writable");
        let port = free_port();
        let mut child = Command::new(binary("prometheus"))
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=info"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped")).lines();
        let ready = log.by_ref().map_while(Result::ok).any(|line| line.contains("Server is ready to receive web requests"));
        assert!(ready, "prometheus did not start");
        std::thread::spawn(move || log.for_each(drop));
        Prometheus { child, url: format!("http://127.0.0.1:{port}"), promtool: binary("promtool"), _dir: dir }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The lines that `promtool query instant` prints for an expression: one per element of the result.
    ///
    /// # Panics
    /// If the expression is not one.
    pub fn query(&self, expression: &str) -> Vec<String> {
        let output = Command::new(&self.promtool).args(["query", "instant", &self.url, expression]).output().expect("promtool runs");
        assert!(output.status.success(), "{expression}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // A child that is already gone is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}
