//! [`frames`]: a body that the test controls frame by frame.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

/// A body of unknown length, and its sender: the body ends when the sender is dropped.
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
    /// Panics if the body is no longer being read.
    pub fn data(&self, data: impl Into<Bytes>) {
        self.send(Ok(Frame::data(data.into())));
    }

    /// Any next frame, or an error.
    ///
    /// # Panics
    ///
    /// Panics if the body is no longer being read.
    pub fn send(&self, frame: Result<Frame<Bytes>, io::Error>) {
        self.0.send(frame).expect("the body is read");
    }

    /// Waits until the body is no longer being read.
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
