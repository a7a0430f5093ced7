//! Connections over TLS that can be reset, and a listener that can be away.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::api::spaces_fault::Away;

/// How often the listener looks whether it is to be away.
const LOOK: Duration = Duration::from_millis(20);

/// How long a client may take to shake hands.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that have shaken hands.
pub(super) struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<Connection>,
}

impl TlsListener {
    /// Listens until `stop`, which also ends the connections, unless `away` says otherwise.
    pub(super) fn new(
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        away: impl Fn() -> Option<Away> + Send + 'static,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(16);
        tokio::spawn(accept(listener, address, TlsAcceptor::from(tls), away, stop, sender));
        Ok(Self { address, ready })
    }
}

async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    away: impl Fn() -> Option<Away>,
    stop: CancellationToken,
    ready: mpsc::Sender<Connection>,
) {
    let mut listener = Some(listener);
    // Resets what is connected; a new one when the server is back.
    let mut here = stop.child_token();
    while !stop.is_cancelled() {
        let now = away();
        if now.is_some() {
            here.cancel();
        } else if here.is_cancelled() {
            here = stop.child_token();
        }
        match (&listener, now) {
            // With nobody listening the kernel refuses.
            (_, Some(Away::Refused)) => {
                listener = None;
                tokio::time::sleep(LOOK).await;
            }
            (None, _) => match TcpListener::bind(address).await {
                Ok(bound) => listener = Some(bound),
                Err(_) => tokio::time::sleep(LOOK).await,
            },
            (Some(bound), _) => tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
                accepted = bound.accept() => match accepted {
                    Ok((stream, _)) if now == Some(Away::Reset) => drop(stream.set_zero_linger()),
                    Ok((stream, _)) => {
                        tokio::spawn(shake(stream, acceptor.clone(), here.child_token(), ready.clone()));
                    }
                    // A client that is gone already, or no file descriptors for the moment.
                    Err(_) => tokio::time::sleep(LOOK).await,
                },
            },
        }
    }
}

async fn shake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    cut: CancellationToken,
    ready: mpsc::Sender<Connection>,
) {
    // Answers are written in several pieces. Without it they would only be slower.
    let _ = stream.set_nodelay(true);
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(PATIENCE, acceptor.accept(stream)) => shaken,
        () = cut.cancelled() => return,
    };
    // One who does not trust the certificate, or does not speak TLS, is no connection; nor is one after the end.
    if let Ok(Ok(stream)) = shaken {
        let waiting = Box::pin(cut.clone().cancelled_owned());
        let _ = ready.send(Connection { stream, cut, waiting }).await;
    }
}

impl Listener for TlsListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => (connection, self.address),
            // It has been stopped, and so will be the one who asks.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection that can be reset.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    cut: CancellationToken,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    /// Fails, and sees to it that the other side sees a reset, once the connection is cut.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.waiting.as_mut().poll(cx).is_pending() {
            return Ok(());
        }
        self.stream.get_ref().0.set_zero_linger()?;
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

/// What resets a connection.
#[derive(Clone, Debug)]
pub(super) struct Cut(pub(super) CancellationToken);

impl Connected<IncomingStream<'_, TlsListener>> for Cut {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Cut(stream.io().cut.clone())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
