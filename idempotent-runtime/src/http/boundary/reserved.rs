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
    /// None of its own: it settles by itself.
    Nothing,
    /// One that another method or path has passed, so it settles by itself.
    Another,
    Boundary(Reserved),
}

/// What is around a handler that runs with a key: its boundary, which settles, or nothing.
pub(in crate::http) struct Around(Option<Reserved>);

/// The place of a boundary's handler. Dropped, it is free again: for a handler that was refused, or
/// cancelled while it asked, another one may come.
pub(in crate::http) struct Reserved(Slot);

/// A handler whose run the boundary settles.
pub(in crate::http) struct Lent {
    slot: Slot,
    at: At,
}

#[derive(PartialEq, Eq)]
enum At {
    Rest,
    /// In the middle of a poll: a drop now is a panic's.
    Work,
    End,
}

impl Taken {
    /// Takes the boundary out of `request`, before anything else is asked of it: no request that the
    /// handler makes may find it there.
    pub(in crate::http) fn from_request(request: &mut Request) -> Self {
        // A look is cheaper than a removal, and most requests have none.
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

    /// The handler runs with a key, or one that is still to be evaluated.
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
    /// The place in the boundary, if it settles.
    pub(in crate::http) fn reserved(&mut self) -> Option<Reserved> {
        self.0.take()
    }

    /// There is no key after all.
    pub(in crate::http) fn without_key(self) {
        self.0.map_or(Taken::Nothing, Taken::Boundary).without_key();
    }

    /// The run of `key` that the boundary has already, if a layer inside it tries the handler again.
    pub(in crate::http) fn again(&self, key: StoreKey) -> Option<Lent> {
        let Reserved(slot) = self.0.as_ref()?;
        slot.start_over(key);
        slot.try_again(key).then(|| Lent::new(slot))
    }

    /// The key holds `answer`. What the handler answers with is a copy for the layers inside the
    /// boundary: whatever they make of it, `answer` is what is replayed.
    #[inline]
    pub(in crate::http) fn replays(&self, answer: &Bytes) {
        if let Some(Reserved(slot)) = &self.0 {
            slot.replay(answer.clone());
        }
    }
}

impl Reserved {
    /// Has the boundary settle the run of `key`.
    ///
    /// # Errors
    ///
    /// Returns an error if the boundary cannot, because it has answered or has another run: the run,
    /// as it was.
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
        // A destructor that panics is a handler that does.
        drop(handler);
        self.at = At::End;
        // A layer may make another response of it: only its own word is left in it.
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

/// Warns of a run that is narrower than the boundary around it. Once for each operation.
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
            "an `#[idempotent]` handler is inside a `RunBoundary` that a request of another method or \
             path has passed, so its run ends with the handler: put the boundary inside of layers that \
             change the method or the path"
        );
    }
}
