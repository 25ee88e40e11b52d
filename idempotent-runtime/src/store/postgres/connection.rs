//! A connection for one call, which is returned in a known state or not at all.

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
/// A call that is dropped halfway leaves its answer on the wire. The answer is read before anyone
/// else gets the connection, within a limit: if the server is silent, an abandoned call would
/// otherwise cost a connection for good. After that it is given up, unless too many were.
pub(crate) struct Connection {
    connections: Arc<Connections>,
    purpose: Purpose,
    live: Option<Live>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No call is in progress.
    Known,
    /// A call is in progress or was abandoned, or it failed and more of the answer is to come.
    Unread,
    /// The same in a transaction: nobody can use the connection afterwards.
    InTransaction,
    /// It is dead, useless, or in a transaction that the store has begun for itself.
    Unfit,
}

impl Connection {
    pub(super) fn new(connections: Arc<Connections>, purpose: Purpose, live: Live) -> Self {
        Self { connections, purpose, live: Some(live), state: State::Known }
    }

    /// Takes the connection out of its wrapper, which then does nothing on drop.
    pub(super) fn take(&mut self) -> Option<Live> {
        self.live.take()
    }

    /// From now on the connection is closed, not reused, unless it is [settled](Self::settle): for
    /// calls that begin a transaction. A `BEGIN` that is cut off would leave it open for the next
    /// caller, whose statement would be acknowledged but never committed.
    pub(crate) fn close_unless_settled(&mut self) {
        self.state = State::Unfit;
    }

    /// The same for a transaction that others use, after the server has answered whatever statement
    /// was abandoned in it. Otherwise sessions that wait for a lock would pile up on the server.
    pub(crate) fn close_once_answered_unless_settled(&mut self) {
        self.state = State::InTransaction;
    }

    /// Ends a call that was not abandoned.
    pub(crate) fn settle(mut self, error: Option<&sqlx::Error>) {
        self.state = match error {
            None => State::Known,
            Some(error) if error::is_useless_connection(error) => State::Unfit,
            // The state of an open transaction is unknown then.
            Some(_) => self.state,
        };
    }

    /// Reads what is left of a call. `false` if the connection is dead, or silent for so long that
    /// it may be given up.
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
                // If the runtime ends, this is dropped with its connection, which frees its place.
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

/// Using it begins a call.
impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        if self.state == State::Known {
            self.state = State::Unread;
        }
        &mut self.live.as_mut().expect(HELD).connection
    }
}

const HELD: &str = "taken only by `take` and `drop`, which end it";
