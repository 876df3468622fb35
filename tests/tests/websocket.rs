//! Over WebSockets as over NATS and HTTP: open loop, three times per op, every push logged, honest whatever the server does.

use fixtures::Workload;
use harness::{Site, Stall, replayed, replayed_with, series};
use replay::Options;
use runlog::Frame;
use standin::{Service, WebConfig, WebFault, WebStandin};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const ANSWERS: &str = r#"
[[answer]]
name = "opened"
whose = "inbox"
[[answer]]
name = "echo"
on = ["websocket"]
whose = "json:/id"
"#;

/// Users who open a WebSocket, say something again and again, and close it.
fn talk(dir: &Path, name: &str, url: &str, users: u32, every: &str, seconds: u32) -> Options {
    let text = format!(
        "name = \"{name}\"\n{ANSWERS}\n[population]\nusers = {users}\n[arrivals]\nduration = \"{seconds}s\"\n\
         [life]\nwithin = \"100ms\"\nbegins = [{{ to = \"on\", does = \"open\" }}]\n[[life.state]]\nname = \"on\"\nevery = {{ say = \"{every}\" }}\n\
         [[action]]\nname = \"open\"\ntransport = \"websocket\"\ntarget = \"OPEN {url}\"\nanswers = {{ opened = 1 }}\n\
         [[action]]\nname = \"say\"\ntransport = \"websocket\"\ntarget = \"SEND\"\npayload = '{{\"id\":\"{{new.message}}\"}}'\nanswers = {{ echo = 1 }}\n"
    );
    compiled(dir, &Workload::parse(&text, "w.toml").unwrap())
}

fn compiled(dir: &Path, workload: &Workload) -> Options {
    let mut options = harness::compiled(dir, workload);
    options.http.connect_timeout = Duration::from_secs(1);
    options
}

fn frames(options: &Options) -> Vec<Frame> {
    let chunks = runlog::chunks::<Frame>(&options.run_dir).unwrap();
    let rows = |columns: runlog::FrameColumns| (0..columns.op.len()).map(|i| columns.row(i)).collect::<Vec<_>>();
    chunks.iter().flat_map(|chunk| chunk.read::<Frame>().unwrap()).flat_map(rows).collect()
}

/// A stand-in of the market service, and a schedule of a preset against it.
fn market(dir: &Path, preset: &str, change: &dyn Fn(&mut Workload), faults: &[&str]) -> (Runtime, WebStandin, Options) {
    let runtime = Runtime::new().unwrap();
    let faults = faults.iter().map(|text| text.parse::<WebFault>().unwrap()).collect();
    let config = WebConfig { faults, push_every: Duration::from_millis(50), ..WebConfig::default() };
    let standin = runtime.block_on(WebStandin::start(Service::Market, ([127, 0, 0, 1], 0).into(), config)).unwrap();
    let mut workload = fixtures::preset(preset).unwrap();
    change(&mut workload);
    let mut options = compiled(dir, &workload);
    options.http.base_url = Some(standin.url());
    (runtime, standin, options)
}

/// Few users, for a few seconds.
fn small(workload: &mut Workload) {
    workload.population.chat.as_mut().unwrap().users = 20;
    workload.arrivals.duration_ns = 4_000_000_000;
    workload.life.as_mut().unwrap().within_ns = 500_000_000;
}

#[test]
fn every_push_is_logged_and_who_is_connected_is_known() {
    let dir = TempDir::new().unwrap();
    let (_runtime, standin, options) = market(dir.path(), "market-stream", &small, &[]);
    let summary = replayed(&options);
    let (opened, first, gap) = (series(&summary, "open/opened"), series(&summary, "open/snapshot"), series(&summary, "open/snapshot:gap"));
    assert_eq!((opened.ok, first.ok, first.missing), (20, 20, 0), "{:?}", summary.evidence.first_errors);
    let pushes = frames(&options).iter().filter(|f| f.kind == 1 && f.answer != Frame::OTHER).count() as u64;
    let sockets = summary.sockets.as_ref().unwrap();
    assert_eq!((sockets.opened, sockets.peak, sockets.at_end), (20, 20, 0), "{:?}", sockets.ended);
    assert_eq!(sockets.ended.get("closed by us"), Some(&20), "{:?}", sockets.ended);
    assert_eq!((sockets.pushes[0].count, gap.count + first.count), (pushes, pushes), "every push but the first has a gap before it");
    // What was pushed while a WebSocket was being closed may be lost on the way.
    let pushed = standin.requests("push");
    assert!(pushes <= pushed && pushed - pushes <= 20 && pushes > 500, "{pushes} of {pushed}");
    let median = gap.response.p50_ns.unwrap();
    assert!((40_000_000..70_000_000).contains(&median), "pushed every 50 ms: {median}");
    assert!(series(&summary, "open/snapshot:staleness").response.p50_ns.unwrap() < 50_000_000);
    assert!(sockets.other_frames >= 20, "words about the connection are no pushes");
    let shape = summary.checks.iter().find(|c| c.name == "keys").unwrap();
    assert_eq!((shape.passed, shape.failed), (pushes, 0));
}

