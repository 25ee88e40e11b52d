//! A claim that the server makes after its caller has gone away and after it was released.
#![cfg(feature = "postgres")]

use std::time::{Duration, Instant};

use idempotent_axum::PostgresStore;
use test_servers::Postgres;
use tokio::task::block_in_place;

use crate::service::{Seen, service_on};

/// Makes inserts into the store's table wait until there is a row in the table `gate`.
const INSERTS_WAIT: &str = "
    CREATE TABLE gate (open bool);
    CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP;
        RETURN NEW;
    END $$;
    CREATE TRIGGER pass BEFORE INSERT ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION pass()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_is_made_after_its_caller_went_away_and_it_was_released_is_released_again() {
    let postgres = Postgres::start();
    let store = PostgresStore::connect(&postgres.url()).await.unwrap();
    store.migrate().await.unwrap();
    postgres.execute(INSERTS_WAIT);
    let inserts = || {
        postgres.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'
                AND query LIKE '%INSERT INTO%' AND pid <> pg_backend_pid()",
        )
    };
    let service = service_on(store, |settings| settings.lease(Duration::from_secs(3600)));
    let client = service.client();

    let impatient = client.send_to_gate("");
    until(|| inserts() == "1").await;
    impatient.abort();
    service.probe.release.ended.reaches(1).await;
    postgres.execute("INSERT INTO gate VALUES (true)");
    until(|| inserts() == "0").await;

    assert_eq!(client.send().await, Seen::run(0));
}

async fn until(so: impl Fn() -> bool) {
    let since = Instant::now();
    while !block_in_place(&so) {
        assert!(since.elapsed() < Duration::from_secs(60), "it does not come to be so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
