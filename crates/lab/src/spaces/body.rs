//! Bodies on their way through faults.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// What is done to a body.
#[derive(Clone, Debug, Default)]
pub(super) struct Treatment {
    /// How fast it moves.
    pub(super) bytes_per_second: Option<u64>,
    /// After how many bytes the connection is reset, and what resets it.
    pub(super) reset: Option<(u64, CancellationToken)>,
}

/// A body under treatment. One that nobody wants to read to its end is still read: a client that is refused while it
/// sends is to see the answer, and not a broken connection.
pub(super) struct Treated {
    body: Body,
    treatment: Treatment,
    passed: u64,
    /// A frame that waits for its time.
    held: Option<(Frame<Bytes>, Pin<Box<Sleep>>)>,
    ended: bool,
}

impl Treated {
    pub(super) fn new(body: Body, treatment: Treatment) -> Self {
        Self { body, treatment, passed: 0, held: None, ended: false }
    }
}

impl HttpBody for Treated {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if let Some((_, pause)) = &mut this.held {
            ready!(pause.as_mut().poll(cx));
            return Poll::Ready(this.held.take().map(|(frame, _)| Ok(frame)));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let Some(Ok(frame)) = frame else {
            this.ended = true;
            return Poll::Ready(frame);
        };
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        this.passed += length;
        if let Some((after, cut)) = &this.treatment.reset
            && this.passed > *after
        {
            cut.cancel();
            this.ended = true;
            return Poll::Ready(Some(Err(axum::Error::new("the connection is reset, as ordered"))));
        }
        if let Some(rate) = this.treatment.bytes_per_second {
            let pause = Duration::from_secs_f64(length as f64 / rate.max(1) as f64);
            this.held = Some((frame, Box::pin(tokio::time::sleep(pause))));
            return Pin::new(this).poll_frame(cx);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Treated {
    fn drop(&mut self) {
        if self.ended || self.body.is_end_stream() {
            return;
        }
        let mut body = std::mem::take(&mut self.body);
        tokio::spawn(async move {
            while let Some(Ok(_)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
        });
    }
}
