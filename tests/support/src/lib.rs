//! Test helpers: requests to a router in this process ([`post`]) or over TCP ([`Server`]), signals
//! to and from handlers ([`Gate`], [`Counter`]), stores that fail when the test says so ([`Probe`],
//! [`Leased`]), bodies that the test feeds ([`frames`]), captured logs ([`Events`]), separate
//! processes ([`alone`]), and histories of calls to a store ([`history`]).

mod alone;
mod ask;
mod events;
mod frames;
mod gate;
pub mod history;
mod leased;
mod probe;
mod wire;

pub use alone::alone;
pub use ask::{Answer, Ask, ask, post};
pub use events::{Events, Logged, Opened};
pub use frames::{FrameSender, frames};
pub use gate::{CountOnDrop, Counter, Gate, Runs, count_ends, is_pending};
pub use idempotent_runtime::testing::Fault;
pub use leased::Leased;
pub use probe::{Probe, Verb};
pub use wire::{Server, Wire};

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Only a bug keeps a test waiting for this long.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A new UUID key.
#[must_use]
pub fn fresh_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// An error and its sources, as a log shows them.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    error.source().map_or(error.to_string(), |source| format!("{error}: {}", chain(source)))
}

/// Locks what no panic can leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
