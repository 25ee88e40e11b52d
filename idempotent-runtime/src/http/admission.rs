//! Admitting a request: what its head says, before its body is read.

use std::{mem::take, sync::Arc};

use axum::{RequestExt as _, extract::Request};

use super::{
    evaluated::Evaluated,
    guarded::Guarded,
    idempotency::Idempotency,
    identity::Identification,
    key::{self, Key},
    known::Known,
    policy::{KeySource, Policy, Stage},
    problem::Problem,
    scope::{Scope, store_key},
};
use crate::store::Extracted;

/// What a request's headers say about its key.
pub(super) enum Admission {
    /// It has none and needs none.
    WithoutKey,
    /// `None`: its key is an expression.
    WithKey(Option<Key>),
}

impl Admission {
    /// # Errors
    ///
    /// Returns the problem if the key is not valid, or is missing although it is required.
    pub(super) fn from_request(policy: &Policy, request: &Request) -> Result<Self, Problem> {
        if policy.key == KeySource::Expression {
            return Ok(Self::WithKey(None));
        }
        match key::read(policy, request.headers())? {
            None if policy.required => Err(Problem::missing_key(&policy.header_names()[0])),
            None => Ok(Self::WithoutKey),
            key => Ok(Self::WithKey(key)),
        }
    }

    /// Whether there may be a key to look up, and the expressions can be evaluated before
    /// extraction.
    pub(super) fn is_evaluated_now(&self, policy: &Policy) -> bool {
        matches!(self, Self::WithKey(_)) && policy.evaluated == Stage::BeforeExtraction
    }
}

/// Takes `request` in, whose expressions were evaluated if they can be before extraction. `None` if
/// it has no key after all.
///
/// # Errors
///
/// Returns the problem if the key that an expression gave is empty.
pub(super) fn admit(
    policy: &'static Policy,
    key: Option<Key>,
    evaluated: &Evaluated,
    known: Known,
    extracted: Extracted,
    request: &mut Request,
) -> Result<Option<Guarded>, Problem> {
    let mut scope = Scope::from_request(policy, request).fields();
    let identification = match policy.evaluated {
        Stage::BeforeExtraction => {
            let Some(key) = evaluated.key_or(key)? else { return Ok(None) };
            let store_key = store_key(&mut scope, evaluated.principal_text(), &key);
            Identification::Known { key, store_key, expression: evaluated.fingerprint }
        }
        Stage::AfterExtraction => Identification::open(key, scope),
    };
    let settings = Arc::clone(Idempotency::for_request(request.extensions()));
    *request = take(request).with_limited_body();
    Ok(Some(Guarded { policy, settings, identification, known, extracted }))
}
