//! Packet captures, pcap and pcapng: the TCP segments in them.

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};

/// Of the reader at first; it grows for a larger block, up to …
const BUFFER_BYTES: usize = 1 << 16;
/// … this.
const BLOCK_MAX: usize = 64 << 20;

/// A segment of TCP, as it passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'a> {
    /// Epoch ns.
    pub t_ns: i64,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub sequence: u32,
    /// The first of its direction: the sequence counts one more.
    pub syn: bool,
    pub data: &'a [u8],
}

/// How an interface of the file writes packets.
#[derive(Clone, Copy)]
struct Interface {
    link: Linktype,
    units_per_sec: u64,
    offset_sec: i64,
}

/// Tells every TCP segment of a capture, in the order of the file, and whether the file ends within a block, as when it was cut off.
/// What is no TCP is passed over.
///
/// # Errors
/// A sentence: it is no capture, or it is damaged; what came before was told.
pub(crate) fn segments(file: impl Read + Send, tell: &mut dyn FnMut(Segment<'_>)) -> Result<bool, String> {
    let unknown = |_| "is neither pcap nor pcapng".to_owned();
    let mut reader = create_reader(BUFFER_BYTES, file).map_err(unknown)?;
    let (mut interfaces, mut capacity, mut blocks) = (Vec::new(), BUFFER_BYTES, 0u64);
    loop {
        let damaged = |what: &str| format!("is damaged after {blocks} blocks: {what}");
        let lacks = match reader.next() {
            Ok((used, block)) => {
                take(&block, &mut interfaces, tell);
                reader.consume(used);
                blocks += 1;
                continue;
            }
            Err(PcapError::Eof) => return Ok(false),
            Err(PcapError::Incomplete(_) | PcapError::BufferTooSmall | PcapError::UnexpectedEof) => true,
            Err(_) => false,
        };
        if !lacks {
            return Err(damaged("what follows is no block"));
        }
        if reader.reader_exhausted() {
            return Ok(!reader.data().is_empty());
        }
        let before = reader.data().len();
        // A buffer that is full takes no more.
        if reader.refill().is_err() || reader.data().len() == before && !reader.reader_exhausted() {
            capacity *= 2;
            if capacity > BLOCK_MAX || !reader.grow(capacity) {
                return Err(damaged("a block is larger than 64 MiB"));
            }
        }
    }
}

fn take(block: &PcapBlockOwned<'_>, interfaces: &mut Vec<Interface>, tell: &mut dyn FnMut(Segment<'_>)) {
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let units_per_sec = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
            *interfaces = vec![Interface { link: header.network, units_per_sec, offset_sec: 0 }];
        }
        PcapBlockOwned::Legacy(packet) => {
            let Some(interface) = interfaces.first() else { return };
            let units = u64::from(packet.ts_sec) * interface.units_per_sec + u64::from(packet.ts_usec);
            segment(interface, units, packet.data, tell);
        }
        // The interfaces of a section are its own.
        PcapBlockOwned::NG(Block::SectionHeader(_)) => interfaces.clear(),
        PcapBlockOwned::NG(Block::InterfaceDescription(described)) => interfaces.push(Interface {
            link: described.linktype,
            units_per_sec: described.ts_resolution().unwrap_or(1_000_000).max(1),
            offset_sec: described.ts_offset(),
        }),
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let Some(interface) = interfaces.get(packet.if_id as usize) else { return };
            let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            let data = &packet.data[..packet.data.len().min(packet.caplen as usize)];
            segment(interface, units, data, tell);
        }
        PcapBlockOwned::NG(_) => {}
    }
}

fn segment(interface: &Interface, units: u64, data: &[u8], tell: &mut dyn FnMut(Segment<'_>)) {
    let nanos = u128::from(units) * 1_000_000_000 / u128::from(interface.units_per_sec);
    let offset_ns = i128::from(interface.offset_sec) * 1_000_000_000;
    let t_ns = (nanos as i128 + offset_ns).clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    let Some(packet) = sliced(interface.link, data) else { return };
    let (Some(net), Some(TransportSlice::Tcp(tcp))) = (packet.net, packet.transport) else { return };
    let (from, to): (IpAddr, IpAddr) = match net {
        LaxNetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Arp(_) => return,
    };
    tell(Segment {
        t_ns,
        from: SocketAddr::new(from, tcp.source_port()),
        to: SocketAddr::new(to, tcp.destination_port()),
        sequence: tcp.sequence_number(),
        syn: tcp.syn(),
        data: tcp.payload(),
    });
}

/// By the [link type](https://www.tcpdump.org/linktypes.html) of the interface.
fn sliced(link: Linktype, data: &[u8]) -> Option<LaxSlicedPacket<'_>> {
    let ether = |at: usize, header: usize| {
        let kind = EtherType(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]));
        Some(LaxSlicedPacket::from_ether_type(kind, data.get(header..)?))
    };
    match link {
        Linktype::ETHERNET => LaxSlicedPacket::from_ethernet(data).ok(),
        Linktype(12 | 14 | 101 | 228 | 229) => LaxSlicedPacket::from_ip(data).ok(),
        Linktype::NULL | Linktype(108) => LaxSlicedPacket::from_ip(data.get(4..)?).ok(),
        Linktype::LINUX_SLL => ether(14, 16),
        Linktype(276) => ether(0, 20),
        _ => None,
    }
}
