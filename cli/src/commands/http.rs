//! From the HTTP flags to options.

use super::nats;
use crate::args::{Http, Nats};
use crate::failure::{Result, usage};
use replay::{HttpOptions, Plan, Transport, without_users};
use std::time::Duration;

/// How requests reach their servers. Secrets come from variables and files.
pub fn options(args: &Http, nats: &Nats) -> Result<HttpOptions> {
    let mut headers = args.header.clone();
    if let Some(source) = &args.bearer {
        headers.push(("Authorization".into(), format!("Bearer {}", secret(source)?)));
    }
    Ok(HttpOptions {
        base_url: args.base_url.clone(),
        max_connections: args.max_connections,
        connect_timeout: Duration::from_nanos(args.connect_timeout as u64),
        first_byte_timeout: args.first_byte_timeout.map(|ns| Duration::from_nanos(ns.max(1) as u64)),
        headers,
        resolve: args.resolve.clone(),
        tls: nats::tls_files(nats),
        insecure: args.insecure,
        http2: args.http2,
        cookies: args.cookies,
    })
}

/// `env:NAME` or `file:PATH`.
fn secret(source: &str) -> Result<String> {
    let failed = |what: String| usage(format!("--bearer: {what}"));
    let text = match source.split_once(':') {
        Some(("env", name)) => std::env::var(name).map_err(|_| failed(format!("the variable {name} is not set")))?,
        Some(("file", path)) => std::fs::read_to_string(path).map_err(|e| failed(format!("cannot read {path}: {e}")))?,
        _ => return Err(failed(format!("`{source}` is neither env:NAME nor file:PATH"))),
    };
    Ok(text.trim().to_owned())
}

/// Asks before load goes to another machine: over NATS to the server of the flags, over HTTP to those of the schedule.
pub fn confirm(nats: &Nats, options: &wire::Options, http: &HttpOptions, plan: &Plan) -> Result<()> {
    if plan.transport == Transport::Nats {
        return nats::confirm_target(nats, options);
    }
    let servers = http.base_url.iter().chain(plan.servers.iter().filter(|_| http.base_url.is_none()));
    let mut named = servers.filter(|url| !url.is_empty());
    let remote = named.find(|url| !http.host(url).is_some_and(|host| nats::is_local(&host)));
    remote.map_or(Ok(()), |remote| nats::confirm_remote(nats, &without_users(remote)))
}
