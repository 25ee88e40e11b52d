//! A connection for one call, which comes back in a known state or not at all.

use std::{
    ops::{Deref, DerefMut},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use sqlx::{Connection as _, PgConnection};
use tokio::{runtime::Handle, time::timeout};

use super::{
    connections::{Connections, Live, Purpose},
    error,
};

/// A connection for one call.
///
/// A call that is dropped half way leaves its answer on the wire. It is read off before anybody else
/// gets the connection, within a limit: if the server is silent, an abandoned call would take one
/// connection away for good. It is given up then, unless too many were.
pub(crate) struct Connection {
    connections: Arc<Connections>,
    purpose: Purpose,
    live: Option<Live>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No call is under way.
    Known,
    /// A call is, or was abandoned; or it failed, and the server has more to say.
    Unread,
    /// So it may be, in a transaction: nobody can use it afterwards.
    InTransaction,
    /// It is dead, of no use, or in a transaction that the store has begun for itself.
    Unfit,
}

impl Connection {
    pub(super) fn new(connections: Arc<Connections>, purpose: Purpose, live: Live) -> Self {
        Self { connections, purpose, live: Some(live), state: State::Known }
    }

    /// Takes it out of its wrapper, which then does nothing any more.
    pub(super) fn take(&mut self) -> Option<Live> {
        self.live.take()
    }

    /// From now on it is closed, not reused, unless it is [settled](Self::settle): for whoever
    /// begins a transaction. A `BEGIN` that is cut off would leave one open to the next caller, whose
    /// statement would be acknowledged and never committed.
    pub(crate) fn close_unless_settled(&mut self) {
        self.state = State::Unfit;
    }

    /// The same for a transaction that others use: whatever statement was abandoned in it, the
    /// server is waited for. Otherwise those that wait for a lock would pile up there.
    pub(crate) fn close_once_answered_unless_settled(&mut self) {
        self.state = State::InTransaction;
    }

    /// Ends a call that was not abandoned.
    pub(crate) fn settle(mut self, error: Option<&sqlx::Error>) {
        self.state = match error {
            None => State::Known,
            Some(error) if error::is_useless_connection(error) => State::Unfit,
            // Of an open transaction nothing is known then.
            Some(_) => self.state,
        };
    }

    /// Reads off what is left of a call. `false` if it is dead, or silent for so long that it may be
    /// given up.
    async fn has_answered(&mut self, limit: Duration) -> bool {
        let connections = Arc::clone(&self.connections);
        let mut answer = pin!(self.ping());
        loop {
            match timeout(limit, answer.as_mut()).await {
                Ok(result) => return result.is_ok(),
                Err(_) if connections.may_give_up() => return false,
                Err(_) => {}
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else { return };
        let (connections, purpose) = (Arc::clone(&self.connections), self.purpose);
        match self.state {
            State::Known => connections.take_back(purpose, Some(live)),
            State::Unfit => {
                drop(live);
                connections.take_back(purpose, None);
            }
            State::Unread | State::InTransaction => {
                let is_in_transaction = self.state == State::InTransaction;
                let limit = connections.limits().abandoned;
                // If the runtime ends, this drops what it holds, and its place is free.
                let mut unread =
                    Self { connections, purpose, live: Some(live), state: State::Unfit };
                let Ok(runtime) = Handle::try_current() else { return };
                runtime.spawn(async move {
                    if unread.has_answered(limit).await && !is_in_transaction {
                        unread.settle(None);
                    }
                });
            }
        }
    }
}

impl Deref for Connection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.live.as_ref().expect(HELD).connection
    }
}

/// To use it is to begin a call.
impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        if self.state == State::Known {
            self.state = State::Unread;
        }
        &mut self.live.as_mut().expect(HELD).connection
    }
}

const HELD: &str = "taken only by `take` and `drop`, which end it";
