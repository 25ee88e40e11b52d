//! [`Attempt`]: who asks for which key, the one value that a store's methods take.

use std::{fmt, sync::Arc};

use super::digest::{Fingerprint, StoreKey};

/// One request's attempt at a key, which every method of a [`Store`](super::Store) receives.
///
/// ```
/// use idempotent_runtime::{Attempt, Fingerprint, StoreKey, Token};
///
/// let key = StoreKey::from_bytes([1; 16]);
/// let attempt = Attempt::new(key, Fingerprint::from_bytes([2; 16]), Token::random());
/// assert_eq!(attempt.key, key);
/// assert_eq!(attempt.operation(), "other");
/// assert_eq!(attempt.named("POST /payments/{id}").operation(), "POST /payments/{id}");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt {
    /// The digest of scope, principal and idempotency key: the key of the store's entry.
    pub key: StoreKey,
    /// What must be equal for two requests with this key to be the same request. A store keeps it
    /// with the claim and returns it; the runtime does the comparison.
    pub fingerprint: Fingerprint,
    /// Identifies the attempt. Only the holder of the token can renew, complete or release its
    /// claim.
    pub token: Token,
    operation: Option<Arc<str>>,
}

impl Attempt {
    /// An attempt of an operation without a name.
    ///
    /// ```
    /// # use idempotent_runtime::{Attempt, Fingerprint, StoreKey, Token};
    /// let (key, fingerprint) = (StoreKey::from_bytes([1; 16]), Fingerprint::from_bytes([2; 16]));
    /// let attempt = Attempt::new(key, fingerprint, Token::random());
    /// assert_eq!((attempt.key, attempt.fingerprint), (key, fingerprint));
    /// ```
    #[must_use]
    pub fn new(key: StoreKey, fingerprint: Fingerprint, token: Token) -> Self {
        Self { key, fingerprint, token, operation: None }
    }

    /// The same attempt, of the operation with this name.
    ///
    /// ```
    /// # use idempotent_runtime::{Attempt, Fingerprint, StoreKey, Token};
    /// # let (key, fingerprint) = (StoreKey::from_bytes([1; 16]), Fingerprint::from_bytes([2; 16]));
    /// let attempt = Attempt::new(key, fingerprint, Token::random()).named("charge-card");
    /// assert_eq!(attempt.operation(), "charge-card");
    /// ```
    #[must_use]
    pub fn named(self, operation: impl Into<Arc<str>>) -> Self {
        Self { operation: Some(operation.into()), ..self }
    }

    /// The operation's name, for people who inspect the store: the attribute's `scope`, or method
    /// and route template, such as `POST /payments/{id}`; `other` if no template is known. Never a
    /// path, a key or a principal.
    ///
    /// ```
    /// # use idempotent_runtime::{Attempt, Fingerprint, StoreKey, Token};
    /// # let (key, fingerprint) = (StoreKey::from_bytes([1; 16]), Fingerprint::from_bytes([2; 16]));
    /// let attempt = Attempt::new(key, fingerprint, Token::random());
    /// assert_eq!(attempt.operation(), "other");
    /// ```
    #[must_use]
    pub fn operation(&self) -> &str {
        self.operation.as_deref().unwrap_or("other")
    }

    pub(crate) fn operation_name(&self) -> Option<&str> {
        self.operation.as_deref()
    }

    pub(crate) fn operation_handle(&self) -> Option<Arc<str>> {
        self.operation.clone()
    }
}

/// The fencing token of one claim: 128 random bits, compared for equality.
///
/// It proves who holds a claim, so that a worker that has lost its claim cannot overwrite anything.
///
/// ```
/// use idempotent_runtime::Token;
///
/// let token = Token::random();
/// assert_eq!(Token::from_bytes(*token.as_bytes()), token);
/// assert_ne!(Token::random(), token);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

impl Token {
    /// A new random token.
    ///
    /// ```
    /// # use idempotent_runtime::Token;
    /// assert_ne!(Token::random(), Token::random());
    /// ```
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().into_bytes())
    }

    /// The token with these bytes.
    ///
    /// ```
    /// # use idempotent_runtime::Token;
    /// assert_eq!(Token::from_bytes([7; 16]), Token::from_bytes([7; 16]));
    /// ```
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The token's bytes.
    ///
    /// ```
    /// # use idempotent_runtime::Token;
    /// assert_eq!(Token::from_bytes([7; 16]).as_bytes(), &[7; 16]);
    /// ```
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:032x})", u128::from_be_bytes(self.0))
    }
}
