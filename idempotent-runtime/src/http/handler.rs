//! One request, from the attribute to the store and back.
//!
//! [`run`] admits it: the key is read, and expressions that can be are evaluated. A request
//! without a key then runs as if the attribute were absent. One with a key is [`guarded`]: its body
//! is read, its last parameter is extracted, and it runs or is replayed as the engine says.
//!
//! A future's arguments and locals all take room in it, and beyond a kibibyte glibc allocates
//! slowly: what is rare is boxed, and what is large is held once.

use std::{
    any::TypeId,
    future::{Future, ready},
};

use axum::{extract::Request, response::Response};

#[cfg(feature = "postgres")]
use super::tx::Transacted;
use super::{
    admission::{Admission, admit},
    evaluated::Evaluated,
    guarded::{Guarded, Preparation},
    idempotency::Idempotency,
    idempotent::{Extract, Idempotent, Source},
    known::Known,
    policy::Policy,
    problem::Problem,
};
use crate::store::BoxFuture;

/// A handler that has not started.
pub(super) type Handler = BoxFuture<'static, Response>;

/// Runs an `#[idempotent]` handler, or replays its response.
///
/// `handler` is given a place for what the expressions say, if they are to be evaluated before the
/// last parameter is extracted, and gives what takes that parameter, with such a place if they are
/// to be evaluated only then; the future that this gives is the user's body. `respond` is an argument
/// of its own so that the expansion can name the declared return type there: an error about it
/// points at it.
pub(super) fn run<E, R, F, G, Fut>(
    policy: &'static Policy,
    known: Known,
    last: Idempotent<E>,
    respond: fn(R) -> Response,
    handler: F,
) -> BoxFuture<'static, Response>
where
    E: Send + 'static,
    R: 'static,
    F: FnOnce(Option<&mut Evaluated>) -> G + Send + 'static,
    G: FnOnce(E, Option<&mut Evaluated>) -> Fut + Send + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    // Little is compiled for each handler: the rest does not need its types.
    let mut pending = match last.0 {
        Source::Value(value) => {
            return unguarded(Box::pin(ready(Ok(value))), handler(None), respond);
        }
        Source::Request(pending) => pending,
    };
    let request = pending.request();
    let admission = match Admission::from_request(policy, request) {
        Ok(admission) => admission,
        Err(problem) => return refuse(problem, request),
    };
    let mut evaluated = Evaluated::default();
    let start = handler(admission.is_evaluated_now(policy).then_some(&mut evaluated));
    let admitted = match admission {
        Admission::WithoutKey => Ok(None),
        Admission::WithKey(key) => admit(policy, key, &evaluated, known, TypeId::of::<E>, request),
    };
    match admitted {
        #[cfg(feature = "postgres")]
        Ok(None) if let Some(transacted) = Transacted::of(policy, known, request) => {
            Box::pin(async move {
                match pending.extract().await {
                    Ok(last) => {
                        let body = start(last, None);
                        transacted.run(Box::pin(async move { respond(body.await) })).await
                    }
                    Err(rejection) => rejection,
                }
            })
        }
        Ok(None) => unguarded(pending.extract(), start, respond),
        Ok(Some(request)) => guarded(request, pending, move |last, evaluated| {
            let body = start(last, evaluated);
            Box::pin(async move { respond(body.await) })
        }),
        Err(problem) => refuse(problem, request),
    }
}

/// A request without a key, or a direct call.
fn unguarded<E, R, Fut>(
    extraction: BoxFuture<'static, Result<E, Response>>,
    start: impl FnOnce(E, Option<&mut Evaluated>) -> Fut + Send + 'static,
    respond: fn(R) -> Response,
) -> BoxFuture<'static, Response>
where
    E: Send + 'static,
    R: 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    Box::pin(async move {
        match extraction.await {
            Ok(last) => respond(start(last, None).await),
            Err(rejection) => rejection,
        }
    })
}

/// A request with a key, or one whose key is an expression. `start` makes the handler of its last
/// parameter, and evaluates the expressions that use it.
fn guarded<E: Send + 'static>(
    request: Guarded,
    mut pending: Box<dyn Extract<E>>,
    start: impl FnOnce(E, Option<&mut Evaluated>) -> Handler + Send + 'static,
) -> BoxFuture<'static, Response> {
    Box::pin(async move {
        let mut prepared = match request.prepare(pending.request()).await {
            Preparation::Prepared(prepared) => prepared,
            Preparation::Answered(answer) => return answer,
        };
        let last = match pending.extract().await {
            Ok(last) => last,
            Err(rejection) => return rejection,
        };
        let handler = start(last, prepared.evaluated());
        prepared.answer(handler).await
    })
}

fn refuse(problem: Problem, request: &Request) -> BoxFuture<'static, Response> {
    Box::pin(ready(Idempotency::for_request(request.extensions()).respond(problem)))
}
