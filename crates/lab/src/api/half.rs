//! Answers that break off.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_LENGTH;
use axum::response::Response;
use http_body::Frame;
use tokio::time::{Sleep, sleep};

/// The first half of a body, after which the connection closes.
struct Half {
    bytes: Option<Bytes>,
    /// The half is on its way before the connection closes.
    pause: Pin<Box<Sleep>>,
}

impl HttpBody for Half {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        ready!(self.pause.as_mut().poll(cx));
        Poll::Ready(Some(Err(axum::Error::new("the answer breaks off, as ordered"))))
    }
}

/// The same answer, announced in its whole length and sent up to its middle; `None` if it has no body.
pub(super) async fn half(response: Response) -> Option<Response> {
    let (mut parts, body) = response.into_parts();
    let whole = to_bytes(body, usize::MAX).await.ok().filter(|whole| !whole.is_empty())?;
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let bytes = Some(whole.slice(..whole.len() / 2));
    let pause = Box::pin(sleep(Duration::from_millis(20)));
    Some(Response::from_parts(parts, Body::new(Half { bytes, pause })))
}
