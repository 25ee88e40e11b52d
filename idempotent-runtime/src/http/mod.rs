//! HTTP: one request, from its head to the response. The only room that names Axum.
//!
//! A request enters by the handler's last parameter ([`idempotent`](self)), and
//! `handler` leads it: the key is read, the expressions are evaluated, the body is read, the
//! request is named, the engine is asked; then the handler runs and what it answers is kept, or a
//! stored response is replayed, or a problem says why neither can be.

mod admission;
pub(crate) mod body;
mod boundary;
mod by_hand;
pub(crate) mod evaluated;
pub(crate) mod fingerprint;
mod guarded;
mod handler;
mod idempotency;
mod idempotency_key;
mod idempotent;
mod identity;
mod install;
mod keep;
pub(crate) mod key;
mod known;
mod layer;
mod names;
#[cfg(any(feature = "aide", feature = "utoipa"))]
pub mod openapi;
mod outcome;
pub(crate) mod policy;
mod prepared;
mod problem;
pub(crate) mod scope;
pub(crate) mod stored;
mod target;
#[cfg(feature = "postgres")]
mod tx;

#[cfg(feature = "postgres")]
pub use self::tx::{TxError, TxRejection};
pub use self::{
    boundary::{RunBoundary, RunBoundaryService},
    evaluated::Evaluated,
    idempotency::Idempotency,
    idempotent::{Idempotent, Via},
    install::InstallError,
    known::{Known, Probe},
    layer::IdempotencyService,
    outcome::Outcome,
    problem::Problem,
};
