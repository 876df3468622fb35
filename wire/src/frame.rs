use std::io;

/// Bytes that are not the NATS protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server sent something that is not the NATS protocol: {0}")]
pub struct ProtocolError(pub String);

/// Where the parts of an encoded message begin, so that slots can be filled in place. Byte offsets into the output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets {
    /// The subject.
    pub subject: usize,
    /// The reply inbox, if there is one.
    pub reply: usize,
    /// Each header value.
    pub header_values: Vec<usize>,
    /// The body.
    pub payload: usize,
}

/// Appends a `PUB` or `HPUB` frame to `out`.
///
/// ```
/// let (mut out, mut at) = (Vec::new(), wire::Offsets::default());
/// wire::encode_publish(&mut out, "a.b", Some(b"inbox"), [("K", "v")].into_iter(), b"hi", &mut at);
/// assert_eq!(out, b"HPUB a.b inbox 18 20\r\nNATS/1.0\r\nK: v\r\n\r\nhi\r\n");
/// assert_eq!(&out[at.payload..at.payload + 2], b"hi");
/// ```
pub fn encode_publish<'a>(
    out: &mut Vec<u8>,
    subject: &str,
    reply: Option<&[u8]>,
    headers: impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone,
    payload: &[u8],
    at: &mut Offsets,
) {
    const VERSION: &[u8] = b"NATS/1.0\r\n";
    let with_headers = headers.len() > 0;
    out.extend_from_slice(if with_headers { b"HPUB " } else { b"PUB " });
    at.subject = out.len();
    out.extend_from_slice(subject.as_bytes());
    out.push(b' ');
    at.reply = out.len();
    if let Some(reply) = reply {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
    at.header_values.clear();
    if with_headers {
        let block = VERSION.len() + 2 + headers.clone().map(|(n, v)| n.len() + v.len() + 4).sum::<usize>();
        push_number(out, block);
        out.push(b' ');
        push_number(out, block + payload.len());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(VERSION);
        for (name, value) in headers {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            at.header_values.push(out.len());
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    } else {
        push_number(out, payload.len());
    }
    out.extend_from_slice(b"\r\n");
    at.payload = out.len();
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends a `SUB` frame.
pub fn encode_subscribe(out: &mut Vec<u8>, subject: &str, sid: u32) {
    out.extend_from_slice(format!("SUB {subject} {sid}\r\n").as_bytes());
}

fn push_number(out: &mut Vec<u8>, mut n: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// What a client sends, as far as messages go.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    /// `PUB` or `HPUB`: a message of no subscription, whose `sid` is 0.
    Publish(Message<'a>),
    /// Anything else: `CONNECT`, `SUB`, `PING` and the like.
    Other,
}

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// `MSG` or `HMSG`.
    Message(Message<'a>),
    /// `INFO`: a JSON document.
    Info(&'a [u8]),
    /// `PING`: to be answered with `PONG`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR`, without its quotes.
    Err(&'a str),
}

/// A delivered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its subject.
    pub subject: &'a [u8],
    /// The subscription it came by.
    pub sid: u32,
    /// Where an answer should go.
    pub reply: Option<&'a [u8]>,
    /// The header block with its version line, empty if there is none.
    pub headers: &'a [u8],
    /// The body.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The status of a header block: `503` is "no responders".
    ///
    /// ```
    /// let m = wire::Message { subject: b"a", sid: 1, reply: None, headers: b"NATS/1.0 503\r\n\r\n", payload: b"" };
    /// assert_eq!(m.status(), Some(503));
    /// ```
    pub fn status(&self) -> Option<u16> {
        let rest = self.headers.strip_prefix(b"NATS/1.0 ")?;
        std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
    }

    /// The first value of a header; names compare without case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.split(|&b| b == b'\n').skip(1).find_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
        })
    }
}

/// Bytes read and not yet parsed.
pub struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// A buffer of this capacity; it grows only for a single frame larger than that.
    pub fn with_capacity(bytes: usize) -> ReadBuffer {
        ReadBuffer { bytes: vec![0; bytes], start: 0, end: 0 }
    }

    /// Reads once into the free space. 0 is end of file.
    ///
    /// # Errors
    /// Those of `read`, among them `WouldBlock`.
    pub fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            self.bytes.resize(2 * self.bytes.len(), 0);
        }
        let n = read(&mut self.bytes[self.end..])?;
        self.end += n;
        Ok(n)
    }

    /// The next whole frame, or `None` until more is read.
    ///
    /// # Errors
    /// [`ProtocolError`]: the connection is of no use any more.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ProtocolError> {
        let Some((frame, used)) = parse(&self.bytes[self.start..self.end])? else { return Ok(None) };
        self.start += used;
        Ok(Some(frame))
    }

    /// As [`next_frame`](Self::next_frame), of the other direction.
    ///
    /// # Errors
    /// [`ProtocolError`].
    pub fn next_client_frame(&mut self) -> Result<Option<ClientFrame<'_>>, ProtocolError> {
        let Some((frame, used)) = parse_client(&self.bytes[self.start..self.end])? else { return Ok(None) };
        self.start += used;
        Ok(Some(frame))
    }

    /// Drops what is read up to the end of a line; all of it, if there is none.
    pub fn skip_line(&mut self) {
        let line = memchr::memchr(b'\n', &self.bytes[self.start..self.end]).map(|eol| eol + 1);
        self.start = line.map_or(self.end, |eol| self.start + eol);
    }

    /// Drops what is read.
    pub fn clear(&mut self) {
        self.start = self.end;
    }
}

