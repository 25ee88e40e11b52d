//! Finds out whether the user may run what the store's methods run, by running it.

use std::time::Duration;

use bytes::Bytes;

use super::{RedisStore, failure::is_want_of_right};
use crate::store::{
    Attempt, ConnectError, Fingerprint, Hold, Store as _, StoreError, StoreKey, Token,
};

/// In case the user may not delete what this has written.
const SOON: Duration = Duration::from_secs(1);

/// Runs every method on a key that nothing uses. Failures other than a missing permission do not
/// count, since they may pass.
pub(super) async fn probe(store: &RedisStore) -> Result<(), ConnectError> {
    let key = StoreKey::from_bytes(*Token::random().as_bytes());
    let attempt = Attempt::new(key, Fingerprint::from_bytes([0; 16]), Token::random());
    verbs(store, &attempt).await.or_else(|error| {
        if !is_want_of_right(&error) {
            return Ok(());
        }
        let message = format!(
            "the user may not run what the idempotency store needs in Redis: EVAL, EVALSHA, GET, \
             GETRANGE, SET, DEL, PEXPIRE and PTTL on keys that begin with `{}:`",
            store.prefix
        );
        Err(ConnectError::new(message).because(error))
    })
}

async fn verbs(store: &RedisStore, attempt: &Attempt) -> Result<(), StoreError> {
    store.claim(attempt, SOON).await?;
    store.look(attempt.key).await?;
    // A renewal that does not extend anything would not attempt to.
    let _: Hold = store.renew(attempt, 2 * SOON).await?;
    store.read(attempt.key).await?;
    let _: Hold = store.complete(attempt, Bytes::new(), SOON).await?;
    let _ = store.forget(attempt.key, false).await?;
    store.release(attempt).await
}
