//! Handlers that outlive their caller.
//!
//! A started handler must not be cancelled by a disconnect: its effect would be there, and no
//! response stored. A task per request would guarantee that at a price; instead the caller's own
//! task drives the handler, and only where the caller goes away is the rest handed to a task.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use axum::response::Response;
use tokio::runtime::Handle;
use tracing::{Instrument as _, Span};

use crate::{idempotency::InFlightGuard, store::BoxFuture};

/// A future that runs to its end even when it is dropped before.
pub(crate) struct Detach {
    /// `None` once it has ended, or while it is polled: a panic leaves nothing to go on with.
    future: Option<BoxFuture<'static, Response>>,
    /// Kept from the start: the drop may happen outside any runtime.
    runtime: Handle,
    span: Span,
    /// Held until the future has ended, here or in its own task.
    guard: Option<InFlightGuard>,
}

impl Detach {
    pub(crate) fn new(guard: InFlightGuard, future: BoxFuture<'static, Response>) -> Self {
        Self {
            future: Some(future),
            runtime: Handle::current(),
            span: Span::current(),
            guard: Some(guard),
        }
    }
}

impl Future for Detach {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        let mut future = self.future.take().expect("a future is not polled after its end");
        let poll = future.as_mut().poll(cx);
        if poll.is_pending() {
            self.future = Some(future);
        }
        poll
    }
}

impl Drop for Detach {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            let guard = self.guard.take();
            let task = async move {
                let _guard = guard;
                future.await;
            };
            self.runtime.spawn(task.instrument(self.span.clone()));
        }
    }
}

/// Runs `future` to its end, or to its panic.
pub(crate) async fn catching_panics<T>(
    mut future: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Box<dyn Any + Send>> {
    // Unwind safe: after a panic the future is dropped, never polled again.
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
