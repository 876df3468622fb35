//! Everything that is not hot goes through async-nats: the same server, the same credentials.

use wire::{Auth, Options};

/// Connects async-nats as the hot path connects.
///
/// # Errors
/// The sentence of the client library.
pub async fn connect(options: &Options) -> Result<async_nats::Client, String> {
    let from_url = options.servers.first().map_or(&Auth::None, |s| &s.auth);
    let auth = if let Auth::None = options.auth { from_url } else { &options.auth };
    let base = async_nats::ConnectOptions::new().name(&options.name).connection_timeout(std::time::Duration::from_secs(5));
    let mut connect = match auth.clone() {
        Auth::None => base,
        Auth::Token(token) => base.token(token),
        Auth::UserPassword(user, password) => base.user_and_password(user, password),
        Auth::NKey(seed) => base.nkey(seed),
        Auth::Jwt { jwt, seed } => {
            let creds = format!(
                "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
            );
            base.credentials(&creds).map_err(|e| e.to_string())?
        }
    };
    if let Some(ca) = &options.tls.ca {
        connect = connect.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&options.tls.cert, &options.tls.key) {
        connect = connect.add_client_certificate(cert.clone(), key.clone());
    }
    let tls = options.tls.required || options.servers.iter().any(|s| s.tls);
    let servers: Vec<String> = options.servers.iter().map(|s| format!("{}://{s}", if tls { "tls" } else { "nats" })).collect();
    connect.require_tls(tls).connect(servers).await.map_err(|e| e.to_string())
}
