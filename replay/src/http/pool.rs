//! The connections to a server: those that are free, and how many there are.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// Connections to one server.
pub(super) struct Pool {
    state: Mutex<State>,
    most: usize,
}

#[derive(Default)]
struct State {
    free: Vec<Connection>,
    open: usize,
    /// Those that wait, the longest first.
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// What an exchange gets.
pub(super) enum Turn {
    /// A connection that is there.
    Take(Connection),
    /// It may open one.
    Open(Permit),
}

/// An open connection, or one to be opened; it counts until it is dropped.
pub(super) struct Permit(Arc<Pool>);

/// An open connection.
pub(super) struct Connection {
    pub sender: SendRequest<Full<Bytes>>,
    pub number: u32,
    permit: Permit,
}

impl Connection {
    pub fn new(sender: SendRequest<Full<Bytes>>, number: u32, permit: Permit) -> Connection {
        Connection { sender, number, permit }
    }

    /// It is free: the next may have it.
    pub fn free(self) {
        let pool = self.permit.0.clone();
        pool.give(self);
    }
}

impl Pool {
    pub fn new(most: usize) -> Arc<Pool> {
        Arc::new(Pool { state: Mutex::default(), most: most.max(1) })
    }

    /// A turn at once, or the place where it will come.
    pub fn turn(self: &Arc<Pool>) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut dead = Vec::new();
        let mut state = self.state.lock().expect("no panic while locked");
        // The one that was used last is the likeliest to be open still.
        while let Some(connection) = state.free.pop() {
            if connection.sender.is_ready() {
                drop(state);
                return Ok(Turn::Take(connection));
            }
            dead.push(connection);
        }
        let (sender, receiver) = oneshot::channel();
        // Those that were closed meanwhile make room, as soon as they are dropped.
        if state.open - dead.len() < self.most {
            state.open += 1;
            drop(state);
            return Ok(Turn::Open(Permit(self.clone())));
        }
        state.waiting.push_back(sender);
        Err(receiver)
    }

    fn give(&self, connection: Connection) {
        let mut turn = Turn::Take(connection);
        loop {
            let mut state = self.state.lock().expect("no panic while locked");
            let Some(waiting) = state.waiting.pop_front() else {
                if let Turn::Take(connection) = turn {
                    state.free.push(connection);
                }
                return;
            };
            drop(state);
            match waiting.send(turn) {
                Ok(()) => return,
                // It waits no more.
                Err(back) => turn = back,
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.state.lock().expect("no panic while locked");
            let waiting = state.waiting.pop_front();
            state.open -= usize::from(waiting.is_none());
            waiting
        };
        if let Some(waiting) = waiting {
            // If that one waits no more, dropping its permit asks the next.
            let _ = waiting.send(Turn::Open(Permit(self.0.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_open_than_may_be_and_the_longest_wait_ends_first() {
        let pool = Pool::new(2);
        let (Ok(Turn::Open(a)), Ok(Turn::Open(b))) = (pool.turn(), pool.turn()) else { panic!("two may be open") };
        let (Err(mut first), Err(second), Err(mut third)) = (pool.turn(), pool.turn(), pool.turn()) else { panic!("and no third") };
        drop(second);
        drop(a);
        let Ok(Turn::Open(c)) = first.try_recv() else { panic!("the first") };
        assert!(third.try_recv().is_err());
        drop(b);
        let Ok(Turn::Open(d)) = third.try_recv() else { panic!("the second waits no more") };
        drop((c, d));
        assert_eq!(pool.state.lock().unwrap().open, 0);
        assert!(matches!(pool.turn(), Ok(Turn::Open(_))));
    }
}
