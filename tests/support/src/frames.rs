//! [`frames`]: a body of which the test decides frame by frame.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

/// A body of unknown length, and what feeds it: it ends when its sender is dropped.
pub fn frames() -> (FrameSender, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (FrameSender(sender), Body::new(Frames(receiver)))
}

/// Feeds a body.
#[derive(Debug)]
pub struct FrameSender(mpsc::UnboundedSender<Result<Frame<Bytes>, io::Error>>);

impl FrameSender {
    /// The next bytes of the body.
    ///
    /// # Panics
    ///
    /// Where nobody reads the body any more.
    pub fn data(&self, data: impl Into<Bytes>) {
        self.send(Ok(Frame::data(data.into())));
    }

    /// Any next frame, or an error.
    ///
    /// # Panics
    ///
    /// Where nobody reads the body any more.
    pub fn send(&self, frame: Result<Frame<Bytes>, io::Error>) {
        self.0.send(frame).expect("the body is read");
    }

    /// Waits until nobody reads the body any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

struct Frames(mpsc::UnboundedReceiver<Result<Frame<Bytes>, io::Error>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx)
    }
}
