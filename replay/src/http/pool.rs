//! The connections to a server: those that are free, and how many there are.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response, body::Incoming};
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

/// Streams of a connection of HTTP/2 at a time: what [RFC 9113](https://www.rfc-editor.org/rfc/rfc9113#section-6.5.2) wants a server to
/// allow at least.
const STREAMS: usize = 100;

/// What takes requests.
pub(super) enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    fn is_ready(&self) -> bool {
        match self {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    /// Whether it takes another, once it has the time.
    pub async fn ready(&mut self) -> bool {
        match self {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        match self {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        }
    }
}

/// An open connection, or over HTTP/2 a share of one.
pub(super) struct Connection {
    pub sender: Sender,
    pub number: u32,
    permit: Arc<Permit>,
}

impl Connection {
    /// One that was opened. What else it can carry at a time is free at once.
    pub fn new(sender: Sender, number: u32, permit: Permit) -> Connection {
        let (pool, permit) = (permit.0.clone(), Arc::new(permit));
        if let Sender::Http2(sender) = &sender {
            for _ in 1..STREAMS {
                pool.give(Connection { sender: Sender::Http2(sender.clone()), number, permit: permit.clone() });
            }
        }
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
        let closed = dead.iter().filter(|connection| Arc::strong_count(&connection.permit) == 1).count();
        if state.open - closed < self.most {
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
