//! Recordings of other tools as a user imports them.

mod common;

use common::run;
use schedule::Reader;

#[test]
fn recordings_become_schedules_or_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "r.ndjson",
        "{\"ts\":1782896400000,\"s\":\"a.b\",\"d\":{\"id\":\"018f6f0e-5b7a-7c31-9d52-0c4f1b2a9e77\"}}\n{\"ts\":1782896401000,\"s\":\"a.c\",\"d\":\"x\"}\n",
    );
    write("r.csv", "t,s,p\n1782896400,a.b,hi\n");
    write("m.toml", "time = \"t\"\nsubject = \"s\"\npayload = \"p\"\nheaders = { K = \"p\" }");
    write(
        "r.har",
        "{\"log\":{\"entries\":[{\"startedDateTime\":\"2026-07-01T09:00:00Z\",\"request\":{\"method\":\"GET\",\"url\":\"http://h/\",\"headers\":[]}}]}}",
    );
    write("no-times.har", "{\"log\":{\"entries\":[{\"request\":{}}]}}");
    write("cut.gor", "1 a 5\nGET / HTTP/1.1\r\n\r\n");
    for (line, rows) in [
        ("import ndjson r.ndjson --map time=/ts,subject=/s,payload=/d -o n.parquet", 2),
        ("import csv r.csv --map m.toml -o c.parquet", 1),
        ("import har r.har -o h.parquet", 1),
    ] {
        let (code, _, err) = run(dir.path(), line);
        assert_eq!(code, 0, "{line}: {err}");
        let file = dir.path().join(line.rsplit(' ').next().unwrap());
        assert_eq!(Reader::open(&file).unwrap().meta().rows, rows, "{line}");
    }
    let batch = Reader::open(&dir.path().join("n.parquet")).unwrap().batches().unwrap().next().unwrap().unwrap();
    assert_eq!((batch.row(0).slots().count(), batch.row(1).at_ns), (1, 1_000_000_000), "an id is fresh, and times are kept");
    for (line, told) in [
        ("import ndjson r.ndjson -o x.parquet", "say by --map which field is what"),
        ("import ndjson r.ndjson --map time=/t,subject=/s -o x.parquet", "r.ndjson: line 1: has no /t"),
        ("import csv r.csv --map time=when,subject=s -o x.parquet", "the mapping names the column `when`; there are t, s, p"),
        ("import csv r.csv --map time=t,subjekt=s -o x.parquet", "unknown field `subjekt`"),
        ("import har no-times.har -o x.parquet", "entry 1: has no startedDateTime"),
        ("import gor cut.gor -o x.parquet", "record 1: is cut: its end is lacking"),
        ("import vegeta r.ndjson -o x.parquet", "vegeta's targets have no times; say --rate"),
        ("import har r.csv -o x.parquet", "is no JSON"),
        ("replay h.parquet -o run-h", "http://h is not this machine; add --yes to send load to it"),
        ("replay h.parquet -o run-h --base-url http://127.0.0.1:80@h", "http://***@h is not this machine"),
        ("replay h.parquet -o run-h --base-url 127.0.0.1", "is not an address; write http://HOST:PORT"),
        (
            "replay h.parquet -o run-h --base-url http://127.0.0.1:1 --bearer env:NOT_SET_ANYWHERE",
            "the variable NOT_SET_ANYWHERE is not set",
        ),
        ("replay h.parquet -o run-h --base-url http://127.0.0.1:1 -H nonsense", "`nonsense` is not NAME: VALUE"),
    ] {
        let (code, _, err) = run(dir.path(), line);
        assert_eq!(code, 2, "{line}: {err}");
        assert!(err.contains(told), "{line}: {err}");
    }
}

/// Six messages of the preset `small` and what answers them, as tcpdump saw them on the loopback at port 4333.
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/chat.pcap");

