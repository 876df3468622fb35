//! The least that can be done: bytes prepared beforehand, written 64 KiB at a time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

const WRITE_BYTES: usize = 64 * 1024;

/// Publishes `count` messages of `size` bytes and waits for the server to have read them. Returns messages per second.
pub fn publish(address: &str, count: u64, size: usize) -> std::io::Result<f64> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    tcp.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false}\r\nPING\r\n")?;
    until_pong(&mut tcp)?;
    let (payload, mut buffer) = (vec![b'x'; size], Vec::with_capacity(2 * WRITE_BYTES));
    let began = Instant::now();
    for _ in 0..count {
        write!(buffer, "PUB bench.flood {size}\r\n")?;
        buffer.extend_from_slice(&payload);
        buffer.extend_from_slice(b"\r\n");
        if buffer.len() >= WRITE_BYTES {
            tcp.write_all(&buffer)?;
            buffer.clear();
        }
    }
    buffer.extend_from_slice(b"PING\r\n");
    tcp.write_all(&buffer)?;
    until_pong(&mut tcp)?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Receives `count` messages and does nothing with them. Returns messages per second from the first on.
pub fn receive(address: &str, subject: &str, count: u64) -> std::io::Result<f64> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.write_all(format!("CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true}}\r\nSUB {subject} 1\r\nPING\r\n").as_bytes())?;
    let mut buffer = wire::ReadBuffer::with_capacity(256 * 1024);
    let (mut seen, mut began) = (0, None);
    while seen < count {
        while let Some(frame) = buffer.next_frame().map_err(std::io::Error::other)? {
            match frame {
                wire::Frame::Message(_) => {
                    began.get_or_insert_with(Instant::now);
                    seen += 1;
                }
                wire::Frame::Ping => tcp.write_all(b"PONG\r\n")?,
                wire::Frame::Pong => println!("ready"),
                _ => {}
            }
        }
        if seen < count && buffer.fill(|free| tcp.read(free))? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(count as f64 / began.map_or(0.0, |began| began.elapsed().as_secs_f64()))
}

fn until_pong(tcp: &mut TcpStream) -> std::io::Result<()> {
    let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
    while !seen.windows(6).any(|w| w == b"PONG\r\n") {
        let n = tcp.read(&mut chunk)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        seen.extend_from_slice(&chunk[..n]);
    }
    Ok(())
}

/// Answers every request on a subject with its own payload, in batches: as fast as one connection allows. Runs until it is killed.
pub fn echo(address: &str, subject: &str) -> std::io::Result<()> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    tcp.write_all(format!("CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true}}\r\nSUB {subject} 1\r\nPING\r\n").as_bytes())?;
    let (mut buffer, mut out) = (wire::ReadBuffer::with_capacity(256 * 1024), Vec::new());
    let mut at = wire::Offsets::default();
    loop {
        while let Some(frame) = buffer.next_frame().map_err(std::io::Error::other)? {
            match frame {
                wire::Frame::Message(wire::Message { reply: Some(reply), payload, .. }) => {
                    let reply = std::str::from_utf8(reply).map_err(std::io::Error::other)?;
                    wire::encode_publish(&mut out, reply, None, [].into_iter(), payload, &mut at);
                }
                wire::Frame::Ping => out.extend_from_slice(b"PONG\r\n"),
                wire::Frame::Pong => println!("ready"),
                _ => {}
            }
        }
        tcp.write_all(&out)?;
        out.clear();
        if buffer.fill(|free| tcp.read(free))? == 0 {
            return Ok(());
        }
    }
}
