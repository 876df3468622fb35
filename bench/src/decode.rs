//! The floor of any analysis: decoding, on every core, and nothing else.

use runlog::{Chunk, Error, JoinBroadcast, JoinReply, JoinSent, Table, chunks};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Decodes all three logs.
pub fn run(dir: &Path) -> Result<(), Error> {
    all::<JoinSent>(&chunks::<JoinSent>(dir)?)?;
    all::<JoinReply>(&chunks::<JoinReply>(dir)?)?;
    all::<JoinBroadcast>(&chunks::<JoinBroadcast>(dir)?)
}

fn all<T: Table>(chunks: &[Chunk]) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), Error> {
        while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            std::hint::black_box(chunk.read::<T>()?);
        }
        Ok(())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("decoding does not panic"))
    })
}
