//! Makes lost connections anew, so that neither pacer nor receiver waits for a handshake.

use crate::receiver::Incoming;
use crate::shared::{Note, Shared};
use runlog::{Event, EventKind};
use std::sync::{Arc, mpsc};

const LOOK_NS: i64 = 20_000_000;
/// Pause after a failed attempt; doubles up to [`BACKOFF_MAX_NS`].
const BACKOFF_NS: i64 = 50_000_000;
const BACKOFF_MAX_NS: i64 = 2_000_000_000;

/// Looks for lost connections until told to finish; tries the servers of the list in turn.
pub(crate) fn run(shared: &Arc<Shared>, options: &wire::Options, receiver: &mpsc::Sender<Incoming>) {
    let mut state: Vec<(i64, i64, usize)> = vec![(0, BACKOFF_NS, 0); shared.connections.len()];
    while !shared.finished() {
        for (connection, (not_before, backoff, server)) in shared.connections.iter().zip(&mut state) {
            let now = shared.clock.now_ns();
            if connection.stream().is_some() || now < *not_before {
                continue;
            }
            *server += 1;
            let attempt = wire::connect_any(options, *server).map_err(|e| e.to_string()).and_then(|mut connected| {
                connection.prepare(&mut connected).map_err(|e| e.to_string())?;
                Ok(connected)
            });
            match attempt {
                Ok(connected) => {
                    let stream = Arc::new(connected.stream);
                    connection.install(stream.clone());
                    let text = connected.server.to_string();
                    let event = Event::of(connection.index, shared.clock.now_ns(), EventKind::Up, 0, Some(&text));
                    shared.note(Note::Event(event));
                    let incoming =
                        Incoming { connection: connection.index, generation: connection.generation(), stream, buffer: connected.received };
                    // A receiver that is gone means that the run ends.
                    let _ = receiver.send(incoming);
                    (*not_before, *backoff) = (0, BACKOFF_NS);
                }
                Err(_) => {
                    *not_before = shared.clock.now_ns() + *backoff;
                    *backoff = (2 * *backoff).min(BACKOFF_MAX_NS);
                }
            }
        }
        shared.clock.sleep_until(shared.clock.now_ns() + LOOK_NS, 0);
    }
}
