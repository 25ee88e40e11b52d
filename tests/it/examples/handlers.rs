//! Handlers, and what a request to them gets.

use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering};

use http::StatusCode;
use idempotent_axum::{Idempotency, MemoryStore};
use idempotent_test_support::{fresh_key, post as request};

#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/custom_errors.rs"]
mod custom_errors;
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/downstream_key.rs"]
mod downstream_key;
#[cfg(feature = "utoipa")]
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/openapi.rs"]
mod openapi;
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/principal.rs"]
mod principal;
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/run_boundary.rs"]
mod run_boundary;
#[cfg(feature = "testing")]
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/testing_a_handler.rs"]
mod testing_a_handler;
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/webhook.rs"]
mod webhook;

#[tokio::test]
async fn a_principal_keeps_callers_with_one_key_apart() {
    let (app, key) = (principal::app(Idempotency::new(MemoryStore::new())), fresh_key());
    let order = async |caller: &str| {
        let order = request("/orders").key(&key).body("tea");
        order.header("authorization", format!("Bearer {caller}")).send(&app).await
    };
    for replayed in [false, true] {
        for (caller, text) in [("ada", "tea for ada\n"), ("bob", "tea for bob\n")] {
            let answer = order(caller).await;
            let expected = (StatusCode::CREATED, text, replayed);
            assert_eq!((answer.status, answer.text(), answer.is_replay()), expected);
        }
    }
    let stranger = order("eve").await;
    assert_eq!((stranger.status, stranger.is_replay()), (StatusCode::UNAUTHORIZED, false));
}

#[tokio::test]
async fn the_librarys_errors_have_the_services_own_format() {
    let app = custom_errors::app(Idempotency::new(MemoryStore::new()));
    let code = async |key: &str, cents: &'static str| {
        let answer = request("/transfers").key(key).body(cents).send(&app).await;
        (answer.status.as_u16(), answer.json()["error"]["code"].as_str().map(str::to_owned))
    };
    assert_eq!(code("7", "100").await, (400, Some("invalid_key".to_owned())));
    assert_eq!(code(&fresh_key(), "a lot").await, (422, Some("invalid_amount".to_owned())));

    let key = fresh_key();
    let first = request("/transfers").key(&key).body("100").send(&app).await;
    assert_eq!((first.status, first.text()), (StatusCode::CREATED, "transferred 100 cents\n"));
    assert_eq!(code(&key, "200").await, (422, Some("key_reused".to_owned())));

    let without = request("/transfers").body("100").send(&app).await;
    let message =
        "This operation requires an idempotency key. Send one in the idempotency-key header";
    let expected = serde_json::json!({ "error": { "code": "missing_key", "message": message } });
    assert_eq!((without.status, without.json()), (StatusCode::BAD_REQUEST, expected));
}

#[tokio::test]
async fn a_retry_that_runs_again_charges_under_the_key_of_the_first_try() {
    let others = Arc::new(downstream_key::Others::default());
    let (app, key) = (downstream_key::app(Arc::clone(&others)), fresh_key());
    let order = async |key: &str| request("/orders").key(key).body("tea").send(&app).await;
    assert_eq!(order(&key).await.status, StatusCode::BAD_GATEWAY);
    for replayed in [false, true] {
        let answer = order(&key).await;
        let expected = (StatusCode::CREATED, "tea: charge 1\n", replayed);
        assert_eq!((answer.status, answer.text(), answer.is_replay()), expected);
    }
    assert_eq!(order(&fresh_key()).await.text(), "tea: charge 2\n");
    assert_eq!(others.charges.lock().await.len(), 2);
}

#[tokio::test]
async fn a_commit_that_fails_is_a_run_that_failed() {
    let ledger = Arc::new(run_boundary::Ledger::default());
    let (app, key) = (run_boundary::app(Arc::clone(&ledger)), fresh_key());
    for (status, replayed) in [(500, false), (201, false), (201, true)] {
        let answer = request("/payments").key(&key).body("order 7").send(&app).await;
        assert_eq!((answer.status.as_u16(), answer.is_replay()), (status, replayed));
    }
    assert_eq!(*ledger.rows.lock().await, ["order 7"]);
}

#[cfg(feature = "utoipa")]
#[tokio::test]
async fn the_document_describes_the_key_and_the_handler_does_what_it_says() {
    let app = openapi::app();
    let document = idempotent_test_support::ask(http::Method::GET, "/openapi.json");
    let document = document.send(&app).await.json();
    let operation = &document["paths"]["/invites"]["post"];
    let key = &operation["parameters"][0];
    assert_eq!((&key["name"], &key["required"]), (&"idempotency-key".into(), &true.into()));
    assert!(operation["responses"]["201"]["headers"]["idempotent-replayed"].is_object());
    for status in ["400", "409", "422", "503"] {
        let content = &operation["responses"][status]["content"];
        assert!(content["application/problem+json"].is_object(), "{status} in {document}");
    }

    let invite = r#"{"email":"ada@example.com"}"#;
    let key = fresh_key();
    for replayed in [false, true] {
        let answer = request("/invites").key(&key).json(invite).send(&app).await;
        let expected = (StatusCode::CREATED, invite, replayed);
        assert_eq!((answer.status, answer.text(), answer.is_replay()), expected);
    }
}

#[tokio::test]
async fn a_webhook_counts_an_event_once_and_a_forged_one_never() {
    use hmac::{Hmac, KeyInit as _, Mac as _};

    let total = Arc::new(AtomicU64::new(0));
    let app = webhook::app(Arc::clone(&total));
    let deliver = async |body: &str, signed: &str| {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(webhook::SECRET).unwrap();
        mac.update(signed.as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        let delivery = request("/webhooks/payments").header("x-signature", signature);
        delivery.body(body.to_owned()).send(&app).await
    };
    let id = idempotent_test_support::fresh_key();
    let event = |attempt: u8| format!(r#"{{"id":"{id}","amount":7,"attempt":{attempt}}}"#);
    let forged = deliver(&event(1), "something else").await;
    assert_eq!(forged.status, StatusCode::UNAUTHORIZED);
    for attempt in 1..4 {
        let answer = deliver(&event(attempt), &event(attempt)).await;
        assert_eq!((answer.status, answer.is_replay()), (StatusCode::NO_CONTENT, attempt > 1));
    }
    let forged = deliver(&event(5), "something else").await;
    assert_eq!((forged.status, forged.is_replay()), (StatusCode::UNAUTHORIZED, false));
    assert_eq!(total.load(Ordering::Relaxed), 7);
}

#[cfg(feature = "testing")]
#[tokio::test(start_paused = true)]
async fn a_handler_is_tested_directly_after_its_ttl_and_without_its_store() {
    let expected = "\
called directly: 201 Created
after the ttl: 201 Created
without the store: 503 Service Unavailable";
    assert_eq!(testing_a_handler::report().await, expected);
}
