//! Over HTTP as over NATS: open loop, three times per op, everything logged, honest whatever the server does.

use analyze::Summary;
use fixtures::Workload;
use harness::{Site, Stall, compiled, replayed, replayed_with};
use replay::{HttpOptions, Options, Plan, Stop};
use runlog::Phases;
use std::path::Path;
use tempfile::TempDir;

/// A schedule of one kind of request.
fn requests(dir: &Path, name: &str, target: &str, rate: u32, seconds: u32, timeout: &str) -> Options {
    let text = format!(
        "name = \"{name}\"\n[[answer]]\nname = \"response\"\nwhose = \"inbox\"\n[[action]]\nname = \"ask\"\ntransport = \"http\"\n\
         target = \"{target}\"\npayload = '{{\"id\":\"{{new.message}}\"}}'\nanswers = {{ response = 1 }}\ntimeout = \"{timeout}\"\n\
         [action.headers]\nContent-Type = \"application/json\"\n\
         [arrivals]\nrate = {rate}\nduration = \"{seconds}s\"\nprocess = \"uniform\"\n"
    );
    compiled(dir, &Workload::parse(&text, "w.toml").unwrap())
}

fn response(summary: &Summary) -> &analyze::Series {
    summary.series.iter().find(|s| s.name == "ask/response").unwrap()
}

fn phases(options: &Options) -> Vec<Phases> {
    let chunks = runlog::chunks::<Phases>(&options.run_dir).unwrap();
    let rows = |columns: runlog::PhasesColumns| (0..columns.op.len()).map(|i| columns.row(i)).collect::<Vec<_>>();
    chunks.iter().flat_map(|chunk| chunk.read::<Phases>().unwrap()).flat_map(rows).collect()
}

#[test]
fn every_request_is_answered_and_its_phases_are_logged() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let options = requests(dir.path(), "all", &format!("POST {}/echo", site.url()), 200, 3, "5s");
    let summary = replayed(&options);
    let s = response(&summary);
    assert_eq!((s.count, s.ok, s.missing, s.late), (600, 600, 0, 0), "{:?}", summary.evidence.first_errors);
    let (heard, phases) = (site.heard(), phases(&options));
    let distinct: std::collections::HashSet<&String> = heard.iter().collect();
    assert_eq!((heard.len(), distinct.len(), phases.len()), (600, 600, 600), "each with an id of its own");
    assert!(phases.iter().all(|p| p.http_status == 200 && p.first_byte_ns.unwrap() > 0 && p.tls_ns.is_none()));
    let opened = phases.iter().filter(|p| p.connect_ns.is_some()).count();
    assert!((1..100).contains(&opened), "connections are used again: {opened} were opened");
}

#[test]
fn a_server_that_stands_still_makes_nobody_late_but_itself() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let options = requests(dir.path(), "still", &format!("POST {}/echo", site.url()), 200, 4, "5s");
    let mut stall = Stall::of(&site);
    let summary = replayed_with(&options, &mut |_| stall.next());
    let s = response(&summary);
    assert_eq!((s.count, s.missing), (800, 0));
    stall.explains(s, 4.0);
    assert!(summary.lateness.percentiles.p99_ns.unwrap() < 100_000_000, "{:?}", summary.lateness);
    assert!(!summary.lateness.late_by_cause.contains_key("no_connection"), "another connection is opened");
}

#[test]
fn a_known_latency_is_what_is_measured() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let options = requests(dir.path(), "known", &format!("GET {}/after/60", site.url()), 100, 3, "5s");
    let summary = replayed(&options);
    let s = response(&summary);
    assert_eq!(s.ok, 300);
    let p50 = s.service.p50_ns.unwrap();
    assert!((60_000_000..100_000_000).contains(&p50), "{p50} ns of 60 ms");
}

#[test]
fn past_the_most_connections_requests_wait_and_say_so() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let mut options = requests(dir.path(), "few", &format!("GET {}/after/50", site.url()), 60, 3, "20s");
    options.http.max_connections = 2;
    let summary = replayed(&options);
    // 60 a second of 50 ms each need three connections.
    assert_eq!((summary.run.sent, response(&summary).ok), (180, 180), "{:?}", summary.run.unsent);
    assert!(summary.lateness.late_by_cause["no_connection"] > 90, "{:?}", summary.lateness);
    assert!(!summary.lateness.late_by_cause.contains_key("woke_late") || summary.lateness.late_by_cause["woke_late"] < 20);
    assert!(phases(&options).iter().all(|p| p.connection < 2));
}

