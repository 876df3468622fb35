use crate::frame::{Frame, ReadBuffer};
use crate::options::{Auth, Error, Options, Server, TlsFiles};
use crate::stream::Stream;
use crate::tls::tls_config;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

/// What a server says of itself in `INFO`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// Unique id.
    pub server_id: String,
    /// Its name.
    pub server_name: String,
    /// nats-server version.
    pub version: String,
    /// Largest payload it takes, bytes.
    pub max_payload: usize,
    /// Whether it demands TLS.
    pub tls_required: bool,
    /// Whether JetStream is on.
    pub jetstream: bool,
    /// To be signed by nkey and JWT users.
    pub nonce: String,
    /// Name of the cluster, if it is in one.
    pub cluster: String,
    /// Other servers of the cluster.
    pub connect_urls: Vec<String>,
}

/// A connection past its handshake: confirmed by a `PONG` and switched to non-blocking.
pub struct Connected {
    /// The bytes.
    pub stream: Stream,
    /// The server's `INFO`.
    pub info: ServerInfo,
    /// What arrived behind the handshake.
    pub received: ReadBuffer,
    /// Which server it is.
    pub server: Server,
}

/// Connects to the first server of the list that takes us, starting at number `first`.
///
/// # Errors
/// That of the last server tried.
pub fn connect_any(options: &Options, first: usize) -> Result<Connected, Error> {
    let n = options.servers.len();
    let mut last = Error::BadUrl(String::new());
    for i in 0..n {
        match connect(&options.servers[(first + i) % n], options) {
            Ok(connected) => return Ok(connected),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Connects to one server: TCP, `INFO`, TLS if it is wanted, `CONNECT`, `PING`, `PONG`. Waits at most five seconds for each answer.
///
/// # Errors
/// [`Error`], naming the server.
pub fn connect(server: &Server, options: &Options) -> Result<Connected, Error> {
    let unreachable = |source| Error::Unreachable { server: server.clone(), source };
    let mut tcp = dial(server).map_err(unreachable)?;
    let mut buffer = ReadBuffer::with_capacity(256 * 1024);
    let info = read_info(server, &mut tcp, &mut buffer)?;
    let tls = if info.tls_required || server.tls || options.tls.required { Some(handshake(server, &options.tls, &mut tcp)?) } else { None };
    let auth = if let Auth::None = options.auth { &server.auth } else { &options.auth };
    let greeting = format!("CONNECT {}\r\nPING\r\n", connect_json(server, options, auth, &info, tls.is_some())?);
    let mut session = Session { tcp, tls };
    session.write_all(greeting.as_bytes()).map_err(unreachable)?;
    await_pong(server, &mut session, &mut buffer)?;
    session.tcp.set_nonblocking(true).map_err(unreachable)?;
    let stream = Stream { tcp: session.tcp, tls: session.tls.map(Mutex::new) };
    Ok(Connected { stream, info, received: buffer, server: server.clone() })
}

fn dial(server: &Server) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in (server.host.as_str(), server.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                tcp.set_read_timeout(Some(TIMEOUT))?;
                tcp.set_write_timeout(Some(TIMEOUT))?;
                return Ok(tcp);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn handshake_error(server: &Server, what: impl ToString) -> Error {
    Error::Handshake { server: server.clone(), what: what.to_string() }
}

fn fill(server: &Server, buffer: &mut ReadBuffer, from: &mut impl Read) -> Result<(), Error> {
    match buffer.fill(|free| from.read(free)) {
        Ok(0) => Err(handshake_error(server, "it closed the connection")),
        Ok(_) => Ok(()),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(handshake_error(server, format!("silent for {} s", TIMEOUT.as_secs())))
        }
        Err(e) => Err(handshake_error(server, e)),
    }
}

fn read_info(server: &Server, tcp: &mut TcpStream, buffer: &mut ReadBuffer) -> Result<ServerInfo, Error> {
    loop {
        match buffer.next_frame().map_err(|e| handshake_error(server, e))? {
            Some(Frame::Info(json)) => return serde_json::from_slice(json).map_err(|e| handshake_error(server, e)),
            Some(Frame::Err(what)) => return Err(Error::Refused { server: server.clone(), what: what.into() }),
            Some(_) => return Err(handshake_error(server, "its first line is not INFO")),
            None => fill(server, buffer, tcp)?,
        }
    }
}

/// Two `INFO`s in a row happen; only `PONG` ends the handshake.
fn await_pong(server: &Server, session: &mut Session, buffer: &mut ReadBuffer) -> Result<(), Error> {
    loop {
        match buffer.next_frame().map_err(|e| handshake_error(server, e))? {
            Some(Frame::Pong) => return Ok(()),
            Some(Frame::Err(what)) => return Err(Error::Refused { server: server.clone(), what: what.into() }),
            Some(_) => {}
            None => fill(server, buffer, session)?,
        }
    }
}

/// The blocking stream of the handshake.
struct Session {
    tcp: TcpStream,
    tls: Option<ClientConnection>,
}

impl Read for Session {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.tcp).read(out),
            None => self.tcp.read(out),
        }
    }
}

impl Session {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => {
                let mut stream = rustls::Stream::new(tls, &mut self.tcp);
                stream.write_all(bytes)?;
                stream.flush()
            }
            None => self.tcp.write_all(bytes),
        }
    }
}

fn handshake(server: &Server, files: &TlsFiles, tcp: &mut TcpStream) -> Result<ClientConnection, Error> {
    let failed = |what: String| Error::Tls { server: server.clone(), what };
    let config = tls_config(files)?;
    let name = ServerName::try_from(server.host.clone()).map_err(|e| failed(e.to_string()))?;
    let mut tls = ClientConnection::new(Arc::new(config), name).map_err(|e| failed(e.to_string()))?;
    while tls.is_handshaking() {
        tls.complete_io(tcp).map_err(|e| failed(e.to_string()))?;
    }
    Ok(tls)
}

/// The JSON of `CONNECT`. Nonces are signed with Ed25519 and sent as unpadded URL-safe base64.
fn connect_json(server: &Server, options: &Options, auth: &Auth, info: &ServerInfo, tls: bool) -> Result<serde_json::Value, Error> {
    let mut json = serde_json::json!({
        "verbose": false, "pedantic": false, "tls_required": tls, "name": options.name, "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"), "protocol": 1, "echo": true, "headers": true, "no_responders": true,
    });
    let refused = |what: String| Error::Refused { server: server.clone(), what };
    let sign = |seed: &str| {
        let pair = KeyPair::from_seed(seed).map_err(|e| refused(format!("the nkey seed is not valid ({e})")))?;
        let signature = pair.sign(info.nonce.as_bytes()).map_err(|e| refused(format!("cannot sign the nonce ({e})")))?;
        Ok::<_, Error>((pair.public_key(), URL_SAFE_NO_PAD.encode(signature)))
    };
    match auth {
        Auth::None => {}
        Auth::Token(token) => json["auth_token"] = token.as_str().into(),
        Auth::UserPassword(user, password) => {
            json["user"] = user.as_str().into();
            json["pass"] = password.as_str().into();
        }
        Auth::NKey(seed) => {
            let (public, signature) = sign(seed)?;
            json["nkey"] = public.into();
            json["sig"] = signature.into();
        }
        Auth::Jwt { jwt, seed } => {
            json["jwt"] = jwt.as_str().into();
            json["sig"] = sign(seed)?.1.into();
        }
    }
    Ok(json)
}