#[test]
fn packets_become_a_schedule_with_its_answers() {
    let dir = tempfile::tempdir().unwrap();
    let chat = "--subject chat.user.*.room.*.*.msg.send --subject chat.user.*.response.> --subject chat.room.*.event --rules small";
    let (code, _, err) = run(dir.path(), &format!("import pcap {SAMPLE} --port 4333 {chat} -o p.parquet"));
    assert_eq!(code, 0, "{err}");
    let reader = Reader::open(&dir.path().join("p.parquet")).unwrap();
    let batch = reader.batches().unwrap().next().unwrap().unwrap();
    assert_eq!((reader.meta().rows, reader.meta().actions[0].name.as_str()), (6, "send"));
    for row in batch.rows() {
        let expects: u32 = row.to_operation().expect.iter().filter_map(|e| e.count).sum();
        assert_eq!((row.slots().count(), expects), (2, 2), "a message id and a request id, a reply and a broadcast");
    }
    assert_eq!(reader.meta().losses.as_ref().unwrap()["gaps"], serde_json::json!([]));

    let whole = std::fs::read(SAMPLE).unwrap();
    std::fs::write(dir.path().join("cut.pcap"), &whole[..whole.len() * 2 / 3]).unwrap();
    let (code, _, err) = run(dir.path(), &format!("import pcap cut.pcap --port 4333 {chat} -o cut.parquet"));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("it was cut off"), "{err}");
    std::fs::write(dir.path().join("text.pcap"), "no packets at all in here").unwrap();
    for (line, told) in [
        (format!("import pcap {SAMPLE} -o x.parquet"), "no operation was heard"),
        ("import pcap text.pcap -o x.parquet".into(), "text.pcap: is neither pcap nor pcapng"),
        ("import pcap none.pcap -o x.parquet".into(), "none.pcap: cannot be read: No such file"),
        (format!("import pcap {SAMPLE} --port 4333 --id '[' -o x.parquet"), "--id"),
        ("import nats-dump . -o x.parquet".into(), "holds no message; `nats sub --dump` names its files"),
    ] {
        let (code, _, err) = run(dir.path(), &line);
        assert_eq!(code, 2, "{line}: {err}");
        assert!(err.contains(told), "{line}: {err}");
        assert!(!dir.path().join("x.parquet.capture").exists(), "{line}");
    }
}

#[test]
fn a_folder_of_dumped_messages_becomes_a_schedule() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("dump")).unwrap();
    for n in 1..=3 {
        let text = format!(r#"{{"Subject":"orders.new","Reply":"","Header":{{"K":["v"]}},"Data":"b3JkLWFiMTJjZA==","Sub":null,"n":{n}}}"#);
        std::fs::write(dir.path().join(format!("dump/{n}.json")), text).unwrap();
    }
    let (code, _, err) = run(dir.path(), "import nats-dump dump --rate 10 --id ord-([0-9a-z]{6}) -o d.parquet");
    assert_eq!(code, 0, "{err}");
    let batch = Reader::open(&dir.path().join("d.parquet")).unwrap().batches().unwrap().next().unwrap().unwrap();
    assert_eq!(
        (batch.row(2).at_ns, batch.row(2).payload, batch.row(2).headers().next()),
        (200_000_000, &b"ord-ab12cd"[..], Some(("K", "v")))
    );
    let slots: Vec<_> = (0..3).map(|i| batch.row(i).slots().flatten().map(|s| (s.op, s.offset, s.width)).collect::<Vec<_>>()).collect();
    assert_eq!(slots, vec![vec![(0, 4, 6)]; 3], "the same id in each, made by the first");
}

#[test]
fn an_imported_recording_is_replayed() {
    let (dir, site) = (tempfile::tempdir().unwrap(), harness::Site::new());
    let targets: String =
        (0..40).map(|n| format!("{{\"method\":\"POST\",\"url\":\"https://shop.test/echo?n={n}\",\"body\":\"aGk=\"}}\n")).collect();
    std::fs::write(dir.path().join("t.json"), targets).unwrap();
    let (code, _, err) = run(dir.path(), "import vegeta t.json --rate 40 -o t.parquet");
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = run(dir.path(), &format!("replay t.parquet -q --base-url {} -o run-t", site.url()));
    assert_eq!(code, 0, "{err}");
    let (_, report, _) = run(dir.path(), "analyze run-t");
    assert!(report.contains("post/response"), "{report}");
    assert_eq!(site.heard(), vec!["/echo hi"; 40]);
    // Another server, and a limit that is reached.
    let resolved = format!("replay t.parquet -q --resolve shop.test:443={} --insecure -o run-r", site.url().trim_start_matches("http://"));
    let (code, _, err) = run(dir.path(), &resolved);
    assert_eq!(code, 0, "{err}");
    let (_, report, _) = run(dir.path(), "analyze run-r");
    assert!(report.contains("tls"), "a server without TLS is no HTTPS server: {report}");
}
