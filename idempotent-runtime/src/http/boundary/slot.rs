//! [`Slot`]: where a boundary and the handler inside it meet.
//!
//! ```text
//!           a handler comes          claims              passes           is stored
//!     open ────────────────> taken ─────────> lent ───────────> settling ──────────> closed
//!      ^ answers, is dropped  │ │                                                      ^
//!      └──────────────────────┘ │ finds a stored response           passes            │
//!                               ├─────────────────────────> replayed ─────────────────>│
//!                               │ has no key                                           │
//!                               └─────────────────────────────────────────────────────>│
//! ```
//!
//! The handler may run in a different task than the boundary, so either may be ahead. Each step is
//! one change under the lock.

use std::{
    mem::replace,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{Method, Request, Uri};

use super::passing::{Held, Progress, Run};
use crate::{engine::HandOver, http::target::is_end_of, store::StoreKey};

/// In the extensions of a request that has passed a boundary.
#[derive(Clone)]
pub(super) struct Slot(Arc<Shared>);

struct Shared {
    /// The method of the request that passed the boundary.
    method: Method,
    uri: Uri,
    state: Mutex<State>,
}

#[expect(clippy::large_enum_variant, reason = "a box would cost each request an allocation")]
enum State {
    /// No handler has arrived, or one has and left nothing.
    Open,
    /// A handler has arrived and is claiming its key.
    Taken,
    /// The boundary settles the handler's run.
    Lent(Lending),
    /// The key holds this answer.
    Replayed(Bytes),
    /// The response that passed is being stored.
    Settling(Option<HandOver<()>>),
    Closed,
}

struct Lending {
    run: Run,
    /// `None` for a transaction without a key.
    key: Option<StoreKey>,
    /// Counts the run, and lets it continue. `None` once the caller has gone. Also `None` without a
    /// key: then the run ends with its caller.
    carried: Option<HandOver<()>>,
}

/// What a handler has left for its boundary.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Left {
    /// Nothing: it settles its own run, if it has one.
    Nothing,
    Replay(Bytes),
    Run(Run),
}

/// Whose request this is.
pub(super) enum Owner {
    /// The boundary's own: the boundary settles this handler's run.
    Boundary,
    /// One with another method or path: either a layer changed the boundary's own request, or a
    /// handler without the attribute made it. There is no telling which.
    Another,
    /// One that a handler made, or that comes too late.
    Itself,
}

