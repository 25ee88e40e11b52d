//! What another release has left in a store is not an outage: it may be a response that must not be
//! made twice. So `OnStoreError::Execute` does not apply to it.

use idempotent_axum::OnStoreError;
use idempotent_test_support::Leased;

use crate::service::{Seen, service_on};

#[tokio::test]
async fn a_record_of_an_unknown_version_never_runs_under_execute() {
    // Version, kind and flags.
    for at in [2, 3, 4] {
        let service = service_on(Leased::default(), |settings| {
            settings.on_store_error(OnStoreError::Execute)
        });
        let client = service.client();
        assert_eq!(client.send().await, Seen::run(0));
        service.probe.store.rewrite(|record| rewritten(record, at));
        for _ in 0..2 {
            assert_eq!(client.send().await, Seen::problem(503, "store_unavailable"), "{at}");
        }
        assert_eq!(service.app.runs.get(), 1);
    }
}

/// A record as another release wrote it: this byte differs, and its checksum is right.
fn rewritten(record: &mut [u8], at: usize) {
    record[at] = 99;
    let checksum = crc32fast::hash(&[&record[..5], &record[9..]].concat());
    record[5..9].copy_from_slice(&checksum.to_le_bytes());
}

#[cfg(feature = "redis")]
mod in_redis {
    use idempotent_axum::{OnStoreError, RedisStore};
    use idempotent_test_support::Fault;
    use test_servers::Redis;

    use crate::service::{Seen, Service, service_on};

    /// A service that executes without its store, and the response that another release has left.
    async fn service(redis: &Redis) -> Service<RedisStore> {
        let store = RedisStore::connect(redis.url()).await.unwrap();
        service_on(store, |settings| settings.on_store_error(OnStoreError::Execute))
    }

    /// Rewrites one byte of the only entry.
    fn rewrite(redis: &Redis, at: usize, byte: &str) {
        let key = redis.cli(&["KEYS", "*"]);
        redis.cli(&["SETRANGE", &key, &at.to_string(), byte]);
    }

    #[tokio::test]
    async fn an_entry_in_an_unknown_state_never_runs_under_execute() {
        let redis = Redis::start();
        let service = service(&redis).await;
        let client = service.client();
        assert_eq!(client.send().await, Seen::run(0));
        rewrite(&redis, 0, "t");
        for _ in 0..2 {
            assert_eq!(client.send().await, Seen::problem(503, "store_unavailable"));
        }
        // Nor if the store cannot be asked again.
        service.probe.claim.next([Fault::Works]);
        service.probe.claim.always(Fault::Fails);
        assert_eq!(client.send().await, Seen::problem(503, "store_unavailable"));
        service.probe.claim.always(Fault::Works);
        service.probe.claim.next([Fault::Fails]);
        assert_eq!(client.send().await, Seen::problem(503, "store_unavailable"));
        assert_eq!(service.app.runs.get(), 1);
        // It is left as it is: its own release reads it again.
        service.idempotency.drain().await;
        rewrite(&redis, 0, "S");
        assert_eq!(client.send().await, Seen::replay(0));
    }

    #[tokio::test]
    async fn a_record_of_an_unknown_version_never_runs_under_execute() {
        let redis = Redis::start();
        let service = service(&redis).await;
        let client = service.client();
        assert_eq!(client.send().await, Seen::run(0));
        // After state, token, fingerprint and operation, and the record's magic number.
        let length = "return string.byte(redis.call('GET', KEYS[1]), 34)";
        let length = redis.cli(&["EVAL", length, "1", &redis.cli(&["KEYS", "*"])]);
        let length: usize = length.parse().expect("a number");
        rewrite(&redis, 33 + 1 + length + 2, "Z");
        for _ in 0..2 {
            assert_eq!(client.send().await, Seen::problem(503, "store_unavailable"));
        }
        assert_eq!(service.app.runs.get(), 1);
    }
}
