//! Instances of different releases on one store.

use std::time::Instant;

use crate::{
    fleet::{Backend, Invite, assert_unavailable, instance, on_each_store, runs},
    service::ENTITIES,
};

on_each_store! { a_response_of_another_release_is_refused_for_now_and_never_run_again }

/// Where a record says its version.
const VERSION: usize = 2;

/// Makes the records in the store those of another release.
fn set_version(backend: &Backend, version: u8) {
    match backend {
        Backend::Redis(redis) => {
            // Behind the state, the token and the fingerprint.
            let at = 1 + 16 + 16 + VERSION;
            let script = format!(
                "for _, key in ipairs(redis.call('KEYS', '*')) do
                     redis.call('SETRANGE', key, {at}, string.char({version}))
                 end"
            );
            redis.cli(&["EVAL", &script, "0"]);
        }
        Backend::Postgres(postgres) => {
            postgres.execute(&format!(
                "UPDATE idempotency_keys SET record = set_byte(record, {VERSION}, {version})"
            ));
        }
    }
}

async fn a_response_of_another_release_is_refused_for_now_and_never_run_again(backend: Backend) {
    let url = backend.url();
    let (one, other) = (instance(&url, "0s").await, instance(&url, "0s").await);
    let invite = Invite::new();
    let first = invite.to(&one).await;
    set_version(&backend, 2);
    for service in [&one, &other] {
        let since = Instant::now();
        let answer = invite.to(service).await;
        assert_unavailable(&answer, since.elapsed(), "another version");
    }
    assert_eq!(Invite::new().to(&other).await.status, 201, "other keys are as they were");
    assert_eq!(one.list(ENTITIES).await.len(), 1);
    assert_eq!(runs(&invite, &[&one, &other]).await, 1);

    set_version(&backend, 1);
    let replay = invite.to(&other).await;
    assert!(replay.replayed, "the record was left as it is");
    assert_eq!(replay.body, first.body);
}
