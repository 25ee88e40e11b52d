//! [`ConnectError`]: why a store cannot be used, reported when a service starts.

#[cfg(any(feature = "postgres", feature = "redis"))]
use std::time::Duration;
use std::{borrow::Cow, error::Error, fmt};

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a store could not be connected to, or its file not opened.
///
/// The message contains the server's address or the file's path, never a password, and says what to
/// do. The cause is its [`source`](std::error::Error::source).
///
/// ```
/// # #[cfg(feature = "redis")]
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use std::error::Error;
///
/// use idempotent_runtime::{ConnectError, RedisStore};
///
/// let error: ConnectError = RedisStore::connect("localhost").await.unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the URL of the Redis server is not valid: it has the form `redis://host:6379/0`"
/// );
/// assert!(error.source().is_some());
/// # });
/// ```
#[derive(Debug)]
pub struct ConnectError {
    message: Cow<'static, str>,
    source: Option<BoxError>,
}

impl ConnectError {
    pub(crate) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// The server at `address`, which contains no password, could not be reached.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn unreachable(server: &str, address: &str) -> Self {
        Self::new(format!(
            "cannot connect to {server} at `{address}`: check the URL, and that the server is up"
        ))
    }

    /// The server at `address`, which contains no password, did not answer.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn silent(server: &str, address: &str, limit: Duration) -> Self {
        Self::new(format!(
            "cannot connect to {server} at `{address}`, no answer within {limit:?}: check the URL, \
             and that the server is up"
        ))
    }

    /// The same error, caused by `source`.
    pub(crate) fn because(self, source: impl Into<BoxError>) -> Self {
        Self { source: Some(source.into()), ..self }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
