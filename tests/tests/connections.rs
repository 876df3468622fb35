//! Credentials, TLS, several servers, and what happens when a server goes away.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::{World, echo_workload, series};
use nkeys::KeyPair;
use replay::{OnDisconnect, Plan, Progress, Stop};
use runlog::EventKind;
use std::sync::mpsc;
use wire::{Auth, Options, TlsFiles};

/// A run of 100 requests through whatever the world demands.
fn answered(world: &World) -> u64 {
    let _echo = world.echo();
    let (path, _) = world.compile_workload(&echo_workload(200, 1));
    let (_, summary) = world.run(&world.options(&path, "run"));
    series(&summary, "ask/reply").ok
}

fn refused(world: &World, nats: Options) -> String {
    let (path, _) = world.compile_workload(&echo_workload(200, 1));
    let mut options = world.options(&path, "refused");
    options.nats = Options { servers: world.nats().servers, ..nats };
    let plan = Plan::of(&options).unwrap();
    replay::replay(&options, &plan, &Stop::default(), &mut |_: &Progress| {}).unwrap_err().to_string()
}

fn with(auth: Auth) -> Options {
    Options { auth, ..Options::default() }
}

#[test]
fn token() {
    let world = World::configured("authorization { token: s3cret }", with(Auth::Token("s3cret".into())));
    assert_eq!(answered(&world), 200);
    let message = refused(&world, with(Auth::Token("wrong".into())));
    assert!(message.contains("refused the connection: Authorization Violation; check the credentials"), "{message}");
}

#[test]
fn user_and_password_by_option_and_in_the_address() {
    let world = World::configured("authorization { user: a, password: b }", with(Auth::UserPassword("a".into(), "b".into())));
    assert_eq!(answered(&world), 200);
    let mut options = world.options(&world.path("echo.parquet"), "by-url");
    let port = world.nats().servers[0].port;
    options.nats = Options { servers: vec![format!("nats://a:b@127.0.0.1:{port}").parse().unwrap()], ..Options::default() };
    let _echo = world.echo();
    assert_eq!(series(&world.run(&options).1, "ask/reply").ok, 200);
}

#[test]
fn nkey() {
    let pair = KeyPair::new_user();
    let config = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", pair.public_key());
    assert_eq!(answered(&World::configured(&config, with(Auth::NKey(pair.seed().unwrap())))), 200);
}

/// A JWT as NATS has them: signed with the issuer's nkey.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, claims: serde_json::Value) -> String {
    let body = serde_json::json!({ "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": name, "nats": claims });
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let unsigned = format!("{}.{}", part(serde_json::json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(body));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(unsigned.as_bytes()).unwrap());
    format!("{unsigned}.{signature}")
}

#[test]
fn creds_file_of_an_operator() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let operator_jwt = jwt(&operator, &operator, "op", serde_json::json!({ "type": "operator", "version": 2 }));
    let limits = serde_json::json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1 });
    let account_jwt = jwt(&operator, &account, "chatapp", serde_json::json!({ "type": "account", "version": 2, "limits": limits }));
    let user_jwt =
        jwt(&account, &user, "backend", serde_json::json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 }));
    let config = format!("operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}\n", account.public_key());
    let creds = tempfile::NamedTempFile::new().unwrap();
    let seed = user.seed().unwrap();
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(creds.path(), text).unwrap();
    let world = World::configured(&config, with(Auth::from_creds_file(creds.path()).unwrap()));
    assert_eq!(answered(&world), 200);
}

