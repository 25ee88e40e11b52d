//! Deleting expired rows.

use std::time::Duration;

use idempotent_runtime::{PostgresStore, Store};
use test_servers::Postgres;
use tokio::runtime::Handle;

use super::{LONG, SHARED, assert_stored, claimed, fresh_table, migrated, store_at, stored, until};
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

/// How a table is made of several, in place of the one that `{table}` names.
const LAYOUTS: [&str; 2] = [
    "CREATE TABLE {table} (LIKE model INCLUDING ALL) PARTITION BY HASH (key);
     CREATE TABLE {table}_0 PARTITION OF {table} FOR VALUES WITH (MODULUS 2, REMAINDER 0);
     CREATE TABLE {table}_1 PARTITION OF {table} FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "CREATE TABLE {table} (LIKE model INCLUDING ALL);
     CREATE TABLE {table}_0 () INHERITS ({table});
     CREATE TABLE {table}_1 () INHERITS ({table})",
];

#[tokio::test]
async fn purging_a_table_made_of_several_deletes_no_live_row() {
    let server = Postgres::start();
    migrated(PostgresStore::builder().table("model"), &server.url()).await;
    for layout in LAYOUTS {
        let table = fresh_table();
        server.execute(&layout.replace("{table}", &table));
        server.execute(&format!("COMMENT ON TABLE {table} IS 'idempotent-axum, format 1'"));
        let store = migrated(PostgresStore::builder().table(&table), &server.url()).await;
        let (key, running) = (stored(&store).await, claimed(&store).await);
        // Live and expired rows lie in turn, and the two tables of one layout hold them the other
        // way round: whatever names a place in one names a live row in the other.
        let is_partitioned = layout.contains("PARTITION");
        let rows = if is_partitioned {
            format!(
                "INSERT INTO {table} SELECT decode(md5(n::text), 'hex'), '', '', '',
                    now() + (n % 2 * 2 - 1) * interval '1 hour' FROM generate_series(1, 800) n"
            )
        } else {
            let half = |child: u32| {
                format!(
                    "INSERT INTO {table}_{child} SELECT decode(md5(n::text), 'hex'), '', '', '',
                        now() + ((n + {child}) % 2 * 2 - 1) * interval '1 hour'
                     FROM generate_series(1, 400) n;"
                )
            };
            half(0) + &half(1)
        };
        server.execute(&rows);
        let count = |which: &str| {
            let sql = format!("SELECT count(*) FROM {table} WHERE expires {which} now()");
            server.execute(&sql).trim().to_owned()
        };
        assert_eq!((count(">").as_str(), count("<=").as_str()), ("402", "400"));
        let _task = store.purge_expired(LONG);
        until("nothing that has expired is left", async || count("<=") == "0").await;
        assert_eq!(count(">"), "402", "{layout}");
        assert_stored(&store, key).await;
        assert!(is_held(store.renew(&running, LONG).await));
    }
}
