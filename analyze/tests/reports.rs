//! The reports of one small run, pinned.

mod common;

use analyze::{Question, Summary, analyze, render};
use common::{Drawn, write};
use schedule::Expect;

/// A hundred ops a millisecond apart; one in ten fails, one in twenty-five is not answered, the slowest takes 2 ms.
fn summary() -> Summary {
    let dir = tempfile::tempdir().unwrap();
    let op = |i: i64| {
        let (intended, failed, silent) = (i * 100_000, i % 10 == 3, i % 25 == 7);
        let sent = intended + 5_000;
        let broadcast = if failed || silent { vec![] } else { vec![(1, sent + 300_000 + i), (2, sent + 400_000 + i)] };
        Drawn {
            op: i,
            intended,
            sent: Some(sent),
            bucket: Some(i % 2 == 0),
            expect: vec![Expect { answer: 0, count: Some(1) }, Expect { answer: 1, count: Some(2) }],
            replies: if silent { vec![] } else { vec![(failed.then_some(1), sent + 20_000 * (i + 1))] },
            broadcasts: broadcast,
        }
    };
    write(dir.path(), &(0..100).map(op).collect::<Vec<_>>(), 10);
    let lines = ["send/reply p90 < 5ms", "send/reply p50 < 1ms", "errors < 50%", "missing == 0"].map(|l| l.parse().unwrap());
    let question = Question { slo: Some(lines.to_vec()), window_ns: Some(5_000_000), ..Question::default() };
    let mut summary = analyze(dir.path(), &question).unwrap();
    summary.run.folder = "RUN".into();
    summary
}

#[test]
fn text() {
    insta::assert_snapshot!(render::text(&summary()));
}

#[test]
fn json() {
    insta::assert_snapshot!(render::json(&summary()));
}

#[test]
fn csv() {
    let files = render::csv(&summary());
    insta::assert_snapshot!(files.iter().map(|(name, text)| format!("== {name}\n{text}")).collect::<String>());
}

#[test]
fn hgrm() {
    insta::assert_snapshot!(render::hgrm(&summary().series[0]));
}

#[test]
fn page() {
    let page = render::html(&summary()).unwrap();
    // The charts are drawings; what is said around them is pinned.
    let said: String = page.split("<figure>").map(|part| part.rsplit("</figure>").next().unwrap_or("")).collect();
    insta::assert_snapshot!(said);
}
