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
        ("replay h.parquet", "action `get` goes over http; this replay speaks NATS only"),
    ] {
        let (code, _, err) = run(dir.path(), line);
        assert_eq!(code, 2, "{line}: {err}");
        assert!(err.contains(told), "{line}: {err}");
    }
}
