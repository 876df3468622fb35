//! Each target briefly, the same bytes each time.

fn feed(target: &str, times: u32) {
    let (_, take) = fuzz::TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    fuzz::feed(take, &fuzz::seeds(target), times, 42);
}

/// What coverage-guided fuzzing found, and is mended: none of it may panic again, or take for ever.
#[test]
fn what_was_found_before() {
    let found = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
    let mut files = 0;
    for (target, take) in fuzz::TARGETS {
        for file in std::fs::read_dir(found.join(target)).into_iter().flatten() {
            take(&std::fs::read(file.unwrap().path()).unwrap());
            files += 1;
        }
    }
    assert!(files > 0);
}

#[test]
fn nats() {
    feed("nats", 100_000);
}

#[test]
fn schedule_file() {
    feed("schedule_file", 3_000);
}

#[test]
fn run_folder() {
    feed("run_folder", 2_000);
}

#[test]
fn workload() {
    feed("workload", 10_000);
}

#[test]
fn slo() {
    feed("slo", 200_000);
}

#[test]
fn recording() {
    feed("recording", 20_000);
}
