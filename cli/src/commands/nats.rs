//! From the server flags to connection options.

use crate::args::Nats;
use crate::failure::{Result, usage};
use crate::output;
use std::io::Write;
use wire::{Auth, Options, Server, TlsFiles};

/// Connection options for `name`.
pub fn options(args: &Nats, name: &str) -> Result<Options> {
    let given = [args.creds.is_some(), args.nkey.is_some(), args.user.is_some(), args.token.is_some()];
    if given.iter().filter(|g| **g).count() > 1 {
        return Err(usage("more than one of --creds, --nkey, --user and --token is given (or set by NATS_…); choose one"));
    }
    let auth = match (&args.creds, &args.nkey, &args.user, &args.token) {
        (Some(file), ..) => Auth::from_creds_file(file)?,
        (_, Some(file), ..) => Auth::from_nkey_file(file)?,
        (.., Some(user), _) => Auth::UserPassword(user.clone(), args.password.clone().unwrap_or_default()),
        (.., Some(token)) => Auth::Token(token.clone()),
        _ => Auth::None,
    };
    let servers = args.server.iter().map(|s| s.trim().parse::<Server>()).collect::<std::result::Result<_, _>>()?;
    Ok(Options { servers, auth, tls: tls_files(args), name: name.into() })
}

/// Files for TLS, as typed.
pub fn tls_files(args: &Nats) -> TlsFiles {
    TlsFiles { ca: args.tls_ca.clone(), cert: args.tls_cert.clone(), key: args.tls_key.clone(), required: args.tls }
}

/// Load goes to this machine, or where a person says so.
pub fn confirm_target(args: &Nats, options: &Options) -> Result<()> {
    let remote = options.servers.iter().find(|s| !is_local(&s.host));
    remote.map_or(Ok(()), |remote| confirm_remote(args, remote))
}

/// Whether a host is this machine.
pub fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Asks whether load may go there.
pub fn confirm_remote(args: &Nats, remote: &dyn std::fmt::Display) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    if output::is_terminal() {
        eprint!("{remote} is not this machine. Send load to it? [y/N] ");
        // A prompt that cannot be shown is answered with no.
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        if std::io::stdin().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y") {
            return Ok(());
        }
    }
    Err(usage(format!("{remote} is not this machine; add --yes to send load to it")))
}
