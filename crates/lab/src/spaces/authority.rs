//! A certificate authority of the lab's own, and the server's certificate by it.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::HOST;
use crate::home;

/// What the server shows, and how it proves it.
const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";

/// The server's side of TLS. The authority is made with the first certificate, its public part is written to `ca`,
/// and its key is forgotten: nobody can make another certificate by it.
///
/// # Errors
/// The files cannot be read or written.
pub(super) fn server(directory: &Path, ca: &Path, addresses: &[IpAddr]) -> Result<ServerConfig> {
    let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
    if !(ca.exists() && certificate.exists() && key.exists()) {
        let made = make(addresses).context("cannot make a certificate")?;
        home::write(&key, 0o600, made.key.as_bytes())?;
        home::write(&certificate, 0o644, made.certificate.as_bytes())?;
        home::write(ca, 0o644, made.ca.as_bytes())?;
    }
    let chain = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read {}", certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(&key).with_context(|| format!("cannot read {}", key.display()))?;
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
        .context("cannot set up TLS")
}

/// All of it as PEM.
struct Made {
    ca: String,
    certificate: String,
    key: String,
}

fn make(addresses: &[IpAddr]) -> Result<Made, rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "cluster lab");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let mut names = vec![HOST.to_owned(), format!("*.{HOST}")];
    names.extend(addresses.iter().map(IpAddr::to_string));
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, HOST);
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?;
    Ok(Made { ca: ca.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
}
