//! The process-wide settings of handlers without a layer.

use std::{
    collections::BTreeSet,
    error::Error,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use http::Extensions;

use super::idempotency::{Idempotency, Settings};

/// The settings of all handlers without a layer, from their first use on.
static PROCESS: OnceLock<Idempotency> = OnceLock::new();

/// Why [`Idempotency::install`] had no effect.
///
/// ```
/// use idempotent_runtime::{Idempotency, MemoryStore};
///
/// Idempotency::new(MemoryStore::new()).install().unwrap();
/// let error = Idempotency::new(MemoryStore::new()).install().unwrap_err();
/// assert!(error.to_string().contains("once"));
/// ```
#[derive(Debug)]
pub struct InstallError(());

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the process's idempotency settings are already in use: call `Idempotency::install` once, \
             before the first request",
        )
    }
}

impl Error for InstallError {}

impl Idempotency {
    /// Makes these the settings of all handlers in this process that have no layer.
    ///
    /// A request without a key then costs nothing. Call it once, before the server starts.
    ///
    /// ```
    /// use idempotent_runtime::{Idempotency, MemoryStore};
    ///
    /// let store = MemoryStore::builder().max_bytes(256 << 20).build();
    /// Idempotency::new(store).max_response_bytes(64 << 10).install()?;
    /// assert!(format!("{:?}", Idempotency::default()).contains("max_response_bytes: 65536"));
    /// # Ok::<(), idempotent_runtime::InstallError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if settings have already been installed, or if a request or a call to
    /// [`Idempotency::default`] has already used the built-in ones.
    pub fn install(self) -> Result<(), InstallError> {
        self.settings.check();
        PROCESS.set(self).map_err(|_| InstallError(()))
    }

    /// The settings that apply to a request with these extensions.
    pub(super) fn for_request(extensions: &Extensions) -> &Arc<Settings> {
        &extensions.get::<Self>().unwrap_or_else(|| Self::process()).settings
    }

    fn process() -> &'static Self {
        PROCESS.get_or_init(Self::built_in)
    }
}

/// The settings of handlers without a layer: the [`install`](Idempotency::install)ed ones, or else
/// one `MemoryStore` with all defaults.
impl Default for Idempotency {
    fn default() -> Self {
        Self::process().clone()
    }
}

/// Warns about a handler that runs on the built-in default although the process has set up another
/// store, once for each operation.
pub(super) fn warn_of_missed_store(operation: Option<&str>) {
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let operation = operation.unwrap_or("other");
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.insert(operation.to_owned()) {
        tracing::warn!(
            target: crate::TARGET,
            operation,
            "an `#[idempotent]` handler stores its responses in the memory of this process \
             although another store is set up: add the `Idempotency` layer after the route, or \
             `install` it"
        );
    }
}
