//! [`Job`]: what one request asks of the engine.

use std::{sync::Arc, time::Duration};

use super::{record::Form, settings::Engine, tell::Watch};
use crate::store::{Attempt, Extracted, Slot};

/// One attempt at a key, and what its operation wants.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) engine: Arc<Engine>,
    pub(crate) attempt: Attempt,
    /// What its record is.
    pub(crate) form: Form,
    /// How long its record is replayed.
    pub(crate) ttl: Duration,
    /// How long it waits for a running duplicate, over all runs that it waits for.
    pub(crate) wait: Duration,
    /// How large its input is, which it holds while it waits.
    pub(crate) input_bytes: usize,
    /// What its input was extracted as, if a replay of its record may do without extraction.
    pub(crate) extracted: Option<Extracted>,
    /// Where its work finds the transaction that its claim is part of, if it asks for one.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "there is none"))]
    pub(crate) transaction: Option<Slot>,
    /// Who is told what becomes of it.
    pub(crate) watch: Watch,
}
