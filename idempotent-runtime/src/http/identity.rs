//! [`Identity`]: which key of which operation a request is for, and what it has to equal.

use super::{evaluated::Evaluated, fingerprint::Unsalted, problem::Problem};
use crate::{
    engine::{Digest, Digesting, Fields, Key, key::store_key},
    store::{Fingerprint, StoreKey},
};

/// How far the head and the expressions identify a request.
pub(super) enum Identification {
    Known {
        key: Key,
        store_key: StoreKey,
        expression: Option<Digest>,
    },
    /// Its expressions use the last parameter. Boxed, because it is rare and large.
    Unevaluated(Box<Unevaluated>),
}

/// What is known of a request's identity before its expressions are evaluated.
pub(super) struct Unevaluated {
    /// From the header.
    key: Option<Key>,
    scope: Fields,
    /// From the body, once it has been read.
    pub(super) unsalted: Option<Unsalted>,
    pub(super) evaluated: Evaluated,
}

/// What identifies a request: digests, and its raw key for the handler.
pub(super) struct Identity {
    pub(super) key: Key,
    pub(super) store_key: StoreKey,
    pub(super) fingerprint: Fingerprint,
}

impl Identification {
    /// The key's digest, if it is known already.
    pub(super) fn store_key(&self) -> Option<StoreKey> {
        match self {
            Self::Known { store_key, .. } => Some(*store_key),
            Self::Unevaluated(_) => None,
        }
    }

    pub(super) fn open(key: Option<Key>, scope: Fields) -> Self {
        let evaluated = Evaluated::default();
        Self::Unevaluated(Box::new(Unevaluated { key, scope, unsalted: None, evaluated }))
    }
}

impl Unevaluated {
    /// The identity, now that the expressions are evaluated; `None` if there is no key.
    ///
    /// # Errors
    ///
    /// Returns an error if the key is empty.
    pub(super) fn identity(self, digesting: &Digesting) -> Result<Option<Identity>, Problem> {
        let Self { key, mut scope, unsalted, evaluated } = self;
        let (Some(key), Some(unsalted)) = (evaluated.key_or(key)?, unsalted) else {
            return Ok(None);
        };
        let store_key = store_key(&mut scope, evaluated.principal_text(), &key, digesting);
        let fingerprint = unsalted.salted(evaluated.fingerprint, &key);
        Ok(Some(Identity { key, store_key, fingerprint }))
    }
}
