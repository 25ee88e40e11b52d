//! [`RunBoundaryFuture`]: everything inside a boundary, in progress.

use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tracing::Span;

use super::{
    passing::{Passing, passed},
    slot::{Left, Slot},
};
use crate::{
    http::{keep::take_over, stored},
    store::BoxFuture,
};

/// The response of a service inside a [`RunBoundary`](super::RunBoundary).
///
/// If it is dropped while a run is in progress, the work continues in its own task; otherwise it is
/// cancelled, as it would be without the boundary.
pub struct RunBoundaryFuture<E: Send + 'static> {
    /// `None` once it has finished, and while it is polled.
    work: Option<BoxFuture<'static, Result<Response, E>>>,
    /// `None` inside another boundary, which owns the run.
    slot: Option<Slot>,
    /// Where to continue: the drop may happen outside any runtime and any span.
    place: Option<(Handle, Span)>,
}

/// Closes the slot at the end in any case, since a copy of the request may keep it alive.
struct Closing(Slot);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<E: Send + 'static> RunBoundaryFuture<E> {
    pub(super) fn inside_another<B>(
        inner: impl Future<Output = Result<http::Response<B>, E>> + Send + 'static,
    ) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let work = Box::pin(async move { Ok(inner.await?.map(Body::new)) });
        Self { work: Some(work), slot: None, place: None }
    }

    pub(super) fn around<B>(
        inner: impl Future<Output = Result<http::Response<B>, E>> + Send + 'static,
        slot: Slot,
    ) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let closing = Closing(slot.clone());
        let work = Box::pin(async move {
            // By the time this resolves, everything inside has been dropped. Only then is it known
            // whether the handler has finished.
            let passing = AssertUnwindSafe(inner).catch_unwind().await;
            let passing = passing.map(|passing| passing.map(|response| response.map(Body::new)));
            match closing.0.pass() {
                Left::Nothing => passed(passing),
                Left::Replay(answer) => replay(answer, passing),
                Left::Run(run) => run.settle(passing).await,
            }
        });
        Self { work: Some(work), slot: Some(slot), place: None }
    }
}

/// The replay of `answer`. Whatever the inner layers made of their copy is dropped, except for what
/// belongs to this request.
fn replay<E>(answer: Bytes, passing: Passing<E>) -> Result<Response, E> {
    // If it is damaged, the layers have already seen the problem that says so.
    let Some(stored) = stored::decode(answer) else { return passed(passing) };
    let mut replay = stored::replay(stored);
    if let Ok(Ok(copy)) = passing {
        take_over(copy.headers(), &mut replay);
    }
    Ok(replay)
}

fn here() -> Option<(Handle, Span)> {
    Some((Handle::try_current().ok()?, Span::current()))
}

impl<E: Send + 'static> Future for RunBoundaryFuture<E> {
    type Output = Result<Response, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut work = self.work.take().expect("the future was polled after completion");
        let poll = work.as_mut().poll(cx);
        if poll.is_pending() {
            if self.place.is_none() {
                self.place = here();
            }
            self.work = Some(work);
        }
        poll
    }
}

impl<E: Send + 'static> Drop for RunBoundaryFuture<E> {
    fn drop(&mut self) {
        let (Some(work), Some(slot)) = (self.work.take(), &self.slot) else { return };
        let Some(held) = slot.leave() else { return };
        if let Some((runtime, span)) = self.place.take().or_else(here) {
            let rest = Box::pin(async move {
                let _ = work.await;
            });
            held.go_on(rest, runtime, span);
        }
    }
}

impl<E: Send + 'static> fmt::Debug for RunBoundaryFuture<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunBoundaryFuture").finish_non_exhaustive()
    }
}
