//! However a log is cut and however many threads count it, the answer is the same.

mod common;

use analyze::{Question, Summary, analyze};
use common::{Drawn, write};
use schedule::Expect;

/// Enough ops for several waves, with everything that may happen to one.
fn ops() -> Vec<Drawn> {
    let mut rng = fixtures::Rng::new(42, "laws");
    let mut op = |i: i64| {
        let intended = i * 300;
        let sent = (!rng.chance(0.01)).then(|| intended + rng.below(2_000) as i64);
        let from = sent.unwrap_or(intended);
        let came = sent.is_some();
        let mut replies: Vec<(Option<u8>, i64)> = Vec::new();
        if came && !rng.chance(0.02) {
            replies.push((rng.chance(0.05).then(|| rng.below(3) as u8), from + rng.below(900_000) as i64));
        }
        if came && rng.chance(0.02) {
            replies.push((None, from + 900_001 + rng.below(900_000) as i64));
        }
        let copies = if came { rng.below(4) } else { 0 };
        let broadcasts = (0..copies).map(|c| (c + 1, from + rng.below(2_000_000) as i64)).collect();
        let expect = vec![Expect { answer: 0, count: Some(1) }, Expect { answer: 1, count: Some(2) }];
        Drawn { op: i, intended, sent, bucket: (i % 3 > 0).then_some(i % 3 == 1), expect, replies, broadcasts }
    };
    (0..150_000).map(&mut op).collect()
}

fn asked(dir: &std::path::Path, threads: usize) -> Summary {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let lines = ["send/reply p99 < 1ms", "send/reply p95 < 1ms every 10ms", "errors < 1% every 20ms", "missing == 0"];
    let slo = Some(lines.iter().map(|l| l.parse().unwrap()).collect());
    let mut summary =
        pool.install(|| analyze(dir, &Question { slo, warmup_ns: 1_000_000, window_ns: Some(5_000_000), ..Question::default() })).unwrap();
    summary.run.folder = String::new();
    summary
}

#[test]
fn any_cut_and_any_number_of_threads_give_the_same_summary() {
    let ops = ops();
    let mut all = Vec::new();
    for (cut, threads) in [(1_000_000, 1), (1_000, 2), (777, 7)] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &ops, cut);
        all.push(asked(dir.path(), threads));
    }
    assert!(all[0].series.len() > 3 && all[0].windows.len() > 10, "there is something to compare");
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
}

#[test]
fn a_percentile_among_the_missing_prints_as_more_than_the_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let op = |i: i64| {
        let expect = vec![Expect { answer: 0, count: Some(1) }];
        let replies = if i < 90 { vec![(None, i * 1_000 + 500)] } else { vec![] };
        Drawn { op: i, intended: i * 1_000, sent: Some(i * 1_000), bucket: None, expect, replies, broadcasts: vec![] }
    };
    write(dir.path(), &(0..100).map(op).collect::<Vec<_>>(), 10);
    let text = analyze::render::text(&analyze(dir.path(), &Question::default()).unwrap());
    let line = text.lines().find(|l| l.starts_with("send/reply")).unwrap();
    assert!(line.contains("500ns") && line.contains("> 1.00ms"), "{line}");
}