/// Clients may write their verbs in any case.
fn parse_client(bytes: &[u8]) -> Result<Option<(ClientFrame<'_>, usize)>, ProtocolError> {
    let Some(eol) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
    let line = bytes[..eol].strip_suffix(b"\r").unwrap_or(&bytes[..eol]);
    let bad = || ProtocolError(String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned());
    let verb = line.split(|b| b" \t".contains(b)).next().unwrap_or_default().to_ascii_uppercase();
    let with_headers = match verb.as_slice() {
        b"PUB" => false,
        b"HPUB" => true,
        b"CONNECT" | b"SUB" | b"UNSUB" | b"PING" | b"PONG" => return Ok(Some((ClientFrame::Other, eol + 1))),
        _ => return Err(bad()),
    };
    let found = message(&line[verb.len()..], (with_headers, false), bytes, eol + 1).ok_or_else(bad)?;
    Ok(found.map(|(message, used)| (ClientFrame::Publish(message), used)))
}

fn parse(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, ProtocolError> {
    let Some(eol) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
    let line = bytes[..eol].strip_suffix(b"\r").unwrap_or(&bytes[..eol]);
    let bad = || ProtocolError(String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned());
    let frame = match line {
        [b'M', b'S', b'G', b' ', args @ ..] => return delivered(message(args, (false, true), bytes, eol + 1).ok_or_else(bad)?),
        [b'H', b'M', b'S', b'G', b' ', args @ ..] => return delivered(message(args, (true, true), bytes, eol + 1).ok_or_else(bad)?),
        b"PING" => Frame::Ping,
        b"PONG" => Frame::Pong,
        b"+OK" => Frame::Ok,
        [b'I', b'N', b'F', b'O', b' ', json @ ..] => Frame::Info(json),
        [b'-', b'E', b'R', b'R', b' ', text @ ..] => Frame::Err(std::str::from_utf8(text).map_err(|_| bad())?.trim_matches('\'')),
        _ => return Err(bad()),
    };
    Ok(Some((frame, eol + 1)))
}

#[allow(clippy::type_complexity, clippy::unnecessary_wraps, reason = "the shape of parse's result")]
fn delivered(message: Option<(Message<'_>, usize)>) -> Result<Option<(Frame<'_>, usize)>, ProtocolError> {
    Ok(message.map(|(message, used)| (Frame::Message(message), used)))
}

/// `args` is `subject [sid] [reply] [header bytes] total bytes`. The outer `None` is malformed, the inner one incomplete.
#[allow(clippy::option_option, reason = "the shape of parse's result")]
fn message<'a>(
    args: &'a [u8],
    (with_headers, with_sid): (bool, bool),
    bytes: &'a [u8],
    body: usize,
) -> Option<Option<(Message<'a>, usize)>> {
    let mut fields: [&[u8]; 5] = [b""; 5];
    let mut count = 0;
    for field in args.split(|&b| b == b' ' || b == b'\t').filter(|f| !f.is_empty()) {
        *fields.get_mut(count)? = field;
        count += 1;
    }
    let sizes = 1 + usize::from(with_headers);
    let named = 1 + usize::from(with_sid);
    let reply = match count.checked_sub(sizes + named)? {
        0 => None,
        1 => Some(fields[named]),
        _ => return None,
    };
    let total = number(fields[count - 1])?;
    let header_len = if with_headers { number(fields[count - 2])? } else { 0 };
    if header_len > total {
        return None;
    }
    let sid = if with_sid { number(fields[1])? as u32 } else { 0 };
    if bytes.len() < body + total + 2 {
        return Some(None);
    }
    let (headers, payload) = bytes[body..body + total].split_at(header_len);
    Some(Some((Message { subject: fields[0], sid, reply, headers, payload }, body + total + 2)))
}

fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    digits.iter().try_fold(0, |n: usize, &d| d.is_ascii_digit().then(|| n * 10 + usize::from(d - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], cut: usize) -> Vec<String> {
        let mut buffer = ReadBuffer::with_capacity(8);
        let (mut out, mut rest) = (Vec::new(), bytes);
        while !rest.is_empty() {
            let n = buffer
                .fill(|free| {
                    let n = free.len().min(rest.len()).min(cut);
                    free[..n].copy_from_slice(&rest[..n]);
                    Ok(n)
                })
                .unwrap();
            rest = &rest[n..];
            while let Some(frame) = buffer.next_frame().unwrap() {
                out.push(format!("{frame:?}"));
            }
        }
        out
    }

    const TALK: &[u8] = b"INFO {\"a\":1}\r\nPONG\r\nINFO {}\r\nMSG a.b 7 5\r\nhe\r\no\r\nMSG a 7 in.box 0\r\n\r\nHMSG a 1 r 16 18\r\nNATS/1.0 503\r\n\r\nhi\r\n-ERR 'Stale Connection'\r\n+OK\r\nPING\r\n";

    #[test]
    fn frames_do_not_depend_on_how_reads_cut_them() {
        let whole = all(TALK, 1000);
        assert_eq!(whole.len(), 9);
        for cut in 1..40 {
            assert_eq!(all(TALK, cut), whole, "reads of {cut} bytes");
        }
    }

    #[test]
    fn what_clients_send_is_read_too() {
        let mut buffer = ReadBuffer::with_capacity(8);
        let mut rest: &[u8] =
            b"CONNECT {}\r\nsub a 1\r\nPUB a.b 2\r\nhi\r\nHPUB c in.box 16 18\r\nNATS/1.0 503\r\n\r\nyo\r\nGET / HTTP/1.1\r\nPING\r\n";
        let mut seen = Vec::new();
        while !rest.is_empty() {
            buffer.fill(|free| io::Read::read(&mut rest, free)).unwrap();
            loop {
                match buffer.next_client_frame() {
                    Ok(Some(ClientFrame::Publish(m))) => seen.push((m.subject.to_vec(), m.reply.map(<[u8]>::to_vec), m.payload.to_vec())),
                    Ok(Some(ClientFrame::Other)) => seen.push(Default::default()),
                    Ok(None) => break,
                    Err(_) => {
                        seen.push((b"!".to_vec(), None, vec![]));
                        buffer.skip_line();
                    }
                }
            }
        }
        let message =
            |subject: &[u8], reply: Option<&[u8]>, payload: &[u8]| (subject.to_vec(), reply.map(<[u8]>::to_vec), payload.to_vec());
        let other = Default::default();
        let expected =
            [&other, &other, &message(b"a.b", None, b"hi"), &message(b"c", Some(b"in.box"), b"yo"), &message(b"!", None, b""), &other];
        assert_eq!(seen.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn headers_and_status() {
        let headers = b"NATS/1.0\r\nNats-Msg-Id: a:b \r\nX-Request-ID:c\r\n\r\n";
        let message = Message { subject: b"s", sid: 1, reply: None, headers, payload: b"" };
        assert_eq!(message.status(), None);
        assert_eq!(message.header("nats-msg-id"), Some(&b"a:b"[..]));
        assert_eq!(message.header("X-Request-ID"), Some(&b"c"[..]));
        assert_eq!(message.header("absent"), None);
    }

    #[test]
    fn what_is_not_nats_is_refused() {
        for bytes in ["HTTP/1.1 400 Bad Request\r\n", "MSG a\r\n", "MSG a 1 x\r\n", "HMSG a 1 20 10\r\n", "MSG a 1 99999999999\r\n"] {
            assert!(parse(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"MSG ", &bytes[..], b"\r\n"].concat());
            let _ = parse(&[b"HMSG ", &bytes[..], b"\r\n"].concat());
            let _ = parse_client(&bytes);
            let _ = parse_client(&[b"HPUB ", &bytes[..], b"\r\n"].concat());
        }
    }
}