#[test]
fn whatever_a_server_does_is_an_honest_outcome() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = site.url();
    // Requests, and how each ends: an error of a class, or no answer at all.
    let cases = [
        ("limited", format!("GET {url}/status/429"), Some("429")),
        ("failing", format!("GET {url}/status/503"), Some("503")),
        ("elsewhere", format!("GET {url}/redirect"), Some("303")),
        ("nowhere", format!("GET {url}/nothing-here"), Some("404")),
        ("cut", format!("GET {url}/cut"), Some("closed")),
        ("endless", format!("GET {url}/endless"), Some("body_too_large")),
        ("refused", format!("GET http://{closed}/"), Some("refused")),
        ("loris", format!("GET {url}/drip"), None),
        ("silent", format!("GET {silent_url}/"), None),
    ];
    std::thread::scope(|scope| {
        for (name, target, class) in &cases {
            let dir = dir.path();
            scope.spawn(move || {
                let summary = replayed(&requests(dir, name, target, 10, 2, "500ms"));
                let s = response(&summary);
                match class {
                    Some(class) => assert_eq!(s.errors.get(*class), Some(&20), "{name}: {s:?}"),
                    None => assert_eq!((s.missing, s.errors.len()), (20, 0), "{name}"),
                }
            });
        }
    });
}

#[test]
fn a_step_waits_for_the_answer_that_it_needs() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let url = site.url();
    let workload = Workload::parse(
        &format!(
            r#"
name = "steps"

[[answer]]
name = "found"
whose = "inbox"

[[answer]]
name = "recorded"
whose = "inbox"
error = "/error"

[[action]]
name = "search"
transport = "http"
target = "POST {url}/search"
payload = '{{"q":"{{new.message}}"}}'
answers = {{ found = 1 }}

[[action]]
name = "record"
transport = "http"
after = {{ action = "search", answer = "found", delay = "10ms" }}
target = "POST {url}/record"
payload = '{{"answer":"{{found./results/0/id}}"}}'
answers = {{ recorded = 1 }}

[arrivals]
rate = 50
duration = "2s"
"#
        ),
        "steps.toml",
    )
    .unwrap();
    let summary = replayed(&compiled(dir.path(), &workload));
    let heard = site.heard();
    let (searches, records): (Vec<_>, Vec<_>) = (0..).zip(&heard).partition(|(_, line)| line.starts_with("/search"));
    assert!(searches.len() > 40 && records.len() == searches.len(), "{} and {}", searches.len(), records.len());
    for (at, line) in records {
        let n: usize = line.trim_start_matches("/record {\"answer\":\"found-").trim_end_matches("\"}").parse().unwrap();
        assert!(n <= at && heard[n - 1].starts_with("/search"), "{line} came before it was found");
    }
    assert!(summary.series.iter().all(|s| s.missing == 0 && s.errors.is_empty()), "{:?}", summary.series);
    assert_eq!(summary.gates[0].released, searches.len() as u64);
}

#[test]
fn requests_that_cannot_be_are_refused_before_anything_is_sent() {
    let dir = TempDir::new().unwrap();
    let mut options = requests(dir.path(), "bare", "GET /v1", 10, 1, "1s");
    let plan = Plan::of(&options).unwrap();
    let refused = |options: &Options| replay::replay(options, &plan, &Stop::default(), &mut |_| {}).unwrap_err().to_string();
    assert!(refused(&options).contains("some requests name no server; say --base-url"));
    options.http = HttpOptions { base_url: Some("http://127.0.0.1:1".into()), max_connections: 1 << 40, ..HttpOptions::default() };
    assert!(refused(&options).contains("open files"));
    let odd = Workload::parse(
        "name = \"odd\"\n[[action]]\nname = \"a\"\ntransport = \"http\"\ntarget = \"/v1\"\nanswers = {}\n[arrivals]\nrate = 1\nduration = \"1s\"\n",
        "odd.toml",
    );
    assert!(odd.unwrap_err().to_string().contains("should be METHOD URL"));
    let elsewhere = Workload::parse(
        "name = \"elsewhere\"\n[[answer]]\nname = \"said\"\nwhose = \"inbox\"\n[[action]]\nname = \"ask\"\ntransport = \"http\"\n\
         target = \"GET http://127.0.0.1:1/\"\nanswers = { said = 1 }\n[[action]]\nname = \"follow\"\ntransport = \"http\"\n\
         after = { action = \"ask\", answer = \"said\" }\ntarget = \"GET http://127.0.0.1:1{said./at}/\"\nanswers = {}\n\
         [arrivals]\nrate = 1\nduration = \"2s\"\n",
        "elsewhere.toml",
    );
    let options = compiled(dir.path(), &elsewhere.unwrap());
    let refused = Plan::of(&options).unwrap_err().to_string();
    assert!(refused.contains("a value of an answer would be a part of the server in `GET http://127.0.0.1:10/`"), "{refused}");
}

