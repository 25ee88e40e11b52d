//! `RedisStore` on real servers: the conformance suite on one server and on a cluster, and what
//! happens when the server forgets, fills up, hangs, dies and comes back.

mod cluster;
mod connecting;
mod faults;
mod limits;
mod pools;
mod sentinel;
mod verbs;

use std::time::Duration;

use idempotent_runtime::{Attempt, Claim, RedisStore, Store, StoreError, StoreKey};
use idempotent_test_support::PATIENCE;
use test_servers::Redis;
use tokio::time::timeout;

use crate::{at, fresh};

const LEASE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(3600);

async fn connect(redis: &Redis) -> RedisStore {
    RedisStore::connect(redis.url()).await.expect("the server runs")
}

async fn claim(store: &impl Store, attempt: &Attempt) -> Result<Claim, StoreError> {
    timeout(PATIENCE, store.claim(attempt, LEASE)).await.expect("a claim does not hang")
}

async fn claimed(store: &impl Store) -> Attempt {
    let attempt = fresh();
    assert_claimed(claim(store, &attempt).await);
    attempt
}

#[track_caller]
fn assert_claimed(claim: Result<Claim, StoreError>) {
    match claim {
        Ok(Claim::Claimed { lease: Some(lease) }) => assert_eq!(lease, LEASE),
        claim => panic!("the key was not claimed but {claim:?}"),
    }
}

async fn look(store: &impl Store, key: StoreKey) -> Claim {
    claim(store, &at(key)).await.expect("the key can be read")
}
