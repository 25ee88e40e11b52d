//! Deleting expired rows.

use std::time::Duration;

use idempotent_runtime::{PostgresStore, Store, testing::conformance};
use test_servers::Postgres;
use tokio::runtime::Handle;

use super::{LONG, SHARED, assert_stored, claimed, migrated, store_at, stored, until};
use crate::{RECORD, is_held};

/// A store on its own server, whose table counts the rows of each statement that deletes some.
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
    // The pool and its own task are dropped with the store.
    until("a detached task ends with the store", async || tasks() == 0).await;
}

/// The table in two partitions, as the guide creates it.
fn partitioned() -> &'static str {
    let guide = include_str!("../../../../docs/choosing-a-store.md");
    guide.split("```sql").nth(1).unwrap().split("```").next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_table_conforms() {
    let server = Postgres::start();
    server.execute(partitioned());
    conformance(migrated(PostgresStore::builder(), &server.url()).await).await;
}

#[tokio::test]
async fn purging_a_table_made_of_several_deletes_no_live_row() {
    let partitions = "INSERT INTO idempotency_keys SELECT decode(md5(n::text), 'hex'), '', '', '',
            now() + (n % 2 * 2 - 1) * interval '1 hour' FROM generate_series(1, 800) n";
    // Live and expired rows alternate, the other way round in the two tables: the location of an
    // expired row in one is that of a live row in the other, and every key is there twice.
    let children: String = [0, 1]
        .map(|child| {
            format!(
                "CREATE TABLE child_{child} () INHERITS (idempotency_keys);
                 INSERT INTO child_{child} SELECT decode(md5(n::text), 'hex'), '', '', '',
                    now() + ((n + {child}) % 2 * 2 - 1) * interval '1 hour'
                 FROM generate_series(1, 400) n;"
            )
        })
        .concat();
    for (table, rows) in [(Some(partitioned()), partitions), (None, &*children)] {
        let server = Postgres::start();
        if let Some(table) = table {
            server.execute(table);
        }
        let store = migrated(PostgresStore::builder(), &server.url()).await;
        let (key, running) = (stored(&store).await, claimed(&store).await);
        server.execute(rows);
        let count = |which: &str| {
            let sql = format!("SELECT count(*) FROM idempotency_keys WHERE expires {which} now()");
            server.execute(&sql).trim().to_owned()
        };
        assert_eq!((&*count(">"), &*count("<=")), ("402", "400"));
        let _task = store.purge_expired(LONG);
        until("nothing that has expired is left", async || count("<=") == "0").await;
        assert_eq!(count(">"), "402");
        assert_stored(&store, key).await;
        assert!(is_held(store.renew(&running, LONG).await));
    }
}
