//! [`Job`]: what one request wants from the engine.

use std::{sync::Arc, time::Duration};

use super::{record::Form, settings::Engine, tell::Watch};
use crate::store::{Attempt, Extracted, Slot};

/// One attempt at a key, and the settings of its operation.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) engine: Arc<Engine>,
    pub(crate) attempt: Attempt,
    /// The form of its record.
    pub(crate) form: Form,
    /// How long its record is replayed.
    pub(crate) ttl: Duration,
    /// How long it waits for running duplicates in total.
    pub(crate) wait: Duration,
    /// The size of its input, which it holds while it waits.
    pub(crate) input_bytes: usize,
    /// The type its input was extracted as, if a replay of its record may skip extraction.
    pub(crate) extracted: Option<Extracted>,
    /// Where its work finds the transaction that its claim is part of, if it asks for one.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "there is none"))]
    pub(crate) transaction: Option<Slot>,
    /// Who is told what happens to it.
    pub(crate) watch: Watch,
}
