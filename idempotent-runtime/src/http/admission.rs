//! Admitting a request: what its head says, before its body is read.

use std::{future::ready, mem::take, sync::Arc};

use axum::{RequestExt as _, extract::Request, response::Response};

#[cfg(feature = "postgres")]
use super::tx::Transacted;
use super::{
    boundary::Taken,
    evaluated::Evaluated,
    guarded::{Guarded, Head},
    idempotency::Idempotency,
    identity::Identification,
    key,
    known::Known,
    policy::{KeySource, Policy, Stage},
    problem::Problem,
    scope::Scope,
};
use crate::{
    engine::{Key, key::store_key},
    store::{BoxFuture, Extracted},
};

/// What a request's headers say about its key.
pub(super) enum Admission {
    /// It has none and needs none.
    WithoutKey,
    /// `None`: its key is an expression.
    WithKey(Option<Key>),
}

/// Whether a request is guarded.
pub(super) enum Admitted {
    /// It has no key.
    Unguarded,
    Guarded(Guarded),
    /// With what to answer.
    Refused(BoxFuture<'static, Response>),
}

impl Admission {
    /// # Errors
    ///
    /// Returns what to answer if the key is not valid, or is missing although it is required.
    pub(super) fn from_request(
        policy: &Policy,
        request: &Request,
    ) -> Result<Self, BoxFuture<'static, Response>> {
        if policy.key == KeySource::Expression {
            return Ok(Self::WithKey(None));
        }
        let problem = match key::read(policy, request.headers()) {
            Ok(None) if policy.required => Problem::missing_key(&policy.header_names()[0]),
            Ok(None) => return Ok(Self::WithoutKey),
            Ok(key) => return Ok(Self::WithKey(key)),
            Err(problem) => problem,
        };
        Err(refuse(problem, request))
    }

    /// Whether there may be a key to look up, and the expressions can be evaluated before
    /// extraction.
    pub(super) fn is_evaluated_now(&self, policy: &Policy) -> bool {
        matches!(self, Self::WithKey(_)) && policy.evaluated == Stage::BeforeExtraction
    }
}

/// Takes `request` in, whose expressions were evaluated if they can be before extraction.
pub(super) fn admit(
    policy: &'static Policy,
    boundary: Taken,
    admission: Admission,
    evaluated: &Evaluated,
    known: Known,
    extracted: Extracted,
    request: &mut Request,
) -> Admitted {
    let Admission::WithKey(key) = admission else {
        return without_key(policy, boundary, known, request);
    };
    let mut scope = Scope::from_request(policy, request).fields();
    let identification = match policy.evaluated {
        Stage::BeforeExtraction => {
            let key = match evaluated.key_or(key) {
                Ok(Some(key)) => key,
                Ok(None) => return without_key(policy, boundary, known, request),
                Err(problem) => return Admitted::Refused(refuse(problem, request)),
            };
            let store_key = store_key(&mut scope, evaluated.principal_text(), &key);
            Identification::Known { key, store_key, expression: evaluated.fingerprint }
        }
        Stage::AfterExtraction => Identification::open(key, scope),
    };
    let settings = Arc::clone(Idempotency::for_request(request.extensions()));
    let around = boundary.with_key(policy, request);
    *request = take(request).with_limited_body();
    let head = Head { policy, settings, around, identification, known, extracted };
    Admitted::Guarded(Guarded::new(head, request))
}

/// A request without a key is guarded only if its handler may take a transaction.
#[cfg_attr(
    not(feature = "postgres"),
    expect(unused_variables, reason = "no other store has transactions")
)]
fn without_key(
    policy: &'static Policy,
    boundary: Taken,
    known: Known,
    request: &mut Request,
) -> Admitted {
    boundary.without_key();
    #[cfg(feature = "postgres")]
    if let Some(transacted) = Transacted::of(policy, known, request) {
        return Admitted::Guarded(Guarded::Unkeyed(transacted));
    }
    Admitted::Unguarded
}

fn refuse(problem: Problem, request: &Request) -> BoxFuture<'static, Response> {
    Box::pin(ready(Idempotency::for_request(request.extensions()).respond(problem)))
}