impl Slot {
    /// For a request that passes a boundary.
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self(Arc::new(Shared { method, uri, state: Mutex::new(State::Open) }))
    }

    /// Whether `request` is already inside a boundary that its handler would belong to.
    pub(super) fn is_around<B>(request: &Request<B>) -> bool {
        let slot = request.extensions().get::<Self>();
        slot.is_some_and(|slot| slot.is_passed_by(request) && slot.lock().admits_handler())
    }

    /// Takes the handler's place in the boundary for `request`, if it is free.
    pub(super) fn take<B>(&self, request: &Request<B>) -> Owner {
        let is_own = self.is_passed_by(request);
        let mut state = self.lock();
        match &*state {
            State::Open if is_own => {
                *state = State::Taken;
                Owner::Boundary
            }
            State::Open => Owner::Another,
            state if is_own && state.admits_handler() => Owner::Boundary,
            _ => Owner::Itself,
        }
    }

    /// Whether `request` is the one that passed the boundary, judging by method and path.
    /// `OriginalUri` is no help: a request that a handler makes may carry a copy of the original
    /// extensions.
    fn is_passed_by<B>(&self, request: &Request<B>) -> bool {
        let Shared { method, uri, .. } = &*self.0;
        request.method() == method && is_end_of(request.uri().path(), uri.path())
    }

    /// The handler that took the place has no run to lend.
    pub(super) fn give_back(&self) {
        self.step(|state| match state {
            State::Taken => State::Open,
            state => state,
        });
    }

    /// The handler runs without a key.
    pub(super) fn without_key(&self) {
        self.step(|state| match state {
            State::Taken => State::Closed,
            state => state,
        });
    }

    /// The key holds `answer`.
    pub(super) fn replay(&self, answer: Bytes) {
        self.step(|state| match state {
            State::Taken => State::Replayed(answer),
            state => state,
        });
    }

    /// Lends the run of `key` to the boundary.
    ///
    /// # Errors
    ///
    /// Returns an error if the boundary has already answered or holds a run: the unchanged run.
    pub(super) fn lend(&self, mut run: Run, key: Option<StoreKey>) -> Result<(), Box<Run>> {
        let mut state = self.lock();
        let is_free = match &*state {
            State::Taken => true,
            // A layer retries: what the first attempt wrote is rolled back.
            State::Lent(before) => {
                before.key.is_none() && key.is_none() && before.run.progress.is_over()
            }
            _ => false,
        };
        if !is_free {
            return Err(Box::new(run));
        }
        // The work is the boundary's future, which is being polled. It is filled in if the caller
        // leaves.
        let carried;
        (run.held, carried) = match run.held {
            Held::Claim(claimed) => {
                let mut kept = None;
                let carried = claimed.run_to_end(|claimed| {
                    kept = Some(claimed);
                    Box::pin(async {})
                });
                (kept.map_or(Held::Nothing, Held::Claim), Some(carried))
            }
            #[cfg(feature = "postgres")]
            transaction @ Held::Transaction(_) => (transaction, None),
            Held::Nothing => {
                let carried = run.keeping.settings.engine.run_to_end(Box::pin(async {}));
                (Held::Nothing, Some(carried))
            }
        };
        let before = replace(&mut *state, State::Lent(Lending { run, key, carried }));
        drop(state);
        drop(before);
        Ok(())
    }

    /// Whether the lent run is that of `key` and its handler may be tried again; if so, it counts
    /// as running from now on.
    pub(super) fn try_again(&self, key: StoreKey) -> bool {
        let mut state = self.lock();
        match &mut *state {
            State::Lent(lending) if lending.key == Some(key) && lending.run.progress.is_over() => {
                lending.run.progress = Progress::Running;
                true
            }
            _ => false,
        }
    }

    /// Gives up the lent run of `key` if its claim is part of a transaction and its handler may be
    /// tried again: what it wrote is rolled back, and the next attempt claims again.
    pub(super) fn start_over(&self, key: StoreKey) {
        let mut state = self.lock();
        let given_up = match &*state {
            State::Lent(Lending { run, key: of, .. })
                if *of == Some(key) && run.progress.is_over() && run.is_in_transaction() =>
            {
                replace(&mut *state, State::Taken)
            }
            _ => return,
        };
        drop(state);
        drop(given_up);
    }

    /// Records how the handler of the lent run ended.
    pub(super) fn ended(&self, progress: Progress) {
        if let State::Lent(lending) = &mut *self.lock() {
            lending.run.progress = progress;
        }
    }

    /// Something passes the boundary: returns what the handler has left.
    pub(super) fn pass(&self) -> Left {
        let mut state = self.lock();
        match replace(&mut *state, State::Closed) {
            State::Lent(Lending { run, carried, .. }) => {
                *state = State::Settling(carried);
                Left::Run(run)
            }
            State::Replayed(answer) => Left::Replay(answer),
            _ => Left::Nothing,
        }
    }

    /// The caller leaves: returns what lets the run continue, if there is a run. Otherwise closes
    /// the slot.
    pub(super) fn leave(&self) -> Option<HandOver<()>> {
        let mut state = self.lock();
        match &mut *state {
            State::Lent(Lending { carried, .. }) | State::Settling(carried) => carried.take(),
            other => {
                *other = State::Closed;
                None
            }
        }
    }

    /// The boundary has answered or was dropped. A run that has not been settled frees its key.
    pub(super) fn close(&self) {
        let left = replace(&mut *self.lock(), State::Closed);
        drop(left);
    }

    fn step(&self, change: impl FnOnce(State) -> State) {
        let mut state = self.lock();
        let before = replace(&mut *state, State::Closed);
        *state = change(before);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in a critical section panics halfway through a change.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a handler may come: the first one, or one that a layer retries under the claim it
    /// already has.
    fn admits_handler(&self) -> bool {
        match self {
            Self::Open => true,
            Self::Lent(Lending { run, .. }) => run.progress.is_over(),
            _ => false,
        }
    }
}
