//! Admitting a request: what its head says, before its body is read.

use std::{mem::take, sync::Arc};

use axum::{RequestExt as _, extract::Request, response::Response};

use super::{
    arrival::{Arrival, Naming},
    evaluated::Evaluated,
    idempotency::Idempotency,
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
    Refused(Response),
}

impl Admission {
    pub(super) fn of_request(policy: &Policy, request: &Request) -> Self {
        if policy.key == KeySource::Expression {
            return Self::WithKey(None);
        }
        match key::read(policy, request.headers()) {
            Ok(Some(key)) => Self::WithKey(Some(key)),
            Ok(None) if policy.required => {
                Self::Refused(refuse(request, Problem::missing_key(&policy.header_names()[0])))
            }
            Ok(None) => Self::WithoutKey,
            Err(problem) => Self::Refused(refuse(request, problem)),
        }
    }
}

/// Takes `request` in, whose expressions were evaluated if they can be before extraction.
///
/// `None` if it has no key after all. `Err` is a refusal.
pub(super) fn admit(
    policy: &'static Policy,
    key: Option<Key>,
    evaluated: Evaluated,
    known: Known,
    extracted: Extracted,
    request: &mut Request,
) -> Result<Option<Arrival>, Response> {
    let mut scope = Scope::of_request(policy, request).fields();
    let naming = match policy.evaluated {
        Stage::BeforeExtraction => {
            let key = evaluated.key_or(key).map_err(|problem| refuse(request, problem))?;
            let Some(key) = key else { return Ok(None) };
            let store_key = store_key(&mut scope, evaluated.principal_text(), &key);
            Naming::Known { key, store_key, expression: evaluated.fingerprint }
        }
        Stage::AfterExtraction => Naming::open(key, scope),
    };
    let settings = Arc::clone(Idempotency::of_request(request.extensions()));
    *request = take(request).with_limited_body();
    Ok(Some(Arrival { policy, settings, naming, known, extracted }))
}

fn refuse(request: &Request, problem: Problem) -> Response {
    Idempotency::of_request(request.extensions()).respond(problem)
}
