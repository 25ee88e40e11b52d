//! HTTP: one request, from its head to the response. The only room that names Axum.
//!
//! A request enters through the handler's last parameter ([`idempotent`](self)), and `handler`
//! takes it from there: the key is read, the expressions are evaluated, the body is read, the
//! request is identified, and the engine is asked. Then the handler runs and its response is kept,
//! or a stored response is replayed, or a problem says why neither is possible.

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
#[cfg(feature = "testing")]
mod origin;
mod outcome;
pub(crate) mod policy;
mod prepared;
mod problem;
pub(crate) mod scope;
mod sealing;
pub(crate) mod stored;
mod target;
#[cfg(feature = "postgres")]
mod tx;

#[cfg(feature = "testing")]
pub(crate) use self::origin::Origin;
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
