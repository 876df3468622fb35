//! The NATS protocol in packet captures: streams are put together from segments, and messages read from them.
//!
//! What a client publishes is seen once, whoever it is delivered to; what is delivered counts only where its publishing was
//! not seen, as with a capture that was made beside one client.

use super::packets::{Segment, segments};
use runlog::Captured;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::Path;
use wire::{ClientFrame, Frame, ReadBuffer};

/// What waits for a segment before it, bytes; past it that segment is taken for lost.
const HELD_MAX: usize = 4 << 20;

/// What was not in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Segments that are not there: from, to; epoch ns.
    pub gaps: Vec<(i64, i64)>,
    /// Connections that do not speak NATS: those with TLS, say.
    pub not_nats: Vec<String>,
    /// The file ends within a packet.
    pub cut_off: bool,
}

/// Tells every message of a packet capture once, in the order of time, as the connections of the server's port have them.
///
/// # Errors
/// A sentence: it cannot be read, it is no capture, or it is damaged. What `tell` says.
pub fn pcap(path: &Path, port: u16, tell: &mut dyn FnMut(Captured) -> Result<(), String>) -> Result<Lacking, String> {
    // What is published is known only when all is read.
    let mut published: HashMap<u64, u64> = HashMap::new();
    talk(path, port, &mut |said| {
        if let Said::Published(message) = said {
            *published.entry(key(&message)).or_default() += 1;
        }
    })?;
    let (mut delivered, mut told) = (HashMap::<(u64, SocketAddr), u64>::new(), HashMap::<u64, u64>::new());
    let mut failed = None;
    let lacking = talk(path, port, &mut |said| {
        let message = match said {
            Said::Published(message) => message,
            Said::Delivered(to, message) => {
                let key = key(&message);
                let here = delivered.entry((key, to)).or_default();
                *here += 1;
                let told = told.entry(key).or_default();
                if published.contains_key(&key) || *here <= *told {
                    return;
                }
                *told += 1;
                message
            }
        };
        if failed.is_none() {
            failed = tell(message).err();
        }
    })?;
    failed.map_or(Ok(lacking), Err)
}

/// The same message, wherever it is seen.
fn key(message: &Captured) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&message.subject, &message.payload).hash(&mut hasher);
    hasher.finish()
}

/// A message that passed.
enum Said {
    Published(Captured),
    /// To a client.
    Delivered(SocketAddr, Captured),
}

fn talk(path: &Path, port: u16, hear: &mut dyn FnMut(Said)) -> Result<Lacking, String> {
    let file = std::fs::File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
    let mut flows: HashMap<(SocketAddr, SocketAddr), Flow> = HashMap::new();
    let cut_off = segments(file, &mut |segment| {
        let from_server = segment.from.port() == port;
        if from_server || segment.to.port() == port {
            let flow = flows.entry((segment.from, segment.to)).or_insert_with(|| Flow::new(from_server, &segment));
            flow.arrive(&segment, hear);
        }
    })?;
    let mut lacking = Lacking { cut_off, ..Lacking::default() };
    let mut flows: Vec<Flow> = flows.into_values().collect();
    flows.sort_by_key(|flow| (flow.began_ns, flow.client));
    for flow in &mut flows {
        flow.end(hear);
        lacking.gaps.append(&mut flow.gaps);
        if flow.frames == 0 && flow.refused > 0 {
            lacking.not_nats.push(flow.client.to_string());
        }
    }
    lacking.gaps.sort_unstable();
    lacking.not_nats.dedup();
    Ok(lacking)
}

/// One direction of a connection.
struct Flow {
    from_server: bool,
    client: SocketAddr,
    began_ns: i64,
    /// Bytes of the stream so far; the sequence of the next one is `first + len`.
    first: u32,
    len: u64,
    /// What came too early, by its place in the stream.
    held: BTreeMap<u64, (i64, Vec<u8>)>,
    held_bytes: usize,
    last_ns: i64,
    buffer: ReadBuffer,
    gaps: Vec<(i64, i64)>,
    frames: u64,
    /// Lines that are no frames.
    refused: u64,
}

impl Flow {
    fn new(from_server: bool, segment: &Segment<'_>) -> Flow {
        Flow {
            from_server,
            client: if from_server { segment.to } else { segment.from },
            began_ns: segment.t_ns,
            first: segment.sequence.wrapping_add(u32::from(segment.syn)),
            len: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            last_ns: segment.t_ns,
            buffer: ReadBuffer::with_capacity(4096),
            gaps: Vec::new(),
            frames: 0,
            refused: 0,
        }
    }

