//! Proves that a cluster takes writes: logs in from here as an application would, and writes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;

use crate::error::Advice;

/// The result of a test write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The node that accepted the write, by its `cluster_name`.
    pub node: String,
    /// This machine's address, as PostgreSQL saw it.
    pub client: Option<String>,
}

/// Writes one row through `address` as the role `cluster`, trying for `patience`: an address that was just moved
/// needs a moment.
///
/// # Errors
/// The last attempt's. If `pg_hba.conf` refuses, it names the address that PostgreSQL saw.
pub async fn write_through(
    address: &str,
    port: u16,
    password: &SecretString,
    patience: Duration,
) -> Result<Written> {
    let begun = Instant::now();
    loop {
        match write_once(address, port, password).await {
            Ok(written) => return Ok(written),
            Err(error) if begun.elapsed() > patience || error.downcast_ref::<Advice>().is_some() => {
                return Err(error);
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

async fn write_once(address: &str, port: u16, password: &SecretString) -> Result<Written> {
    let mut config = login(&[address.to_owned()], port, password);
    config.application_name("cluster up").connect_timeout(Duration::from_secs(3));
    let connect = config.connect(tokio_postgres_rustls::MakeRustlsConnect::new(encrypt_only()));
    let limit = Duration::from_secs(8);
    let (client, connection) =
        match tokio::time::timeout(limit, connect).await.context("no answer in time")? {
            Ok(connected) => connected,
            Err(error) => return Err(explain(error)),
        };
    let driver = tokio::spawn(connection);
    let work = async {
        client
            .batch_execute(
                "create table if not exists probe (id int primary key, written_at timestamptz not null);
                 insert into probe values (1, now()) on conflict (id) do update set written_at = excluded.written_at",
            )
            .await?;
        client.query_one("select current_setting('cluster_name'), host(inet_client_addr())", &[]).await
    };
    let row = tokio::time::timeout(limit, work).await.context("no answer in time")?.map_err(explain)?;
    driver.abort();
    Ok(Written { node: row.get(0), client: row.get(1) })
}

/// Connection settings for the role `cluster`, for one host or several.
pub(crate) fn login(hosts: &[String], port: u16, password: &SecretString) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    // An address for each host, or for none.
    let addresses: Result<Vec<IpAddr>, _> = hosts.iter().map(|host| host.parse()).collect();
    for address in addresses.into_iter().flatten() {
        config.hostaddr(address);
    }
    for host in hosts {
        config.host(host);
    }
    config
        .port(port)
        .user("cluster")
        .dbname("cluster")
        .password(password.expose_secret())
        .ssl_mode(SslMode::Require);
    config
}

/// PostgreSQL's message, with a hint for common errors.
fn explain(error: tokio_postgres::Error) -> anyhow::Error {
    let Some(db) = error.as_db_error() else { return anyhow::Error::new(error) };
    let message = format!("PostgreSQL: {}", db.message());
    if *db.code() == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        return Advice::failed(message)
            .hint("PostgreSQL sees this machine at that address: add it to `clients` in the inventory")
            .into();
    }
    anyhow::anyhow!(message)
}

/// TLS that encrypts and authenticates nobody, which is what `sslmode=require` means. Channel binding, which would
/// prove who answers, cannot be had here: tokio-postgres-rustls 0.13 reads the certificate wrongly and supplies no hash
/// of it.
pub(crate) fn encrypt_only() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth()
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
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
