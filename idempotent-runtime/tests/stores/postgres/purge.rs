//! Deleting expired rows.

use std::time::Duration;

use idempotent_runtime::{PostgresStore, Store};
use test_servers::Postgres;
use tokio::runtime::Handle;

use super::{LONG, SHARED, assert_stored, claimed, migrated, store_at, stored, until};
use crate::{RECORD, is_held};

/// A store at a server of its own whose table counts the rows of each statement that deletes some.
async fn store_with_expired_rows(rows: usize) -> (Postgres, PostgresStore) {
    let server = Postgres::start();
    let store = migrated(PostgresStore::builder(), &server.url()).await;
    server.execute(&format!(
        "CREATE TABLE batches (deleted bigint);
         CREATE FUNCTION count_batch() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO batches SELECT count(*) FROM gone; RETURN NULL; END';
         CREATE TRIGGER count_batch AFTER DELETE ON idempotency_keys
            REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION count_batch();
         INSERT INTO idempotency_keys
            SELECT decode(md5(n::text), 'hex'), '', '', CASE n % 2 WHEN 0 THEN '' END::bytea,
                now() - n * interval '1 second'
            FROM generate_series(1, {rows}) n"
    ));
    (server, store)
}

#[tokio::test]
async fn expired_rows_are_purged_in_small_batches_and_live_ones_are_kept() {
    let (server, store) = store_with_expired_rows(1700).await;
    let key = stored(&store).await;
    let running = claimed(&store).await;
    let _tasks = [store.purge_expired(LONG), store.purge_expired(LONG)];
    until("only live rows are left", async || {
        server.execute("SELECT count(*) FROM idempotency_keys").trim() == "2"
    })
    .await;
    assert_stored(&store, key).await;
    assert!(is_held(store.renew(&running, LONG).await));
    let batches = server.execute("SELECT sum(deleted), max(deleted) <= 500 FROM batches");
    assert_eq!(batches.trim(), "1700|t");
}

#[tokio::test]
async fn purging_goes_on_and_stops_with_its_handle_or_its_store() {
    let store = store_at(&SHARED.url()).await;
    let purge = async |store: &PostgresStore| {
        let attempt = claimed(store).await;
        assert!(is_held(store.complete(&attempt, RECORD, Duration::from_millis(1)).await));
    };
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let soon = Duration::from_millis(10);
    let schema = store.schema_sql();
    let table = schema.split("CREATE TABLE ").nth(1).unwrap().split(" (").next().unwrap();
    let is_empty = async || SHARED.execute(&format!("SELECT count(*) FROM {table}")).trim() == "0";

    let task = store.purge_expired(soon);
    for _ in 0..2 {
        purge(&store).await;
        until("an expired row is purged", is_empty).await;
    }
    let with_task = tasks();
    drop(task);
    until("the task ends with its handle", async || tasks() < with_task).await;

    store.purge_expired(soon).detach();
    purge(&store).await;
    until("a detached task purges", is_empty).await;
    drop(store);
    // The pool and its own task go with the store.
    until("a detached task ends with the store", async || tasks() == 0).await;
}
