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
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::error::SqlState;

use crate::error::Advice;
use crate::inventory::Inventory;
use crate::remote::Command;
use crate::script;

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

/// What is written.
const WRITE: &str = "\
    create table if not exists probe (id int primary key, written_at timestamptz not null);
    insert into probe values (1, now()) on conflict (id) do update set written_at = excluded.written_at;";

/// Writes the same row on a host itself, which prints its `cluster_name`: for one that this machine does not reach by
/// itself. No login is tried.
pub fn write_on_host(inventory: &Inventory) -> Command {
    let sql = format!("set role cluster;\n{WRITE}\nselect current_setting('cluster_name');");
    script::psql(inventory, "write", "cluster", sql)
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
        client.batch_execute(WRITE).await?;
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
        .ssl_mode(SslMode::Require)
        .channel_binding(ChannelBinding::Require);
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

/// TLS that encrypts and authenticates nobody, which is what `sslmode=require` means. Who answers is proved by the channel
/// binding of [`login`]: whoever does not know the password's verifier is told nothing of it.
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

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server with a certificate of its own that asks for a password in some way; what it is sent after that.
    async fn sent_to_a_stranger(request: &'static [u8]) -> (Vec<u8>, anyhow::Error) {
        let own = rcgen::generate_simple_self_signed(["pg1".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![own.cert.der().clone()],
                PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into()),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stranger = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 8]).await.unwrap();
            stream.write_all(b"S").await.unwrap();
            let mut stream = TlsAcceptor::from(Arc::new(tls)).accept(stream).await.unwrap();
            let length = stream.read_u32().await.unwrap();
            stream.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
            stream.write_all(request).await.unwrap();
            let mut sent = Vec::new();
            let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut sent)).await;
            // It may have closed without a goodbye.
            drop(end.expect("the client hangs up"));
            sent
        });
        let password = SecretString::from("open sesame");
        let error = write_once("127.0.0.1", port, &password).await.unwrap_err();
        (stranger.await.unwrap(), error)
    }

    #[tokio::test]
    async fn nobody_in_between_is_told_the_password() {
        // In clear, salted with MD5, and by SCRAM without the channel.
        for request in [
            &b"R\0\0\0\x08\0\0\0\x03"[..],
            b"R\0\0\0\x0c\0\0\0\x05salt",
            b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0",
        ] {
            let (sent, error) = sent_to_a_stranger(request).await;
            assert!(format!("{error:#}").contains("channel binding"), "{error:#}");
            assert!(sent.is_empty() || sent == b"X\0\0\0\x04", "{sent:?}");
        }
    }
}
