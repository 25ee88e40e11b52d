//! [`Tx`] as an extractor.

mod error;
mod place;
mod unkeyed;

use axum::extract::FromRequestParts;
use http::request::Parts;

pub use self::error::{TxError, TxRejection};
pub(super) use self::{
    place::Place,
    unkeyed::{Transacted, run_unkeyed},
};
use super::idempotency::Idempotency;
use crate::engine::{Isolation, Tx};

impl<S: Sync, I: Isolation> FromRequestParts<S> for Tx<I> {
    type Rejection = TxRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, TxRejection> {
        let settings = Idempotency::for_request(&parts.extensions);
        if settings.engine.store.transactional().is_none() {
            return Err(TxRejection::without_store(parts));
        }
        match Place::take(&mut parts.extensions, I::LEVEL) {
            Ok(slot) => Ok(Self::of(slot)),
            Err(_) => Err(TxRejection::twice(parts)),
        }
    }
}