#[test]
fn what_is_wrong_with_pushes_is_counted_as_the_ledger_counts_it() {
    let dir = TempDir::new().unwrap();
    let faults = ["wrong@push=5%", "big@push=1%", "disconnect@push=0.5%"];
    let (_runtime, standin, options) = market(dir.path(), "market-stream", &small, &faults);
    let summary = replayed(&options);
    let injected = |fault: &str| standin.injected().iter().filter(|i| i.fault == fault).count() as u64;
    let failed = |name: &str| summary.checks.iter().find(|c| c.name == name).unwrap().failed;
    let ended = &summary.sockets.as_ref().unwrap().ended;
    assert!(injected("wrong") > 5 && injected("big") > 0 && injected("disconnect") > 0, "{:?}", standin.injected());
    assert_eq!((failed("quotes"), failed("small"), failed("keys")), (injected("wrong"), injected("big"), 0));
    assert_eq!(ended.get("1001").copied().unwrap_or(0), injected("disconnect"), "{ended:?}");
    let refused = summary.run.unsent.get("disconnected").copied().unwrap_or(0);
    assert_eq!(refused, injected("disconnect"), "nobody closes what has ended");
    assert!(summary.evidence.first_errors.iter().any(|e| e.starts_with("check:quotes: ")), "{:?}", summary.evidence.first_errors);
}

#[test]
fn a_server_that_stands_still_makes_nobody_late_but_itself() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let url = format!("{}/socket", site.url().replace("http", "ws"));
    let options = talk(dir.path(), "still", &url, 20, "100ms", 4);
    let mut stall = Stall::of(&site);
    let summary = replayed_with(&options, &mut |_| stall.next());
    let s = series(&summary, "say/echo");
    assert_eq!((s.missing, s.errors.len(), s.duplicates), (0, 0, 0));
    stall.explains(s, 3.9);
    assert!(summary.lateness.percentiles.p99_ns.unwrap() < 100_000_000, "{:?}", summary.lateness);
}

#[test]
fn a_known_latency_is_found() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let url = format!("{}/socket/after/80", site.url().replace("http", "ws"));
    let summary = replayed(&talk(dir.path(), "known", &url, 10, "100ms", 3));
    let s = series(&summary, "say/echo");
    let p50 = s.response.p50_ns.unwrap();
    assert!(s.count >= 250 && s.missing == 0 && (80_000_000..110_000_000).contains(&p50), "{s:?}");
}

/// A server that does something to each connection.
fn hostile(each: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let each = std::sync::Arc::new(each);
    // It ends with the process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            std::thread::spawn(move || each(stream));
        }
    });
    url
}

/// Reads a request and says that this is a WebSocket.
fn shake_hands(stream: &mut std::net::TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let key = head.lines().filter_map(|line| line.split_once(": ")).find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.unwrap().1.as_bytes());
    let answer =
        format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes());
}

