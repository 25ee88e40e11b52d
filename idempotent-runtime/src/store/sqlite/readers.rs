//! [`Readers`]: connections that read beside the one that writes.
//!
//! Not a pool of the driver's: that one pings a connection each time it is given back, in a task.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

/// How many there are. Each has a thread.
pub(super) const READERS: u32 = 4;

/// All that read.
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

    /// Closes them once nobody uses one.
    pub(super) async fn close(&self) {
        // An error says that they are closed.
        let Ok(all) = self.free.acquire_many(READERS).await else { return };
        self.free.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            // Its thread has ended in either case.
            let _ = connection.close().await;
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<SqliteConnection>> {
        // Nothing in a critical section panics half way through a change.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the connections, which goes back on drop. What a call leaves behind that is dropped midway
/// its thread ends before the next.
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