    fn arrive(&mut self, segment: &Segment<'_>, hear: &mut dyn FnMut(Said)) {
        let next = self.first.wrapping_add(self.len as u32);
        if segment.syn && segment.sequence.wrapping_add(1) != next {
            // The same ports, and a connection of its own.
            self.end(hear);
            let gaps = std::mem::take(&mut self.gaps);
            *self = Flow { gaps, frames: self.frames, refused: self.refused, ..Flow::new(self.from_server, segment) };
        }
        let next = self.first.wrapping_add(self.len as u32);
        let sequence = segment.sequence.wrapping_add(u32::from(segment.syn));
        let ahead = i64::from(sequence.wrapping_sub(next) as i32);
        // What was sent again is cut off.
        let Some(data) = segment.data.get(ahead.min(0).unsigned_abs() as usize..).filter(|data| !data.is_empty()) else { return };
        let at = self.len + ahead.max(0) as u64;
        let held = self.held.entry(at).or_default();
        if held.1.len() < data.len() {
            self.held_bytes += data.len() - held.1.len();
            *held = (segment.t_ns, data.to_vec());
        }
        self.go_on(segment.t_ns, hear);
        while self.held_bytes > HELD_MAX {
            self.skip(hear);
        }
    }

    /// Takes what joins on.
    fn go_on(&mut self, now_ns: i64, hear: &mut dyn FnMut(Said)) {
        while let Some(first) = self.held.first_entry() {
            if *first.key() > self.len {
                return;
            }
            let (at, (_, data)) = first.remove_entry();
            self.held_bytes -= data.len();
            let known = (self.len - at) as usize;
            if let Some(new) = data.get(known..).filter(|new| !new.is_empty()) {
                self.len += new.len() as u64;
                // What waited for another is whole when that came.
                self.last_ns = self.last_ns.max(now_ns);
                self.read(new, hear);
            }
        }
    }

    /// Goes on behind what is lacking.
    fn skip(&mut self, hear: &mut dyn FnMut(Said)) {
        let Some((&at, &(t_ns, _))) = self.held.first_key_value() else { return };
        self.gaps.push((self.last_ns, t_ns));
        self.len = at;
        self.buffer.clear();
        self.go_on(t_ns, hear);
    }

    fn end(&mut self, hear: &mut dyn FnMut(Said)) {
        while !self.held.is_empty() {
            self.skip(hear);
        }
    }

    fn read(&mut self, mut data: &[u8], hear: &mut dyn FnMut(Said)) {
        while !data.is_empty() {
            let fill = |free: &mut [u8]| {
                let n = free.len().min(data.len());
                free[..n].copy_from_slice(&data[..n]);
                Ok(n)
            };
            let n = self.buffer.fill(fill).unwrap_or(0);
            data = &data[n..];
            self.parse(hear);
        }
    }

