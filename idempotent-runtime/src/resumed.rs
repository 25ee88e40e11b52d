//! [`Resumed`]: a body given back after a part of it was read.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// A body of which some frames were read already.
pub(crate) struct Resumed {
    frames: VecDeque<Result<Frame<Bytes>, BoxError>>,
    rest: Body,
}

impl Resumed {
    pub(crate) fn new(
        frames: impl IntoIterator<Item = Result<Frame<Bytes>, BoxError>>,
        rest: Body,
    ) -> Self {
        Self { frames: frames.into_iter().collect(), rest }
    }
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(cx).map_err(axum::Error::into_inner),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read: usize = self
            .frames
            .iter()
            .filter_map(|frame| frame.as_ref().ok()?.data_ref().map(Bytes::len))
            .sum();
        let mut hint = self.rest.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + read as u64);
        }
        hint.set_lower(hint.lower() + read as u64);
        hint
    }
}
