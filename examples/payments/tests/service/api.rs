//! What the API promises, with either handler.

use serde_json::{Value, json};
use test_servers::Postgres;

use crate::{client, count, fresh_key, pay, payments, send, sent};

/// Tests each of these with both handlers.
macro_rules! by_each_handler {
    ($($test:ident)*) => {
        mod tx {
            $(#[tokio::test]
            async fn $test() { super::$test("/payments").await; })*
        }

        mod plain {
            $(#[tokio::test]
            async fn $test() { super::$test("/payments/plain").await; })*
        }
    };
}

by_each_handler! {
    a_retry_gets_the_payment_that_was_made
    a_key_belongs_to_its_client_and_its_request
    a_refused_payment_leaves_nothing_and_its_key_free
    without_a_key_every_request_is_a_payment
}

async fn a_retry_gets_the_payment_that_was_made(path: &str) {
    let postgres = Postgres::start();
    let service = payments(&postgres.url(), &[]);
    let key = fresh_key();
    let (status, made) = sent(pay(&service, path, &key)).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!((&made["account"], &made["amount"]), (&json!("rent"), &json!(4200)));

    let retry = send(pay(&service, path, &key)).await;
    assert_eq!(retry.status(), 201);
    assert_eq!(retry.headers()["idempotent-replayed"], "true");
    assert_eq!(retry.json::<Value>().await.expect("it is JSON"), made);
    assert_eq!((count(&postgres, "payments"), count(&postgres, "outbox")), (1, 1));

    let url = format!("http://{}/payments?account=rent", service.address());
    let (status, all) = sent(client().get(url).bearer_auth("acme")).await;
    assert_eq!((status, all), (200, json!([made])));
}

async fn a_key_belongs_to_its_client_and_its_request(path: &str) {
    let postgres = Postgres::start();
    let service = payments(&postgres.url(), &[]);
    let key = fresh_key();
    let (_, made) = sent(pay(&service, path, &key)).await;

    let other = json!({"account": "rent", "amount": 1, "currency": "EUR"});
    let (status, refused) = sent(pay(&service, path, &key).json(&other)).await;
    assert_eq!((status, &refused["code"]), (422, &json!("key_reused")));

    let url = format!("http://{}{path}", service.address());
    let request = || client().post(&url).header("idempotency-key", &key).json(&other);
    let (status, refused) = sent(request()).await;
    assert_eq!((status, &refused["code"]), (401, &json!("unauthorized")));
    let (status, others) = sent(request().bearer_auth("globex")).await;
    assert_eq!(status, 201);
    assert_ne!(others["id"], made["id"]);

    let url = format!("http://{}/payments?account=rent", service.address());
    let (_, all) = sent(client().get(url).bearer_auth("globex")).await;
    assert_eq!(all, json!([others]));
}

async fn a_refused_payment_leaves_nothing_and_its_key_free(path: &str) {
    let postgres = Postgres::start();
    let service = payments(&postgres.url(), &[]);
    let key = fresh_key();
    for refused in [
        json!({"account": "", "amount": 4200, "currency": "EUR"}),
        json!({"account": "rent", "amount": 0, "currency": "EUR"}),
        json!({"account": "rent", "amount": 4200, "currency": "euro"}),
    ] {
        let (status, problem) = sent(pay(&service, path, &key).json(&refused)).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_payment")), "{refused}");
    }
    assert_eq!((count(&postgres, "payments"), count(&postgres, "outbox")), (0, 0));
    assert_eq!(sent(pay(&service, path, &key)).await.0, 201);
}

async fn without_a_key_every_request_is_a_payment(path: &str) {
    let postgres = Postgres::start();
    let service = payments(&postgres.url(), &[]);
    let url = format!("http://{}{path}", service.address());
    for _ in 0..2 {
        let payment = json!({"account": "rent", "amount": 4200, "currency": "EUR"});
        let (status, _) = sent(client().post(&url).bearer_auth("acme").json(&payment)).await;
        assert_eq!(status, 201);
    }
    assert_eq!(count(&postgres, "payments"), 2);
    let keys = postgres.execute("SELECT count(DISTINCT key) FROM outbox");
    assert_eq!(keys, "2", "a message without a key would be taken for another");
}

#[tokio::test]
async fn what_became_of_payments_is_counted() {
    let postgres = Postgres::start();
    let service = payments(&postgres.url(), &[]);
    let key = fresh_key();
    for _ in 0..2 {
        assert_eq!(sent(pay(&service, "/payments", &key)).await.0, 201);
    }
    let url = format!("http://{}/metrics", service.address());
    let scraped = send(client().get(url)).await.text().await.expect("it is text");
    for outcome in ["stored", "replayed"] {
        let counted = format!(
            "idempotency_requests_total{{operation=\"POST /payments\",outcome=\"{outcome}\"}} 1\n"
        );
        assert!(scraped.contains(&counted), "{counted} in {scraped}");
    }
    assert!(scraped.contains("idempotency_store_seconds_bucket{verb=\"commit\""), "{scraped}");
}
