//! [`HandOver`]: work that outlives its caller.
//!
//! Work that has begun must not be cancelled by a disconnect: its effect would be there without a
//! stored response. A task for each request would guarantee that at a price. Instead the caller's
//! own task drives the work, and only if the caller goes away is the rest handed over to a task.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tracing::{Instrument as _, Span};

use super::in_flight::RunGuard;
use crate::store::BoxFuture;

/// A future that runs to its end even if it is dropped earlier.
pub(crate) struct HandOver<T: Send + 'static> {
    /// `None` once it has finished, and while it is polled: after a panic there is nothing to
    /// continue.
    work: Option<BoxFuture<'static, T>>,
    /// Where to continue. Recorded when the work first has to wait: the drop may happen outside any
    /// runtime and any span, and most work never waits.
    place: Option<(Handle, Span)>,
    /// Held until the work has finished, here or in its own task.
    guard: Option<RunGuard>,
    operation: Option<Arc<str>>,
}

impl<T: Send + 'static> HandOver<T> {
    pub(super) fn new(
        guard: RunGuard,
        operation: Option<Arc<str>>,
        work: BoxFuture<'static, T>,
    ) -> Self {
        Self { work: Some(work), place: None, guard: Some(guard), operation }
    }

    /// Continues `rest` in its own task, since the caller has gone.
    pub(crate) fn go_on(mut self, rest: BoxFuture<'static, T>, runtime: Handle, span: Span) {
        (self.work, self.place) = (Some(rest), Some((runtime, span)));
    }
}

impl<T: Send + 'static> Future for HandOver<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut work = self.work.take().expect("the future was polled after completion");
        let poll = work.as_mut().poll(cx);
        if poll.is_pending() {
            if self.place.is_none() {
                self.place = Some((Handle::current(), Span::current()));
            }
            self.work = Some(work);
        }
        poll
    }
}

impl<T: Send + 'static> Drop for HandOver<T> {
    fn drop(&mut self) {
        // Without a place, the work has not begun.
        if let (Some(work), Some((runtime, span)), Some(mut guard)) =
            (self.work.take(), self.place.take(), self.guard.take())
        {
            guard.detach(self.operation.take().unwrap_or_else(|| "other".into()));
            let task = async move {
                let _guard = guard;
                work.await;
            };
            runtime.spawn(task.instrument(span));
        }
    }
}