#[test]
fn tls_with_certificates_of_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    std::fs::write(path("ca.pem"), ca_cert.pem()).unwrap();
    for (name, usage) in [("server", rcgen::ExtendedKeyUsagePurpose::ServerAuth), ("client", rcgen::ExtendedKeyUsagePurpose::ClientAuth)] {
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(path(&format!("{name}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    let file = |name: &str| path(name).display().to_string();
    let config = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    );
    let tls = TlsFiles { ca: Some(path("ca.pem")), cert: Some(path("client.pem")), key: Some(path("client.key")), required: true };
    let world = World::configured(&config, Options { tls: tls.clone(), ..Options::default() });
    assert_eq!(answered(&world), 200);

    let message = refused(&world, Options { tls: TlsFiles { ca: None, ..tls.clone() }, ..Options::default() });
    assert!(message.starts_with("TLS with 127.0.0.1"), "{message}");
    let message = refused(&world, Options { tls: TlsFiles { key: None, ..tls }, ..Options::default() });
    assert!(message.contains("--tls-cert and --tls-key go together"), "{message}");
}

#[test]
fn the_next_server_of_the_list_is_tried() {
    let mut world = World::new();
    let _echo = world.echo();
    let (path, _) = world.compile_workload(&echo_workload(200, 1));
    let mut options = world.options(&path, "second");
    options.nats.servers.insert(0, "nats://127.0.0.1:1".parse().unwrap());
    assert_eq!(series(&world.run(&options).1, "ask/reply").ok, 200);
    world.server.kill();
    let plan = Plan::of(&options).unwrap();
    options.run_dir = world.path("none");
    let message = replay::replay(&options, &plan, &Stop::default(), &mut |_: &Progress| {}).unwrap_err().to_string();
    assert!(message.starts_with("cannot reach a NATS server at 127.0.0.1:"), "{message}");
}

/// Restarts the server in the middle of a run of four seconds.
fn with_restart(policy: OnDisconnect) -> (World, analyze::Summary) {
    let mut world = World::new();
    let echo = world.echo();
    let (path, _) = world.compile_workload(&echo_workload(500, 4));
    let mut options = world.options(&path, "restart");
    options.on_disconnect = policy;
    let plan = Plan::of(&options).unwrap();
    let (seconds, second) = mpsc::channel();
    let running = options.clone();
    let run = std::thread::spawn(move || {
        // A test that waits for a second that never comes fails on its own.
        replay::replay(&running, &plan, &Stop::default(), &mut |p: &Progress| {
            let _ = seconds.send(p.t_ns);
        })
    });
    second.recv().unwrap();
    world.server.restart().unwrap();
    run.join().unwrap().unwrap();
    drop(echo);
    let summary = analyze::analyze(&options.run_dir, &analyze::Question::default()).unwrap();
    (world, summary)
}

#[test]
fn ops_due_while_the_server_is_away_are_held_and_sent_once() {
    let (world, summary) = with_restart(OnDisconnect::Hold);
    let s = series(&summary, "ask/reply");
    assert_eq!((summary.run.ops, summary.run.sent, s.duplicates), (2_000, 2_000, 0));
    assert_eq!(s.missing, 0, "an answer that may have come while nobody listened is unresolved, not missing");
    assert_eq!(s.ok + s.late + s.unresolved + s.errors.values().sum::<u64>(), 2_000);
    assert!(s.ok > 1_500, "{s:?}");
    assert!(!summary.evidence.gaps.is_empty());
    assert!(summary.lateness.late_by_cause.get("disconnected").is_some_and(|n| *n > 0), "{:?}", summary.lateness);
    let events: Vec<_> = runlog::chunks::<runlog::Event>(&world.path("restart")).unwrap();
    let kinds: Vec<String> = events
        .iter()
        .flat_map(|c| c.read::<runlog::Event>().unwrap())
        .flat_map(|c| c.kind.values().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(kinds.iter().any(|k| k == EventKind::Lost.name()) && kinds.iter().any(|k| k == EventKind::Up.name()));
}

#[test]
fn or_they_are_skipped_and_logged() {
    let (_, summary) = with_restart(OnDisconnect::Skip);
    let skipped = summary.run.unsent.get("disconnected").copied().unwrap_or(0);
    assert_eq!(summary.run.ops, 2_000);
    assert!(skipped > 0, "{:?}", summary.run);
    assert_eq!(summary.run.sent + skipped, 2_000);
    assert_eq!(series(&summary, "ask/reply").void, skipped);
}

/// A server that stands still must show in every op that was due meanwhile: no coordinated omission.
#[test]
fn a_stalled_server_shows_in_the_response_time_of_everything_that_was_due() {
    let world = World::new();
    let _echo = world.echo();
    let (path, _) = world.compile_workload(&echo_workload(1_000, 3));
    let options = world.options(&path, "stall");
    let plan = Plan::of(&options).unwrap();
    let pid = rustix::process::Pid::from_raw(world.server.pid() as i32).unwrap();
    let mut stopped_ns = None;
    let stop = Stop::default();
    let report = replay::replay(&options, &plan, &stop, &mut |p: &Progress| match stopped_ns {
        None => {
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
            stopped_ns = Some(p.t_ns);
        }
        Some(_) => rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap(),
    });
    report.unwrap();
    let summary = analyze::analyze(&options.run_dir, &analyze::Question::default()).unwrap();
    let s = series(&summary, "ask/reply");
    assert_eq!((s.ok + s.late, s.missing), (3_000, 0));
    // One second of three: a third of the ops waited, evenly from 0 to 1 s. Closed form: p90 = 1 − 0.1·3 = 0.7 s.
    let p90_s = s.response.p90_ns.unwrap() as f64 / 1e9;
    assert!(p90_s > 0.55, "p90 {p90_s} s");
    assert!(summary.lateness.percentiles.p50_ns.unwrap() < 100_000_000);
}
