//! [`Evaluated`]: the values of the attribute's expressions for one request.

use super::problem::Problem;
use crate::engine::{Digest, Key, StableHasher, Text};

/// The values of the attribute's expressions for one request.
///
/// The expansion fills it in, either before or after the last parameter is extracted. It does not
/// implement `Debug` because it holds a raw key and principal.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "it holds a raw key and principal")]
pub struct Evaluated {
    principal: Option<Text>,
    key: Option<Text>,
    pub(super) fingerprint: Option<Digest>,
}

impl Evaluated {
    /// Whose key it is: two principals can use the same key without colliding.
    pub fn principal(&mut self, text: Option<Text>) {
        self.principal = text;
    }

    /// The idempotency key, derived from the request instead of read from a header; returns whether
    /// there is a key to look up.
    pub fn key(&mut self, text: Option<Text>) -> bool {
        self.key = text;
        self.key.as_ref().is_some_and(|key| !key.as_str().is_empty())
    }

    /// What must be equal for two requests with the same key to count as the same request.
    ///
    /// `hash` is [`Hash::hash`], named by the expansion, so that an error about it mentions `Hash`.
    ///
    /// [`Hash::hash`]: std::hash::Hash::hash
    pub fn fingerprint<T: ?Sized>(&mut self, value: &T, hash: fn(&T, &mut StableHasher)) {
        let mut hasher = StableHasher::new();
        hash(value, &mut hasher);
        self.fingerprint = Some(hasher.digest());
    }

    pub(super) fn principal_text(&self) -> Option<&str> {
        self.principal.as_ref().map(Text::as_str)
    }

    /// The key from the expression, or else `header`'s.
    ///
    /// # Errors
    ///
    /// Returns an error if the expression's key is empty.
    pub(super) fn key_or(&self, header: Option<Key>) -> Result<Option<Key>, Problem> {
        match self.key.as_ref().map(Text::as_str) {
            Some("") => {
                Err(Problem::invalid_key("The idempotency key derived from the request is empty"))
            }
            Some(text) => Ok(Some(Key::exact(text))),
            None => Ok(header),
        }
    }
}
