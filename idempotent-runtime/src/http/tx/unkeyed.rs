//! Requests without a key whose handler takes a transaction.

use axum::{extract::Request, response::Response};
use http::Method;

use super::Place;
use crate::{
    engine::Unkeyed,
    http::{
        handler::Handler, idempotency::Idempotency, keep::Keeping, known::Known, policy::Policy,
    },
    store::Slot,
};

/// A request without a key whose parameters may ask for a transaction.
pub(in crate::http) struct Transacted {
    slot: Slot,
    keeping: Keeping,
}

impl Transacted {
    /// `None` if none can be asked for: nearly always that takes no look into the request.
    pub(in crate::http) fn of(
        policy: &'static Policy,
        known: Known,
        request: &mut Request,
    ) -> Option<Self> {
        let settings = Idempotency::transactional_for(request.extensions())?;
        let keeping =
            Keeping::new(policy.replay, settings.clone(), request.method() == Method::CONNECT);
        let slot = Place::of_request(known, request.extensions_mut())?;
        Some(Self { slot, keeping })
    }

    /// Runs `handler`, now that its parameters are extracted.
    pub(in crate::http) async fn run(self, handler: Handler) -> Response {
        let Self { slot, keeping } = self;
        if slot.wanted().is_none() {
            return handler.await;
        }
        run_unkeyed(handler, slot, keeping).await
    }
}

/// Runs `handler` in a transaction, and commits it or rolls it back, as the head of the response
/// says. If this is dropped before, it is rolled back.
pub(in crate::http) async fn run_unkeyed(
    handler: Handler,
    slot: Slot,
    keeping: Keeping,
) -> Response {
    let settings = &keeping.settings;
    let transaction = match Unkeyed::begin(settings.engine.clone(), slot).await {
        Ok(transaction) => transaction,
        Err(refusal) => return settings.refuse(refusal),
    };
    let mut response = handler.await;
    let is_effective = keeping.is_effective(&mut response);
    match transaction.settle(is_effective).await {
        Ok(()) => response,
        Err(refusal) => settings.refuse(refusal),
    }
}
