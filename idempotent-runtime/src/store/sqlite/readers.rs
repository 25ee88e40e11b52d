//! [`Readers`]: connections that read alongside the one that writes.
//!
//! Not the driver's pool: that one pings a connection, in a task, each time it is returned.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

/// How many there are. Each has a thread.
pub(super) const READERS: u32 = 4;

/// All reading connections.
pub(super) struct Readers {
    /// As many permits as there are idle connections.
    free: Semaphore,
    idle: Mutex<Vec<SqliteConnection>>,
}

impl Readers {
    pub(super) fn new(connections: Vec<SqliteConnection>) -> Self {
        Self { free: Semaphore::new(connections.len()), idle: Mutex::new(connections) }
    }

    /// A connection for one call.
    ///
    /// # Errors
    ///
    /// Returns an error if they are closed.
    pub(super) async fn get(&self) -> Result<Reader<'_>, AcquireError> {
        let permit = self.free.acquire().await?;
        Ok(Reader { readers: self, connection: self.idle().pop(), _permit: permit })
    }

    /// Closes them once they are all unused.
    pub(super) async fn close(&self) {
        // An error means that they are closed.
        let Ok(all) = self.free.acquire_many(READERS).await else { return };
        self.free.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            // Its thread has ended either way.
            let _ = connection.close().await;
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<SqliteConnection>> {
        // Nothing in a critical section panics halfway through a change.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the connections, which is returned on drop. If a call is dropped midway, the connection's
/// thread finishes it before the next.
pub(super) struct Reader<'a> {
    readers: &'a Readers,
    connection: Option<SqliteConnection>,
    _permit: SemaphorePermit<'a>,
}

impl Reader<'_> {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("there is one for each permit")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.readers.idle().extend(self.connection.take());
    }
}
