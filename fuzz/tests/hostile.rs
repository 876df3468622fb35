//! Each target briefly, the same bytes each time.

fn feed(target: &str, times: u32) {
    let (_, take) = fuzz::TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    fuzz::feed(take, &fuzz::seeds(target), times, 42);
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