#[test]
fn servers_that_misbehave_are_told_apart_and_nothing_hangs() {
    let dir = TempDir::new().unwrap();
    let mute = hostile(|mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
    });
    let cut = hostile(|mut stream| {
        shake_hands(&mut stream);
        // A text of 100 bytes, and two of them.
        let _ = stream.write_all(&[0x81, 100, b'h', b'i']);
    });
    let deaf = hostile(|mut stream| {
        shake_hands(&mut stream);
        // It never says goodbye, nor anything else.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let refusing = Site::new().url().replace("http", "ws");
    let site = Site::new();
    let no_socket = format!("{}/status/401", site.url().replace("http", "ws"));
    for (name, url, class) in
        [("mute", mute.as_str(), "connect_timeout"), ("gone", refusing.as_str(), "refused"), ("unauthorized", no_socket.as_str(), "401")]
    {
        let began = Instant::now();
        let summary = replayed(&talk(dir.path(), name, url, 3, "200ms", 2));
        let opened = series(&summary, "open/opened");
        assert_eq!(opened.errors.get(class), Some(&3), "{name}: {opened:?}");
        assert!(summary.run.unsent["disconnected"] >= 20, "{name}: what has no WebSocket is not sent: {:?}", summary.run.unsent);
        assert!(summary.sockets.is_none() && began.elapsed() < Duration::from_secs(20), "{name}");
    }
    let summary = replayed(&talk(dir.path(), "cut", &cut, 3, "200ms", 2));
    let sockets = summary.sockets.as_ref().unwrap();
    assert_eq!((sockets.opened, sockets.at_end, sockets.ended.get("reset")), (3, 0, Some(&3)), "{sockets:?}");
    assert_eq!(series(&summary, "open/opened").ok, 3);
    assert!(summary.run.unsent["disconnected"] >= 20, "{:?}", summary.run.unsent);
    let source = fixtures::preset_source("market-stream").unwrap();
    let source = source.replace("OPEN /v1/stream", &format!("OPEN {deaf}")).replace("\"5s\"", "\"1s\"");
    let mut workload = Workload::parse(&source, "deaf.toml").unwrap();
    small(&mut workload);
    let summary = replayed(&compiled(dir.path(), &workload));
    let sockets = summary.sockets.as_ref().unwrap();
    assert_eq!((sockets.opened, sockets.at_end, sockets.ended.get("unclosed")), (20, 0, Some(&20)), "{sockets:?}");
    assert_eq!((series(&summary, "open/snapshot").missing, series(&summary, "close/closed").missing), (20, 20), "a silent server");
}

#[test]
fn sessions_drop_and_come_back_as_the_schedule_says() {
    let dir = TempDir::new().unwrap();
    let change = |workload: &mut Workload| {
        small(workload);
        workload.arrivals.duration_ns = 6_000_000_000;
        let life = workload.life.as_mut().unwrap();
        for (event, at) in life.events.iter_mut().zip([1, 2, 3, 4]) {
            (event.at_ns, event.over_ns) = (at * 1_000_000_000, event.over_ns / 10);
        }
    };
    let (_runtime, _standin, options) = market(dir.path(), "reconnect-storm", &change, &[]);
    let summary = replayed(&options);
    let sockets = summary.sockets.as_ref().unwrap();
    assert_eq!((sockets.opened, sockets.peak, sockets.at_end), (60, 20, 0), "{sockets:?}");
    assert_eq!(sockets.ended.get("closed by us"), Some(&60), "{:?}", sockets.ended);
    assert_eq!((series(&summary, "open/opened").ok, series(&summary, "close/closed").ok), (60, 60));
    // All, none, all, none, and all of them again.
    let at = |second: i64| sockets.points.iter().rfind(|(t_ns, _)| *t_ns <= second * 1_000_000_000).map(|(_, open)| *open);
    assert_eq!((at(0), at(1), at(2), at(3), at(4)), (Some(20), Some(0), Some(20), Some(0), Some(20)), "{:?}", sockets.points);
}

#[test]
fn a_session_has_one_websocket_at_a_time() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let url = format!("{}/socket", site.url().replace("http", "ws"));
    let text = format!(
        "name = \"twice\"\n{ANSWERS}\n[population]\nusers = 5\n[arrivals]\nduration = \"2s\"\n\
         [life]\nwithin = \"100ms\"\nbegins = [{{ to = \"on\", does = \"open\" }}]\n[[life.state]]\nname = \"on\"\nevery = {{ open = \"1500ms\" }}\n\
         [[action]]\nname = \"open\"\ntransport = \"websocket\"\ntarget = \"OPEN {url}\"\nanswers = {{ opened = 1 }}\n"
    );
    let summary = replayed(&compiled(dir.path(), &Workload::parse(&text, "w.toml").unwrap()));
    let opened = series(&summary, "open/opened");
    assert_eq!((opened.ok, opened.errors.get("already_open")), (5, Some(&5)), "{opened:?}");
}
