//! [`Taken`], [`Around`], [`Lent`]: the boundary around a handler, as the handler sees it.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::{extract::Request, response::Response};
use bytes::Bytes;

use super::{
    passing::{Progress, Run},
    slot::{Owner, Slot},
};
use crate::{
    http::{handler::Handler, outcome::Outcome, policy::Policy, scope::Scope},
    store::StoreKey,
};

/// The boundary that a request was found in, before its key is known.
pub(in crate::http) enum Taken {
    /// No boundary of its own: the handler settles its run itself.
    Nothing,
    /// A boundary passed by another method or path, so the handler settles its run itself.
    Another,
    Boundary(Reserved),
}

/// What surrounds a handler that runs with a key: a boundary, which settles its run, or nothing.
pub(in crate::http) struct Around(Option<Reserved>);

/// A handler's place in its boundary. Dropping it frees the place for another handler: this one was
/// refused, or cancelled while it was claiming its key.
pub(in crate::http) struct Reserved(Slot);

/// A handler whose run the boundary settles.
pub(in crate::http) struct Lent {
    slot: Slot,
    at: At,
}

#[derive(PartialEq, Eq)]
enum At {
    Rest,
    /// In the middle of a poll: a drop now is due to a panic.
    Work,
    End,
}

impl Taken {
    /// Takes the boundary out of `request` before anything else looks at the request, so that no
    /// request the handler makes can find it there.
    pub(in crate::http) fn from_request(request: &mut Request) -> Self {
        // Looking is cheaper than removing, and most requests have none.
        if request.extensions().get::<Slot>().is_none() {
            return Self::Nothing;
        }
        Self::remove_from(request)
    }

    #[cold]
    fn remove_from(request: &mut Request) -> Self {
        let Some(slot) = request.extensions_mut().remove::<Slot>() else { return Self::Nothing };
        match slot.take(request) {
            Owner::Boundary => Self::Boundary(Reserved(slot)),
            Owner::Another => Self::Another,
            Owner::Itself => Self::Nothing,
        }
    }

    /// The handler runs without a key, so there is nothing to settle.
    pub(in crate::http) fn without_key(self) {
        if let Self::Boundary(reserved) = self {
            reserved.0.without_key();
        }
    }

    /// The handler runs with a key, or with one that is yet to be evaluated.
    #[inline]
    pub(in crate::http) fn with_key(self, policy: &Policy, request: &Request) -> Around {
        match self {
            Self::Nothing => Around(None),
            Self::Another => {
                warn_of_narrow_run(Scope::from_request(policy, request));
                Around(None)
            }
            Self::Boundary(reserved) => Around(Some(reserved)),
        }
    }
}

impl Around {
    /// The place in the boundary, if the boundary settles the run.
    pub(in crate::http) fn reserved(&mut self) -> Option<Reserved> {
        self.0.take()
    }

    /// There turned out to be no key.
    pub(in crate::http) fn without_key(self) {
        self.0.map_or(Taken::Nothing, Taken::Boundary).without_key();
    }

    /// The run of `key` that the boundary already holds, if a layer inside it retries the handler.
    pub(in crate::http) fn again(&self, key: StoreKey) -> Option<Lent> {
        let Reserved(slot) = self.0.as_ref()?;
        slot.start_over(key);
        slot.try_again(key).then(|| Lent::new(slot))
    }

    /// The key holds `answer`. The handler's response is only a copy for the layers inside the
    /// boundary: whatever they make of it, `answer` is what is replayed.
    #[inline]
    pub(in crate::http) fn replays(&self, answer: &Bytes) {
        if let Some(Reserved(slot)) = &self.0 {
            slot.replay(answer.clone());
        }
    }
}

impl Reserved {
    /// Hands the run of `key` to the boundary to settle.
    ///
    /// # Errors
    ///
    /// Returns an error if the boundary cannot settle it, because it has already answered or holds
    /// another run: the unchanged run.
    pub(in crate::http) fn lend(self, run: Run, key: Option<StoreKey>) -> Result<Lent, Box<Run>> {
        self.0.lend(run, key).map(|()| Lent::new(&self.0))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl Lent {
    fn new(slot: &Slot) -> Self {
        Self { slot: slot.clone(), at: At::Rest }
    }

    /// Runs `handler`, and tells the boundary how it ends.
    pub(in crate::http) async fn run(mut self, mut handler: Handler) -> Response {
        let mut response = poll_fn(|cx| self.poll(&mut handler, cx)).await;
        // A destructor that panics counts as a handler that panics.
        drop(handler);
        self.at = At::End;
        // A layer may build another response from it, so no outcome but a layer's own may remain in
        // it.
        let outcome = response.extensions_mut().remove::<Outcome>();
        self.slot.ended(Progress::Ended(response.status(), outcome));
        response
    }

    fn poll(&mut self, handler: &mut Handler, cx: &mut Context<'_>) -> Poll<Response> {
        self.at = At::Work;
        let poll = handler.as_mut().poll(cx);
        if poll.is_pending() {
            self.at = At::Rest;
        }
        poll
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        match self.at {
            At::Rest => self.slot.ended(Progress::CutShort),
            At::Work => self.slot.ended(Progress::Panicked),
            At::End => {}
        }
    }
}

/// Warns about a run that is narrower than the boundary around it, once for each operation.
#[cold]
fn warn_of_narrow_run(scope: Scope<'_>) {
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let operation = scope.name();
    let operation = operation.as_deref().unwrap_or("other");
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.insert(operation.to_owned()) {
        tracing::warn!(
            target: crate::TARGET,
            operation,
            "the request of an `#[idempotent]` handler passed its `RunBoundary` with a different \
             method or path, so its run ends with the handler: put the boundary inside the layers \
             that change the method or path"
        );
    }
}
