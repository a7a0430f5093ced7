//! Connections that can be cut before an answer leaves.
//!
//! An HTTP server always answers; a cloud at times does not. The handler pulls the cord of its connection, and
//! whatever it answers then is never written: the client sees the connection close.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// The cord of one connection.
#[derive(Clone, Debug, Default)]
pub struct Cord(Arc<AtomicBool>);

impl Cord {
    /// Lets nothing more be written.
    pub fn pull(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::SeqCst) { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl Connected<IncomingStream<'_, CordedListener>> for Cord {
    fn connect_info(stream: IncomingStream<'_, CordedListener>) -> Self {
        stream.io().cord.clone()
    }
}

/// A listener whose connections have cords.
#[derive(Debug)]
pub struct CordedListener(pub TcpListener);

impl Listener for CordedListener {
    type Io = Corded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Corded, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, addr)) => return (Corded { stream, cord: Cord::default() }, addr),
                // A client that is gone already, or no file descriptors for the moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection with a cord.
#[derive(Debug)]
pub struct Corded {
    stream: TcpStream,
    cord: Cord,
}

impl AsyncRead for Corded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Corded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.cord.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cord.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
