//! The outbox: what is delivered, by whom, and with which key.

use std::time::Duration;

use serde_json::{Value, json};
use test_servers::{Postgres, Proxy, Way};

use crate::{client, count, fresh_key, ledger, pay, payments, process::Service, sent};

const PATH: &str = "/payments";

/// What the ledger has counted once the outbox is empty.
async fn delivered(postgres: &Postgres, ledger: &Service) -> Value {
    while count(postgres, "outbox") > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sent(client().get(format!("http://{}/bookings", ledger.address()))).await.1
}

fn bookings(ledger: &Service) -> String {
    format!("http://{}/bookings", ledger.address())
}

#[tokio::test]
async fn messages_wait_for_a_worker_and_workers_share_them() {
    let (postgres, ledger) = (Postgres::start(), ledger());
    let without = payments(&postgres.url(), &[]);
    for _ in 0..20 {
        assert_eq!(sent(pay(&without, PATH, &fresh_key())).await.0, 201);
    }
    assert_eq!(count(&postgres, "outbox"), 20);
    let url = bookings(&ledger);
    let workers = [(); 3].map(|()| payments(&postgres.url(), &[("PAYMENTS_LEDGER", &url)]));
    let counts = delivered(&postgres, &ledger).await;
    assert_eq!(counts, json!({"delivered": 20, "booked": 20, "booked_twice": 0}));
    drop(workers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_worker_died_is_delivered_again_with_its_key() {
    let (postgres, ledger) = (Postgres::start(), ledger());
    let proxy = Proxy::start(postgres.address());
    let url = bookings(&ledger);
    let victim = payments(&postgres.url_through(&proxy), &[("PAYMENTS_LEDGER", &url)]);
    let other = payments(&postgres.url(), &[]);
    // Delivered, but the row is not deleted yet.
    let hold = proxy.hold(Way::Request, b"DELETE FROM outbox");
    assert_eq!(sent(pay(&other, PATH, &fresh_key())).await.0, 201);
    tokio::task::block_in_place(|| hold.wait());
    victim.kill();
    drop(hold);
    let counts = sent(client().get(&url)).await.1;
    assert_eq!(counts, json!({"delivered": 1, "booked": 1, "booked_twice": 0}));

    let _worker = payments(&postgres.url(), &[("PAYMENTS_LEDGER", &url)]);
    let counts = delivered(&postgres, &ledger).await;
    assert_eq!(counts, json!({"delivered": 2, "booked": 1, "booked_twice": 0}));
}

#[tokio::test]
async fn a_message_that_is_refused_holds_up_no_other() {
    let (postgres, ledger) = (Postgres::start(), ledger());
    let url = bookings(&ledger);
    let service = payments(&postgres.url(), &[("PAYMENTS_LEDGER", &url)]);
    postgres.execute(
        "INSERT INTO outbox (key, message, due) \
         VALUES (gen_random_uuid(), '{}', now() - interval '1 h')",
    );
    assert_eq!(sent(pay(&service, PATH, &fresh_key())).await.0, 201);
    while count(&postgres, "outbox WHERE message <> '{}'") > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count(&postgres, "outbox"), 1);
    assert_eq!(sent(client().get(&url)).await.1["booked"], 1);
}