    fn parse(&mut self, hear: &mut dyn FnMut(Said)) {
        let captured = |m: &wire::Message<'_>, t_ns: i64| Captured {
            t_ns,
            subject: m.subject.to_vec(),
            reply: m.reply.unwrap_or_default().to_vec(),
            headers: m.headers.to_vec(),
            payload: m.payload.to_vec(),
        };
        loop {
            let said = match self.from_server {
                true => self.buffer.next_frame().map(|frame| {
                    frame.map(|frame| match frame {
                        Frame::Message(m) => Some(Said::Delivered(self.client, captured(&m, self.last_ns))),
                        _ => None,
                    })
                }),
                false => self.buffer.next_client_frame().map(|frame| {
                    frame.map(|frame| match frame {
                        ClientFrame::Publish(m) => Some(Said::Published(captured(&m, self.last_ns))),
                        ClientFrame::Other => None,
                    })
                }),
            };
            match said {
                Ok(None) => return,
                Ok(Some(said)) => {
                    self.frames += 1;
                    said.map(&mut *hear);
                }
                // The next line that is one, begins a message.
                Err(_) => {
                    self.refused += 1;
                    self.buffer.skip_line();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    const SERVER: u16 = 4222;
    const HEADER: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1];

    /// Time in s, from, to, sequence, whether it begins a connection, bytes.
    type Packet<'a> = (u32, u16, u16, u32, bool, &'a [u8]);

    /// A file of Ethernet packets.
    fn file(packets: &[Packet<'_>]) -> Vec<u8> {
        let mut out: Vec<u8> = HEADER.iter().flat_map(|word| word.to_le_bytes()).collect();
        for &(t, from, to, sequence, syn, data) in packets {
            let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([127, 0, 0, 1], [127, 0, 0, 1], 64).tcp(from, to, sequence, 1000);
            let mut packet = Vec::new();
            if syn { builder.syn().write(&mut packet, data) } else { builder.ack(1).write(&mut packet, data) }.unwrap();
            let n = packet.len() as u32;
            out.extend([1_782_896_400 + t, 0, n, n].iter().flat_map(|word| word.to_le_bytes()));
            out.extend(packet);
        }
        out
    }

    fn read(bytes: &[u8]) -> (Vec<Captured>, Result<Lacking, String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        std::fs::write(&path, bytes).unwrap();
        let mut all = Vec::new();
        let lacking = pcap(&path, SERVER, &mut |message| {
            all.push(message);
            Ok(())
        });
        (all, lacking)
    }

    fn seen(all: &[Captured]) -> Vec<(i64, &str, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        all.iter().map(|m| (m.t_ns / 1_000_000_000 - 1_782_896_400, text(&m.subject), text(&m.payload))).collect()
    }

    #[test]
    fn streams_are_put_together_and_messages_told_once() {
        let publish = b"CONNECT {\"pass\":\"x\"}\r\nPUB a.b in.1 5\r\nhello\r\nPUB c 1\r\nx\r\n";
        let deliver = b"INFO {}\r\nMSG a.b 1 in.1 5\r\nhello\r\nMSG other 1 2\r\nhi\r\n";
        let (all, lacking) = read(&file(&[
            (0, 5000, SERVER, 99, true, b""),
            (1, 5000, SERVER, 100, false, &publish[..20]),
            // Late, then twice, then with what is known already.
            (2, 5000, SERVER, 150, false, &publish[50..]),
            (3, 5000, SERVER, 120, false, &publish[20..40]),
            (3, 5000, SERVER, 120, false, &publish[20..40]),
            (4, 5000, SERVER, 130, false, &publish[30..55]),
            (5, SERVER, 5001, 7, false, deliver),
            (6, 8080, 5001, 7, false, b"MSG not.ours 1 2\r\nhi\r\n"),
        ]));
        assert_eq!(lacking.unwrap(), Lacking::default());
        assert_eq!(seen(&all), [(4, "a.b", "hello"), (4, "c", "x"), (5, "other", "hi")]);
        assert_eq!(all[0].reply, b"in.1");
    }

    #[test]
    fn what_is_lacking_is_told() {
        let (all, lacking) = read(&file(&[
            (0, 5000, SERVER, 100, false, b"PUB a 2\r\nhi\r\n"),
            (2, 5000, SERVER, 150, false, b"of a message\r\nPUB b 2\r\nyo\r\n"),
            (3, 5001, SERVER, 0, true, b""),
            (3, 5001, SERVER, 1, false, &[0x16, 3, 1, 2, b'\n', 7]),
        ]));
        assert_eq!(seen(&all), [(0, "a", "hi"), (2, "b", "yo")]);
        let s = 1_000_000_000;
        let gap = (1_782_896_400 * s, 1_782_896_402 * s);
        assert_eq!(lacking.unwrap(), Lacking { gaps: vec![gap], not_nats: vec!["127.0.0.1:5001".into()], cut_off: false });
        let whole = file(&[(0, 5000, SERVER, 1, false, b"PUB a 2\r\nhi\r\n"), (1, 5000, SERVER, 14, false, b"PUB b 2\r\nyo\r\n")]);
        let (all, lacking) = read(&whole[..whole.len() - 3]);
        assert_eq!((all.len(), lacking.unwrap().cut_off), (1, true));
        assert_eq!(read(b"GIF89a, twenty-four bytes and more").1.unwrap_err(), "is neither pcap nor pcapng");
    }

    #[test]
    fn a_pcapng_file_has_its_own_clock() {
        let packet = &file(&[(0, 5000, SERVER, 1, false, b"PUB a 2\r\nhi\r\n")])[40..];
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let section = words(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28]);
        // Of Ethernet, in nanoseconds: option 9 with the value 9, and the end of options.
        let interface = words(&[1, 32, 1, 0, 0x0001_0009, 9, 0, 32]);
        let t_ns = 1_782_896_400_123_456_789_u64;
        let padded = packet.len().next_multiple_of(4);
        let (length, n) = (padded as u32 + 32, packet.len() as u32);
        let head = words(&[6, length, 0, (t_ns >> 32) as u32, t_ns as u32, n, n]);
        let body = [packet, &vec![0; padded - packet.len()]].concat();
        let (all, lacking) = read(&[section, interface, head, body, words(&[length])].concat());
        assert_eq!(lacking.unwrap(), Lacking::default());
        assert_eq!((all.len(), all[0].t_ns), (1, t_ns as i64));
    }

    proptest! {
        /// Whatever the order of the segments and however they are cut, the messages are the same.
        #[test]
        fn the_order_of_segments_does_not_matter(cuts in proptest::collection::vec(1usize..40, 1..12), order in any::<u64>(), first in any::<u32>()) {
            let stream: Vec<u8> = (0..20).flat_map(|n| format!("PUB s.{n} {}\r\n{}\r\n", n % 3, &"xyz"[..n % 3]).into_bytes()).collect();
            let (mut at, mut packets) = (0, Vec::new());
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(stream.len());
                packets.push((1, 5000, SERVER, first.wrapping_add(1 + at as u32), false, &stream[at..end]));
                at = end;
                if at == stream.len() { break }
            }
            // Any order, of which the seed makes a shuffle.
            let mut shuffled = packets.clone();
            let mut state = order | 1;
            for i in (1..shuffled.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                shuffled.swap(i, (state >> 33) as usize % (i + 1));
            }
            shuffled.insert(0, (0, 5000, SERVER, first, true, b""));
            let (all, lacking) = read(&file(&shuffled));
            prop_assert_eq!(lacking.unwrap(), Lacking::default());
            prop_assert_eq!(all.len(), 20);
            let in_order = all.iter().enumerate().all(|(n, m)| m.subject == format!("s.{n}").into_bytes());
            prop_assert!(in_order);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[HEADER.iter().flat_map(|word| word.to_le_bytes()).collect(), bytes].concat());
        }
    }
}
