//! [`Gate`]: a handler that goes on when the test says so.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Holds handlers until the test lets them go. A clone is another handle to the same gate.
#[derive(Debug, Clone)]
pub struct Gate {
    started: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { started: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }
}

impl Gate {
    /// In the handler: says that it has started, and waits to be let go.
    pub async fn pass(&self) {
        self.started.add_permits(1);
        take(&self.open).await;
    }

    /// In the test: waits until one more handler has started.
    pub async fn started(&self) {
        take(&self.started).await;
    }

    /// In the test: lets one handler go, now or when it comes.
    pub fn let_go(&self) {
        self.open.add_permits(1);
    }
}

async fn take(semaphore: &Semaphore) {
    // Never closed, so this waits for a permit and nothing else.
    if let Ok(permit) = semaphore.acquire().await {
        permit.forget();
    }
}
