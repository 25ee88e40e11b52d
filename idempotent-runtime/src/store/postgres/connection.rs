//! A pooled connection that comes back in a known state, or not at all.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{PgConnection, Postgres, pool::PoolConnection};
use tokio::runtime::Handle;

use super::error;

/// How long a server may take to finish what a caller has abandoned.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// A connection of the pool for one call.
///
/// A call that is dropped half way leaves its answer on the wire. The pool reads it off before it
/// gives the connection to somebody else, but without a limit: if the server is silent, every
/// abandoned call would take one connection out of the pool for good. So this sets a limit.
pub(crate) struct Connection(Option<PoolConnection<Postgres>>);

impl Connection {
    pub(crate) fn new(connection: PoolConnection<Postgres>) -> Self {
        Self(Some(connection))
    }

    /// Ends a call that was not abandoned.
    pub(crate) fn settle(mut self, error: Option<&sqlx::Error>) {
        if error.is_some_and(error::is_useless_connection)
            && let Some(mut connection) = self.0.take()
        {
            connection.close_on_drop();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut connection) = self.0.take() else { return };
        // What the pool's own guard does on drop, which is why it is public, if hidden.
        let back = connection.return_to_pool();
        // Past the limit, and without a runtime, the connection is dropped and its place is free.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = tokio::time::timeout(DRAIN_LIMIT, back).await;
            });
        }
    }
}

impl Deref for Connection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.0.as_deref().expect("taken only by `settle` and `drop`, which end it")
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.0.as_deref_mut().expect("taken only by `settle` and `drop`, which end it")
    }
}
