//! Whoever is in between and answers in a server's place, TLS and all, is not told a password.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cluster::connect::format::conninfo;
use cluster::connect::{Connection, Password, Server};
use cluster_contract::config::Config;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const PASSWORD: &str = "not-for-you";
/// A certificate of nobody's, with its key.
const CERTIFICATE: &[u8] = include_bytes!("data/fixtures/somebody-else.pem");

/// What a client told a server that asks for the password in clear.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Password(String),
    /// It ended the conversation.
    Nothing,
}

/// A server of somebody else's, for one connection. Returns its port, and what it will have been told.
fn server() -> (u16, std::thread::JoinHandle<Told>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()],
            PrivateKeyDer::from_pem_slice(CERTIFICATE).unwrap(),
        )
        .unwrap();
    let served = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        serve(stream, Arc::new(config)).unwrap_or(Told::Nothing)
    });
    (port, served)
}

fn serve(mut stream: TcpStream, config: Arc<rustls::ServerConfig>) -> std::io::Result<Told> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = message(&mut stream)?;
    // The number of a request for TLS.
    assert_eq!(request, 80_877_103_u32.to_be_bytes(), "the client wants to speak in clear");
    stream.write_all(b"S")?;
    let tls = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(tls, stream);
    message(&mut stream)?;
    // AuthenticationCleartextPassword
    stream.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3])?;
    stream.flush()?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    assert_eq!(kind, *b"p");
    let password = message(&mut stream)?;
    Ok(Told::Password(String::from_utf8_lossy(&password).trim_end_matches('\0').to_owned()))
}

/// A message behind its length.
fn message(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// What psql tells such a server when it is started with this conninfo.
fn psql_tells(conninfo: impl FnOnce(u16) -> String) -> (Told, String) {
    let (port, served) = server();
    let output = Command::new("psql")
        .args(["-XAtqw", "-c", "select 1", "-d", &conninfo(port)])
        .env("PGPASSWORD", PASSWORD)
        .output()
        .expect("psql is needed: install postgresql-client");
    assert!(!output.status.success());
    (served.join().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn nodes(version: u32) -> impl FnOnce(u16) -> String {
    move |port| {
        let text = Config::conninfo(IpAddr::V4(Ipv4Addr::LOCALHOST), port, version);
        // Its password file is on the nodes.
        text.split(' ').filter(|word| !word.starts_with("passfile=")).collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn the_nodes_tell_it_nothing() {
    // Without channel binding it is told: the test can fail.
    assert_eq!(psql_tells(nodes(12)).0, Told::Password(PASSWORD.into()));
    let (told, said) = psql_tells(nodes(13));
    assert_eq!(told, Told::Nothing);
    assert!(said.contains("channel binding"), "{said}");
}

#[test]
fn applications_tell_it_nothing() {
    let (told, said) = psql_tells(|port| {
        let server = Server { host: "127.0.0.1".into(), node: None };
        let connection = Connection {
            cluster: "demo".into(),
            version: 15,
            user: "app".into(),
            database: "app".into(),
            port,
            write: vec![server.clone()],
            read: vec![server.clone()],
            password: Password::Plain(PASSWORD.into()),
        };
        conninfo(&connection, &[server], true)
    });
    assert_eq!(told, Told::Nothing);
    assert!(said.contains("channel binding"), "{said}");
}
