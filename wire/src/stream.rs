use rustls::ClientConnection;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;

/// A non-blocking byte stream, plain or TLS. One thread may read while another writes.
pub struct Stream {
    pub(crate) tcp: TcpStream,
    pub(crate) tls: Option<Mutex<ClientConnection>>,
}

impl Stream {
    /// Whether bytes go as they are; TLS keeps some of its own.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Writes some of `bytes` and returns how many were taken.
    ///
    /// # Errors
    /// `WouldBlock` when the socket is full; anything else means that the connection is lost.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return (&self.tcp).write(bytes) };
        let mut tls = tls.lock().expect("no panic while locked");
        flush_tls(&mut tls, &self.tcp)?;
        if tls.wants_write() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = tls.writer().write(bytes)?;
        flush_tls(&mut tls, &self.tcp)?;
        Ok(taken)
    }

    /// Hands over what TLS still holds back. True when nothing is left.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn flush(&self) -> io::Result<bool> {
        let Some(tls) = &self.tls else { return Ok(true) };
        let mut tls = tls.lock().expect("no panic while locked");
        flush_tls(&mut tls, &self.tcp)?;
        Ok(!tls.wants_write())
    }

    /// Reads what is there. 0 is end of file.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else means that the connection is lost.
    pub fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return (&self.tcp).read(out) };
        let mut tls = tls.lock().expect("no panic while locked");
        loop {
            match tls.reader().read(out) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            if tls.read_tls(&mut &self.tcp)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Ends the connection; a reader sees end of file.
    pub fn shutdown(&self) {
        // Already gone is as good as shut down.
        let _ = self.tcp.shutdown(Shutdown::Both);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

/// Writes pending records until there is none or the socket is full, which is not an error here.
fn flush_tls(tls: &mut ClientConnection, tcp: &TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(&mut &*tcp) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
