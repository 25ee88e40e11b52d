//! With the same digest secret, instances name and derive the same keys; with a different one, or
//! none, they do not.

use axum::{Router, routing::post as route};
use idempotent_axum::{
    Idempotency, IdempotencyKey, MemoryStore, OperationState, Store, idempotent,
};
use idempotent_test_support::{Leased, post};

use super::{DIGEST, OLD};
use crate::service::{Client, Seen, service_on};

const SECRETS: [Option<[u8; 32]>; 3] = [None, Some(*DIGEST), Some(*OLD)];

fn keyed(settings: Idempotency, secret: Option<[u8; 32]>) -> Idempotency {
    match secret {
        Some(secret) => settings.digest_secret(secret),
        None => settings,
    }
}

#[tokio::test]
async fn instances_with_one_secret_share_their_keys_and_no_others() {
    for (at, secret) in SECRETS.into_iter().enumerate() {
        let store = Leased::default();
        let first = service_on(store.clone(), |settings| keyed(settings, secret));
        let client = first.client();
        assert_eq!(client.send().await, Seen::run(0));
        for (other_at, other) in SECRETS.into_iter().enumerate() {
            let other = service_on(store.clone(), |settings| keyed(settings, other));
            let client = Client { key: client.key.clone(), ..other.client() };
            let seen = if at == other_at { Seen::replay(0) } else { Seen::run(0) };
            assert_eq!(client.send().await, seen, "{at} and {other_at}");
        }
    }
}

/// Its principal is known once the body is extracted.
#[idempotent(format = "any", principal = body)]
async fn late(key: IdempotencyKey, body: String) -> String {
    format!("{body} {}", key.derive("provider"))
}

#[idempotent(format = "any", principal = "ann")]
async fn early(key: IdempotencyKey, body: String) -> String {
    format!("{body} {}", key.derive("provider"))
}

async fn assert_named_by_hand(store: impl Store + Clone) {
    let routes = || Router::new().route("/early", route(early)).route("/late", route(late));
    let mut derived = Vec::new();
    for secret in SECRETS {
        let idempotency = keyed(Idempotency::new(store.clone()), secret);
        let app = routes().layer(idempotency.clone());
        for path in ["/early", "/late"] {
            let key = |idempotency: &Idempotency| {
                idempotency.operation(format!("POST {path}")).principal("ann").key("order-7")
            };
            assert_eq!(key(&idempotency).state().await.unwrap(), OperationState::Absent);
            let answer = post(path).key("order-7").body("ann").send(&app).await;
            let is_stored = |state| matches!(state, OperationState::Stored { .. });
            assert!(is_stored(key(&idempotency).state().await.unwrap()), "{path}");
            derived.push(answer.text().to_owned());

            // What a job derives from the same key is the same.
            let job = keyed(Idempotency::new(Leased::default()), secret);
            let done = key(&job).run(async |key| Ok::<_, ()>(key.derive("provider").to_string()));
            assert_eq!(format!("ann {}", done.await.unwrap().value), answer.text());
        }
    }
    derived.sort_unstable();
    derived.dedup();
    assert_eq!(derived.len(), 2 * SECRETS.len(), "each is another key");
}

#[tokio::test]
async fn a_key_by_hand_is_the_one_of_a_request_under_each_secret() {
    assert_named_by_hand(Leased::default()).await;
    assert_named_by_hand(MemoryStore::new()).await;
}
