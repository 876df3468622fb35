use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How to reach and convince a server.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Tried in order.
    pub servers: Vec<Server>,
    /// Who we are.
    pub auth: Auth,
    /// Certificates.
    pub tls: TlsFiles,
    /// Connection name shown by the server's monitoring.
    pub name: String,
}

/// Certificates for TLS; PEM files.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate chain …
    pub cert: Option<PathBuf>,
    /// … and its key.
    pub key: Option<PathBuf>,
    /// Ask for TLS even if the server does not require it.
    pub required: bool,
}

/// Credentials. `Debug` does not show them.
#[derive(Clone, Default)]
pub enum Auth {
    /// None, or those in the URL.
    #[default]
    None,
    /// A token.
    Token(String),
    /// User and password.
    UserPassword(String, String),
    /// An nkey seed (`SU…`).
    NKey(String),
    /// A user JWT with the seed that signs the nonce.
    Jwt {
        /// The user JWT.
        jwt: String,
        /// Its seed.
        seed: String,
    },
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Auth::None => "none",
            Auth::Token(_) => "token",
            Auth::UserPassword(..) => "user and password",
            Auth::NKey(_) => "nkey",
            Auth::Jwt { .. } => "creds",
        })
    }
}

impl Auth {
    /// Reads a `.creds` file: a user JWT and an nkey seed between their marker lines.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub fn from_creds_file(path: &Path) -> Result<Auth, Error> {
        let text = read(path)?;
        let section = |kind: &str| {
            let begin = text.find(&format!("-----BEGIN {kind}-----"))?;
            text[begin..].lines().nth(1).map(|line| line.trim().to_owned())
        };
        match (section("NATS USER JWT"), section("USER NKEY SEED")) {
            (Some(jwt), Some(seed)) => Ok(Auth::Jwt { jwt, seed }),
            _ => Err(Error::Credentials {
                path: path.to_owned(),
                what: "has no user JWT with an nkey seed; it should be a .creds file".into(),
            }),
        }
    }

    /// Reads an nkey seed file.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub fn from_nkey_file(path: &Path) -> Result<Auth, Error> {
        let text = read(path)?;
        let seed = text.lines().map(str::trim).find(|line| line.starts_with('S'));
        seed.map(|seed| Auth::NKey(seed.to_owned()))
            .ok_or_else(|| Error::Credentials { path: path.to_owned(), what: "holds no nkey seed (a line that begins with SU)".into() })
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|e| Error::Credentials { path: path.to_owned(), what: format!("cannot be read: {e}") })
}

/// A server address, `nats://[user:password@|token@]host[:port]` or `tls://…`; the scheme and the port may be left out.
///
/// ```
/// let server: wire::Server = "nats://u:p@10.0.0.1".parse().unwrap();
/// assert_eq!((server.host.as_str(), server.port, server.tls), ("10.0.0.1", 4222, false));
/// assert_eq!(server.to_string(), "10.0.0.1:4222");
/// assert!("http://x".parse::<wire::Server>().is_err());
/// ```
#[derive(Clone)]
pub struct Server {
    /// Name or address.
    pub host: String,
    /// Port, 4222 by default.
    pub port: u16,
    /// Scheme `tls://`.
    pub tls: bool,
    /// What stood before the `@`.
    pub auth: Auth,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Server {
    type Err = Error;

    fn from_str(text: &str) -> Result<Server, Error> {
        let bad = || Error::BadUrl(text.rsplit('@').next().unwrap_or("").to_owned());
        let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
        let tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(bad()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (auth, address) = match rest.rsplit_once('@') {
            None => (Auth::None, rest),
            Some((auth, address)) => match auth.split_once(':') {
                Some((user, password)) => (Auth::UserPassword(user.into(), password.into()), address),
                None => (Auth::Token(auth.into()), address),
            },
        };
        let (host, port) = match address.strip_prefix('[').and_then(|a| a.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => address.rsplit_once(':').map_or((address, None), |(h, p)| (h, Some(p))),
        };
        let port = port.map_or(Ok(4222), str::parse).map_err(|_| bad())?;
        if host.is_empty() || host.contains(['/', ' ']) {
            return Err(bad());
        }
        Ok(Server { host: host.to_owned(), port, tls, auth })
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an address.
    #[error("`{0}` is not a NATS address; write nats://host:4222 or tls://host:4222")]
    BadUrl(String),
    /// Nobody listens, or the name does not resolve.
    #[error("cannot reach a NATS server at {server}: {source}; start one, or name another with -s")]
    Unreachable {
        /// Where.
        server: Server,
        /// Why.
        source: std::io::Error,
    },
    /// It listens but does not talk NATS as expected.
    #[error("{server} does not answer as a NATS server: {what}")]
    Handshake {
        /// Where.
        server: Server,
        /// What it did.
        what: String,
    },
    /// The server said no.
    #[error("{server} refused the connection: {what}; check the credentials")]
    Refused {
        /// Where.
        server: Server,
        /// The server's words.
        what: String,
    },
    /// TLS failed.
    #[error("TLS with {server} failed: {what}; check --tls-ca, --tls-cert and --tls-key")]
    Tls {
        /// Where.
        server: Server,
        /// Why.
        what: String,
    },
    /// A credentials or certificate file is of no use.
    #[error("{path} {what}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}
