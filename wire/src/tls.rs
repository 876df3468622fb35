use crate::options::{Error, TlsFiles};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// The configuration of a TLS client that trusts what the files say, or what the system trusts.
///
/// # Errors
/// [`Error::Credentials`]: which file cannot be used, and why.
pub fn tls_config(files: &TlsFiles) -> Result<ClientConfig, Error> {
    let credentials = |path: &Path, what: String| Error::Credentials { path: path.to_owned(), what };
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            for cert in certificates(path)? {
                roots.add(cert).map_err(|e| credentials(path, e.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots);
    match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| credentials(key, format!("holds no private key in PEM ({e})")))?;
            builder.with_client_auth_cert(chain, key_der).map_err(|e| credentials(key, format!("does not fit {}: {e}", cert.display())))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(path), None) | (None, Some(path)) => Err(credentials(path, "is given alone; --tls-cert and --tls-key go together".into())),
    }
}

/// As [`tls_config`], for a server whose certificate nobody vouches for: any will do.
///
/// # Errors
/// As [`tls_config`].
pub fn tls_config_trusting_all(files: &TlsFiles) -> Result<ClientConfig, Error> {
    let mut config = tls_config(files)?;
    let provider = config.crypto_provider().clone();
    config.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(provider)));
    Ok(config)
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let bad = |what: String| Error::Credentials { path: path.to_owned(), what };
    let chain = read().map_err(|e| bad(format!("cannot be read as PEM certificates: {e}")))?;
    if chain.is_empty() { Err(bad("holds no PEM certificate".into())) } else { Ok(chain) }
}
