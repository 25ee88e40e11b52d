//! Requests without a key whose handler uses a transaction.

use std::{convert::Infallible, sync::Arc};

use axum::{extract::Request, response::Response};
use http::Method;

use super::Place;
use crate::{
    engine::{Unkeyed, is_heard},
    http::{
        boundary::{Around, Held, Run, Taken},
        handler::Handler,
        idempotency::Idempotency,
        keep::Keeping,
        known::Known,
        policy::Policy,
        scope::Scope,
    },
    store::Slot,
};

/// A request without a key whose parameters may ask for a transaction.
pub(in crate::http) struct Transacted {
    slot: Slot,
    keeping: Keeping,
    around: Around,
    /// The operation's name, if it is going to be reported.
    operation: Option<Arc<str>>,
}

impl Transacted {
    /// Gives `boundary` back if no transaction can be asked for, which is nearly always known
    /// without looking into the request.
    pub(in crate::http) fn of(
        policy: &'static Policy,
        boundary: Taken,
        known: Known,
        request: &mut Request,
    ) -> Result<Self, Taken> {
        let Some(settings) = Idempotency::transactional_for(request.extensions()) else {
            return Err(boundary);
        };
        let keeping =
            Keeping::new(policy.replay, settings.clone(), request.method() == Method::CONNECT);
        match Place::of_request(known, request.extensions_mut()) {
            Some(slot) => Ok(Self {
                slot,
                keeping,
                around: boundary.with_key(policy, request),
                operation: is_heard()
                    .then(|| Scope::from_request(policy, request).name())
                    .flatten(),
            }),
            None => Err(boundary),
        }
    }

    /// Runs `handler`, now that its parameters have been extracted.
    pub(in crate::http) async fn run(self, handler: Handler) -> Response {
        let Self { slot, keeping, around, operation } = self;
        if slot.wanted().is_none() {
            around.without_key();
            keeping.settings.engine.tell_without_key(operation.as_deref());
            return handler.await;
        }
        run_unkeyed(handler, slot, keeping, around, operation).await
    }
}

/// Runs `handler` in a transaction, and commits or rolls it back as the head of the response says:
/// here, or where the response passes the boundary. If this is dropped earlier, the transaction is
/// rolled back.
pub(in crate::http) async fn run_unkeyed(
    handler: Handler,
    slot: Slot,
    keeping: Keeping,
    mut around: Around,
    operation: Option<Arc<str>>,
) -> Response {
    let transaction = match Unkeyed::begin(keeping.settings.engine.clone(), slot, operation).await {
        Ok(transaction) => transaction,
        Err(refusal) => return keeping.settings.refuse(refusal),
    };
    let mut run = Run::new(Held::Transaction(transaction), keeping);
    if let Some(reserved) = around.reserved() {
        match reserved.lend(run, None) {
            Ok(lent) => return lent.run(handler).await,
            Err(own) => run = *own,
        }
    }
    let Ok(response) = run.settle::<Infallible>(Ok(Ok(handler.await))).await;
    response
}
