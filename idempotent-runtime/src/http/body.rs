//! Bodies, read to their end if possible, and handed back whole if not.

use std::{
    collections::VecDeque,
    mem::take,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

/// The data of a body. Nearly all have a single chunk, which needs no list.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    first: Bytes,
    more: Vec<Bytes>,
    length: usize,
}

impl Chunks {
    fn push(&mut self, chunk: Bytes) {
        self.length += chunk.len();
        if self.first.is_empty() {
            self.first = chunk;
        } else {
            self.more.push(chunk);
        }
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The chunks as one, copied only if there are several.
    pub(crate) fn into_bytes(self) -> Bytes {
        if self.more.is_empty() {
            return self.first;
        }
        let mut bytes = Vec::with_capacity(self.length);
        self.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        bytes.into()
    }
}

impl From<Bytes> for Chunks {
    fn from(bytes: Bytes) -> Self {
        Self { length: bytes.len(), first: bytes, more: Vec::new() }
    }
}

#[cfg(test)]
impl FromIterator<Bytes> for Chunks {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let mut all = Self::default();
        chunks.into_iter().for_each(|chunk| all.push(chunk));
        all
    }
}

/// Where reading a body stopped.
pub(crate) enum Read {
    /// At its end.
    Whole(Chunks),
    /// Before the end: at a frame that is not data or would exceed the limit, or because it took
    /// too long. Holds the rest.
    Cut(Chunks, Option<Frame<Bytes>>, Body),
    /// At an error. Holds the rest.
    Failed(Chunks, axum::Error, Body),
}

/// A body that is being read.
pub(crate) struct Reader {
    body: Body,
    chunks: Chunks,
    max_bytes: usize,
}

impl Reader {
    /// Reads the data of `body`, at most `max_bytes`.
    pub(crate) fn new(body: Body, max_bytes: usize) -> Self {
        Self { body, chunks: Chunks::default(), max_bytes }
    }

    /// The body, if none of it was read.
    pub(crate) fn into_body(self) -> Body {
        self.body
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        // Most bodies say with their last chunk that it is the last.
        while !self.body.is_end_stream() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose() {
                Ok(None) => break,
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(chunk) if chunk.len() <= self.max_bytes - self.chunks.len() => {
                        self.chunks.push(chunk);
                    }
                    Ok(chunk) => return Poll::Ready(self.cut(Some(Frame::data(chunk)))),
                    Err(frame) => return Poll::Ready(self.cut(Some(frame))),
                },
                Err(error) => {
                    let (chunks, rest) = self.take();
                    return Poll::Ready(Read::Failed(chunks, error, rest));
                }
            }
        }
        Poll::Ready(Read::Whole(take(&mut self.chunks)))
    }

    /// Stops reading before the end of the body.
    pub(crate) fn cut(&mut self, last: Option<Frame<Bytes>>) -> Read {
        let (chunks, rest) = self.take();
        Read::Cut(chunks, last, rest)
    }

    fn take(&mut self) -> (Chunks, Body) {
        (take(&mut self.chunks), take(&mut self.body))
    }
}

/// The body whose reading was cut short: what was read, then the rest.
pub(crate) fn resumed(
    chunks: Chunks,
    last: Option<Result<Frame<Bytes>, BoxError>>,
    rest: Body,
) -> Body {
    let chunks = std::iter::once(chunks.first).chain(chunks.more);
    let read = chunks.filter(|chunk| !chunk.is_empty()).map(|chunk| Ok(Frame::data(chunk)));
    Body::new(Resumed { frames: read.chain(last).collect(), rest })
}

/// A body some of whose frames have already been read.
struct Resumed {
    frames: VecDeque<Result<Frame<Bytes>, BoxError>>,
    rest: Body,
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