#[test]
fn a_check_that_does_not_hold_is_an_error_of_its_name() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let workload = |name: &str, path: &str, checks: &str| {
        let text = format!(
            "name = \"{name}\"\n[[answer]]\nname = \"response\"\nwhose = \"inbox\"\n[answer.check]\n{checks}\n[[action]]\nname = \"ask\"\n\
             transport = \"http\"\ntarget = \"POST {}{path}\"\npayload = '{{\"q\":1}}'\nanswers = {{ response = 1 }}\n\
             [arrivals]\nrate = 20\nduration = \"1s\"\nprocess = \"uniform\"\n",
            site.url()
        );
        Workload::parse(&text, "w.toml")
    };
    for (name, path, checks, class) in [
        ("holds", "/search", "found = \"/results length == 1\"\nid = \"/results/0/id matches ^found\"", None),
        ("none", "/search", "found = \"/results length > 1\"", Some("check:found")),
        ("type", "/echo", "json = \"header content-type contains json\"", Some("check:json")),
        ("meant", "/status/404", "gone = \"status == 404\"", None),
        ("other", "/status/500", "gone = \"status == 404\"", Some("check:gone")),
        ("plain", "/status/500", "json = \"/a exists\"", Some("500")),
    ] {
        let summary = replayed(&compiled(dir.path(), &workload(name, path, checks).unwrap()));
        let s = response(&summary);
        match class {
            None => assert_eq!((s.ok, s.errors.len()), (20, 0), "{name}: {:?}", summary.evidence.first_errors),
            Some(class) => assert_eq!(s.errors.get(class), Some(&20), "{name}: {s:?}"),
        }
    }
    let why = workload("odd", "/echo", "odd = \"/a is text\"").unwrap_err().to_string();
    assert!(why.contains("check `/a is text`: `text` is none of null, bool"), "{why}");
}

#[test]
fn sessions_may_own_their_connections() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    std::fs::write(dir.path().join("users.csv"), "id\na\nb\nc\n").unwrap();
    let text = format!(
        "name = \"own\"\n[population.table]\nuser = {{ path = \"users.csv\" }}\n[[answer]]\nname = \"response\"\nwhose = \"inbox\"\n\
         [[action]]\nname = \"ask\"\ntransport = \"http\"\npick = \"user\"\ntarget = \"POST {}/echo\"\npayload = '{{user.id}}'\n\
         answers = {{ response = 1 }}\n[arrivals]\nrate = 30\nduration = \"2s\"\n",
        site.url()
    );
    let mut options = compiled(dir.path(), &Workload::parse(&text, "w.toml").unwrap());
    options.connections = replay::Connections::Direct;
    let summary = replayed(&options);
    assert!(response(&summary).ok > 30 && response(&summary).missing == 0, "{:?}", summary.series);
    let mut owners: std::collections::HashMap<u32, std::collections::HashSet<String>> = std::collections::HashMap::new();
    let batches = schedule::Reader::open(&options.schedule).unwrap().batches().unwrap();
    let payloads: Vec<String> =
        batches.flat_map(|b| b.unwrap().rows().map(|r| String::from_utf8(r.payload.to_vec()).unwrap()).collect::<Vec<_>>()).collect();
    for phases in phases(&options) {
        owners.entry(phases.connection).or_default().insert(payloads[phases.op as usize].clone());
    }
    assert!(owners.len() == 3 && owners.values().all(|users| users.len() == 1), "{owners:?}");
}

/// A server behind TLS that answers every request with `{}`; its certificate, which it signed itself for shop.test.
fn secure() -> (std::net::SocketAddr, String) {
    let signed = rcgen::generate_simple_self_signed(vec!["shop.test".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![signed.cert.der().clone()], key).unwrap();
    let (config, listener) = (std::sync::Arc::new(config), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, tcp.unwrap());
            std::thread::spawn(move || {
                let (mut heard, mut chunk) = (Vec::new(), [0; 4096]);
                // A client that does not trust us closes.
                while let Ok(n @ 1..) = std::io::Read::read(&mut tls, &mut chunk) {
                    heard.extend_from_slice(&chunk[..n]);
                    while let Some(end) = heard.windows(4).position(|window| window == b"\r\n\r\n") {
                        heard.drain(..end + 4);
                        std::io::Write::write_all(&mut tls, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
                    }
                }
            });
        }
    });
    (address, signed.cert.pem())
}

