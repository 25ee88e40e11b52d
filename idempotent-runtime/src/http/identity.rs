//! [`Identity`]: which key of which operation a request is about, and what it has to equal.

use axum::extract::Request;

use super::{
    evaluated::Evaluated,
    fingerprint::Unsalted,
    key::Key,
    policy::Policy,
    scope::{Scope, store_key},
};
use crate::{
    engine::{Digesting, Fields},
    store::{Fingerprint, StoreKey},
};

/// What a request says of itself. The key, and what the expressions say, complete it.
pub(super) struct Identity {
    scope: Fields,
    unsalted: Unsalted,
}

/// A request that is named: by digests, and by its raw key for the handler.
pub(super) struct Named {
    pub(super) key: Key,
    pub(super) store_key: StoreKey,
    pub(super) fingerprint: Fingerprint,
}

impl Identity {
    pub(super) fn of<B>(
        policy: &Policy,
        digesting: Digesting,
        request: &Request<B>,
        body: &[u8],
    ) -> Self {
        Self {
            scope: Scope::of_request(policy, request).fields(),
            unsalted: Unsalted::of_request(policy.fingerprint, digesting, request, body),
        }
    }

    pub(super) fn name(self, key: Key, evaluated: &Evaluated) -> Named {
        let principal = evaluated.principal.as_ref().map(|principal| principal.as_str());
        let store_key = store_key(self.scope, principal, &key);
        let fingerprint = self.unsalted.salted(evaluated.fingerprint, &key);
        Named { key, store_key, fingerprint }
    }
}
