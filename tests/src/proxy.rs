use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a read waits before it looks whether something was asked of the proxy.
const GLANCE: Duration = Duration::from_millis(10);

/// A TCP proxy in front of a server, for what a network does: it cuts, blocks and dawdles.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    ended: AtomicBool,
    blocked: AtomicBool,
    /// Nothing is passed on to the client.
    holding: AtomicBool,
    /// Connections to be cut in the middle of what the server sends next.
    cuts: AtomicU32,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Starts one; `to` is host:port.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn start(to: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (state, to) = (Arc::new(State::default()), to.trim_start_matches("nats://").to_owned());
        let accepting = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.ended.load(SeqCst) {
                    return;
                }
                if !accepting.blocked.load(SeqCst)
                    && let Ok(server) = TcpStream::connect(&to)
                {
                    accepting.join(client, server);
                }
            }
        });
        Proxy { port, state }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Cuts so many connections, each within what the server sends next.
    pub fn cut_mid_frame(&self, connections: u32) {
        self.state.cuts.store(connections, SeqCst);
    }

    /// Cuts everything and takes nobody until told otherwise.
    pub fn block(&self, blocked: bool) {
        self.state.blocked.store(blocked, SeqCst);
        if blocked {
            self.state.cut_all();
        }
    }

    /// Passes nothing on to clients until told otherwise: to the server they are slow.
    pub fn hold(&self, holding: bool) {
        self.state.holding.store(holding, SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, SeqCst);
        self.state.cut_all();
        // Wakes the accepting thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn cut_all(&self) {
        for stream in self.open.lock().expect("no panic while locked").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn join(self: &Arc<State>, client: TcpStream, server: TcpStream) {
        let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
        self.open.lock().expect("no panic while locked").extend([clone(&client), clone(&server)]);
        let (up, down) = ((clone(&client), clone(&server)), (server, client));
        let (there, back) = (self.clone(), self.clone());
        std::thread::spawn(move || there.copy(up.0, up.1, false));
        std::thread::spawn(move || back.copy(down.0, down.1, true));
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, to_client: bool) {
        let _ = (from.set_read_timeout(Some(GLANCE)), from.set_nodelay(true), to.set_nodelay(true));
        let mut bytes = [0; 16 * 1024];
        while !self.ended.load(SeqCst) {
            if to_client && self.holding.load(SeqCst) {
                std::thread::yield_now();
                continue;
            }
            let n = match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            let cut = to_client && n > 8 && self.cuts.fetch_update(SeqCst, SeqCst, |cuts| cuts.checked_sub(1)).is_ok();
            // The last frame lacks its end.
            if to.write_all(&bytes[..if cut { n - 3 } else { n }]).is_err() || cut {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