#[test]
fn certificates_are_checked_unless_any_will_do() {
    let dir = TempDir::new().unwrap();
    let (address, pem) = secure();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let resolve = vec![("shop.test:443".to_owned(), address)];
    let trusting = wire::TlsFiles { ca: Some(ca), ..wire::TlsFiles::default() };
    for (name, http, class) in [
        ("trusted", HttpOptions { resolve: resolve.clone(), tls: trusting, ..HttpOptions::default() }, None),
        ("any", HttpOptions { resolve: resolve.clone(), insecure: true, ..HttpOptions::default() }, None),
        ("unknown", HttpOptions { resolve, ..HttpOptions::default() }, Some("tls")),
    ] {
        let options = Options { http, ..requests(dir.path(), name, "GET https://shop.test/", 20, 1, "5s") };
        let summary = replayed(&options);
        match class {
            None => assert_eq!(response(&summary).ok, 20, "{name}: {:?}", summary.evidence.first_errors),
            Some(class) => assert_eq!(response(&summary).errors.get(class), Some(&20), "{name}: {:?}", response(&summary).errors),
        }
        assert_eq!(phases(&options).iter().any(|p| p.tls_ns.is_some()), class.is_none(), "{name}");
    }
}

#[test]
fn many_requests_go_over_one_connection_of_http_2() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let mut options = requests(dir.path(), "h2", &format!("GET {}/after/50", site.url()), 400, 2, "5s");
    options.http.http2 = true;
    let summary = replayed(&options);
    let s = response(&summary);
    assert_eq!((s.count, s.ok, s.missing), (800, 800, 0), "{:?}", summary.evidence.first_errors);
    let p50 = s.response.p50_ns.unwrap();
    assert!((50_000_000..80_000_000).contains(&p50), "{p50}");
    // Twenty at a time, on far fewer connections than that.
    let connections: std::collections::HashSet<u32> = phases(&options).iter().map(|p| p.connection).collect();
    assert!(connections.len() <= 5, "{} connections", connections.len());
}

#[test]
fn each_session_keeps_its_own_cookies() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let text = format!(
        "name = \"cookies\"\n[[answer]]\nname = \"response\"\nwhose = \"inbox\"\n[population]\nusers = 5\n[arrivals]\nduration = \"3s\"\n\
         [life]\nwithin = \"100ms\"\nbegins = [{{ to = \"on\" }}]\n[[life.state]]\nname = \"on\"\nevery = {{ ask = \"500ms\" }}\n\
         [[action]]\nname = \"ask\"\ntransport = \"http\"\ntarget = \"GET {}/cookie\"\nanswers = {{ response = 1 }}\n",
        site.url()
    );
    let mut options = compiled(dir.path(), &Workload::parse(&text, "w.toml").unwrap());
    options.http.cookies = true;
    let summary = replayed(&options);
    let asked = response(&summary).count as usize;
    let heard = site.heard();
    let (without, with): (Vec<&String>, Vec<&String>) = heard.iter().partition(|line| line.ends_with(" none"));
    assert_eq!((without.len(), without.len() + with.len()), (5, asked), "the first of each session has none: {heard:?}");
    let distinct: std::collections::HashSet<&String> = with.into_iter().collect();
    assert_eq!(distinct.len(), 5, "{distinct:?}");
}

#[test]
fn a_websocket_is_opened_with_the_cookies_of_its_session() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let (url, address) = (site.url(), site.url().replace("http://", "ws://"));
    let text = format!(
        r#"
name = "signed-in"
[population]
users = 5
[[answer]]
name = "response"
whose = "inbox"
[[scenario]]
name = "sign_in"
[[scenario.step]]
name = "ask"
transport = "http"
target = "GET {url}/cookie"
answers = {{ response = 1 }}
[[scenario.step]]
name = "open"
transport = "websocket"
target = "OPEN {address}/cookie"
answers = {{ response = 1 }}
[[scenario.step]]
name = "close"
transport = "websocket"
target = "CLOSE"
[arrivals]
rate = 5
duration = "3s"
"#
    );
    let mut options = compiled(dir.path(), &Workload::parse(&text, "w.toml").unwrap());
    options.http.cookies = true;
    replayed(&options);
    let heard = site.heard();
    let opened: Vec<&str> = heard.iter().filter_map(|line| line.strip_prefix("/cookie/socket ")).collect();
    assert!(opened.len() >= 3 && opened.iter().all(|cookie| cookie.starts_with("session=s")), "{heard:?}");
}

#[test]
fn a_response_that_does_not_begin_in_time_is_told_by_its_name() {
    let (dir, site) = (TempDir::new().unwrap(), Site::new());
    let mut options = requests(dir.path(), "begin", &format!("GET {}/after/600", site.url()), 20, 2, "5s");
    options.http.first_byte_timeout = Some(std::time::Duration::from_millis(200));
    let summary = replayed(&options);
    let s = response(&summary);
    assert_eq!((s.ok, s.errors.get("first_byte_timeout")), (0, Some(&40)), "{s:?}");
    assert!(s.response.max_ns.unwrap() < 500_000_000);
}
