//! Admits a request, judging by its head, before its body is read.

use std::{future::ready, mem::take, sync::Arc};

use axum::{RequestExt as _, extract::Request, response::Response};
use tracing::{Level, Span, field, level_filters::LevelFilter};

#[cfg(feature = "postgres")]
use super::tx::Transacted;
use super::{
    boundary::Taken,
    evaluated::Evaluated,
    guarded::{Guarded, Head},
    idempotency::{Idempotency, Settings},
    identity::Identification,
    key,
    known::Known,
    policy::{KeySource, Policy, Stage},
    problem::Problem,
    scope::Scope,
};
use crate::{
    engine::{Key, is_heard, key::store_key},
    store::{BoxFuture, Extracted},
};

/// What a request's headers say about its key.
pub(super) enum Admission {
    /// It has no key and needs none.
    WithoutKey,
    /// `None` if the key is an expression.
    WithKey(Option<Key>),
}

/// Whether a request is guarded.
#[allow(clippy::large_enum_variant, reason = "a box would cost each request an allocation")]
pub(super) enum Admitted {
    /// It has no key.
    Unguarded,
    /// With the span that the request is answered in, if that is enabled.
    Guarded(Guarded, Option<Arc<Span>>),
    /// With the response.
    Refused(BoxFuture<'static, Response>),
}

impl Admission {
    /// # Errors
    ///
    /// Returns the refusal if the key is invalid, or if it is required and missing.
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
        Err(refuse(policy, problem, request))
    }

    /// Whether there may be a key to look up, and the expressions can be evaluated before
    /// extraction.
    pub(super) fn is_evaluated_now(&self, policy: &Policy) -> bool {
        matches!(self, Self::WithKey(_)) && policy.evaluated == Stage::BeforeExtraction
    }
}

/// Admits `request`, after evaluating the expressions that can be evaluated before extraction.
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
    let settings = Arc::clone(Idempotency::for_request(request.extensions()));
    let named = Scope::from_request(policy, request);
    let mut scope = named.fields();
    let identification = match policy.evaluated {
        Stage::BeforeExtraction => {
            let key = match evaluated.key_or(key) {
                Ok(Some(key)) => key,
                Ok(None) => return without_key(policy, boundary, known, request),
                Err(problem) => return Admitted::Refused(refuse(policy, problem, request)),
            };
            let digesting = &settings.engine.digesting;
            let store_key = store_key(&mut scope, evaluated.principal_text(), &key, digesting);
            Identification::Known { key, store_key, expression: evaluated.fingerprint }
        }
        Stage::AfterExtraction => Identification::open(key, scope),
    };
    let (span, operation) = watch(&settings, named, &identification);
    let around = boundary.with_key(policy, request);
    *request = take(request).with_limited_body();
    let head = Head {
        policy,
        settings,
        around,
        identification,
        known,
        extracted,
        operation,
        span: span.clone(),
    };
    Admitted::Guarded(Guarded::new(head, request), span)
}

/// The span of a request with a key, and the operation's name if something already needs it.
fn watch(
    settings: &Settings,
    scope: Scope<'_>,
    identification: &Identification,
) -> (Option<Arc<Span>>, Option<Arc<str>>) {
    // Checked first: with `tracing`'s feature `log`, an unwanted span costs more.
    let is_wanted = LevelFilter::current() >= Level::INFO;
    if !is_wanted && !settings.engine.is_heard() {
        return (None, None);
    }
    let span = tracing::info_span!(
        target: crate::TARGET,
        "idempotency",
        operation = field::Empty,
        key = field::Empty,
        outcome = field::Empty,
    );
    let operation = scope.name();
    if span.is_disabled() {
        return (None, operation);
    }
    span.record("operation", operation.as_deref().unwrap_or("other"));
    if let Some(key) = identification.store_key() {
        span.record("key", field::display(key));
    }
    (Some(Arc::new(span)), operation)
}

/// A request without a key is guarded only if its handler may use a transaction.
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
    #[cfg(feature = "postgres")]
    let boundary = match Transacted::of(policy, boundary, known, request) {
        Ok(transacted) => return Admitted::Guarded(Guarded::Unkeyed(transacted), None),
        Err(boundary) => boundary,
    };
    boundary.without_key();
    if is_heard() {
        tell_without_key(policy, request);
    }
    Admitted::Unguarded
}

#[cold]
fn tell_without_key(policy: &Policy, request: &Request) {
    let settings = Idempotency::for_request(request.extensions());
    let operation = Scope::from_request(policy, request).name();
    settings.engine.tell_without_key(operation.as_deref());
}

fn refuse(policy: &Policy, problem: Problem, request: &Request) -> BoxFuture<'static, Response> {
    let settings = Idempotency::for_request(request.extensions());
    let operation = Scope::from_request(policy, request).name();
    let refusal = settings.refuse_unasked(None, operation.as_deref(), problem);
    Box::pin(ready(refusal))
}
