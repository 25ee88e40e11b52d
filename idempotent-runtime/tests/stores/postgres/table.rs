//! The table: how it is created, and which names it may have.

use std::{error::Error, sync::Arc};

use idempotent_runtime::{Attempt, PostgresStore, Store, StoreKey, Token};
use idempotent_test_support::chain;
use test_servers::Postgres;
use tokio::task::JoinSet;

use super::{
    LONG, SHARED, assert_stored, claim, fresh_table, is_claimed, migrated, store_at, stored,
};
use crate::{assert_told_once, at, fresh, fresh_key, is_held};

#[tokio::test(flavor = "multi_thread")]
async fn ten_instances_migrate_at_once() {
    for round in 0..5 {
        let schema = format!("Round-{round}");
        let mut instances = JoinSet::new();
        let start = Arc::new(tokio::sync::Barrier::new(10));
        for _ in 0..10 {
            let (builder, start) = (PostgresStore::builder().schema(&schema), Arc::clone(&start));
            instances.spawn(async move {
                let store = builder.connect(&SHARED.url()).await.expect("the server is up");
                start.wait().await;
                store.migrate().await.map(|()| store)
            });
        }
        for store in instances.join_all().await {
            let store = store.expect("every instance migrates");
            assert!(is_claimed(&claim(&store, &fresh()).await));
            store.migrate().await.expect("and may do it again");
        }
    }
}

#[tokio::test]
async fn a_role_that_may_not_create_anything_migrates_what_is_there() {
    let store = store_at(&SHARED.url()).await;
    let schema = store.schema_sql();
    let table = schema.lines().find_map(|line| line.strip_prefix("CREATE TABLE ")).unwrap();
    let table = table.trim_end_matches(" (");
    SHARED.execute(&format!(
        "CREATE ROLE clerk LOGIN; CREATE SCHEMA AUTHORIZATION clerk;
         GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO clerk"
    ));
    let url = SHARED.url().replace("postgres@", "clerk@");
    let name = table.split('"').nth(3).unwrap();
    let clerk = migrated(PostgresStore::builder().table(name), &url).await;
    let key = stored(&clerk).await;
    assert_stored(&store, key).await;

    // In its own schema it needs no right to create schemas.
    migrated(PostgresStore::builder().schema("clerk"), &url).await;
    let other = PostgresStore::builder().table("other").connect(&url).await.unwrap();
    let error = chain(&other.migrate().await.expect_err("it may not create a table"));
    assert!(error.contains("permission denied"), "{error}");
}

#[tokio::test]
async fn the_schema_as_text_makes_the_same_table() {
    let server = Postgres::start();
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    server.execute(&store.schema_sql());
    store.migrate().await.expect("the table is known");
    let key = stored(&store).await;
    assert_stored(&store, key).await;
}

#[tokio::test]
async fn stores_of_different_tables_and_schemas_do_not_meet() {
    let key = fresh_key();
    for schema in ["Shop", "shop", "select"] {
        for table in ["Order-Keys", "order-keys", "table"] {
            let builder = PostgresStore::builder().schema(schema).table(table);
            let store = migrated(builder, &SHARED.url()).await;
            assert!(is_claimed(&claim(&store, &at(key)).await));
        }
    }
}

#[tokio::test]
async fn a_name_that_could_end_its_quotation_is_refused() {
    for name in ["", "a\"b", "a'b", "a.b", "a b", "ä", "a\0", &"a".repeat(64)] {
        for builder in [
            PostgresStore::builder().schema(name),
            PostgresStore::builder().table(name).transaction_pooler(),
        ] {
            let error = builder.connect(&SHARED.url()).await.expect_err("it is refused");
            assert!(error.to_string().contains("ASCII letters, digits"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_table_of_somebody_else_is_refused() {
    let table = fresh_table();
    SHARED.execute(&format!("CREATE TABLE {table} (key text)"));
    let store = PostgresStore::builder().table(&table).connect(&SHARED.url()).await.unwrap();
    let error = store.migrate().await.expect_err("it is refused");
    assert!(error.to_string().contains("did not make"), "{error}");
}

#[tokio::test]
async fn a_missing_table_is_named_with_its_remedy() {
    let store = PostgresStore::builder().table("nowhere").connect(&SHARED.url()).await.unwrap();
    let error = store.claim(&fresh(), LONG).await.expect_err("there is no table");
    assert!(error.to_string().contains("PostgresStore::migrate"), "{error}");
    assert!(error.source().is_some());
}

#[tokio::test]
async fn a_role_without_a_right_is_refused_by_name() {
    let server = Postgres::start();
    server.execute("CREATE ROLE clerk LOGIN");
    let url = server.url().replace("postgres@", "clerk@");
    let early = PostgresStore::connect(&url).await.expect("there is no table to look at yet");
    migrated(PostgresStore::builder(), &server.url()).await;
    let all = ["SELECT", "INSERT", "UPDATE", "DELETE"];
    let refused = async |right: &str| {
        let connecting = PostgresStore::connect(&url).await.expect_err(right);
        let migrating = early.migrate().await.expect_err(right);
        for error in [&connecting as &dyn Error, &migrating] {
            let text = error.to_string();
            assert!(text.contains(&format!("may not {right} in the table")), "{}", chain(error));
        }
        (connecting, migrating)
    };
    for missing in all {
        server.execute("REVOKE ALL ON idempotency_keys FROM clerk");
        let rights = all.into_iter().filter(|right| *right != missing).collect::<Vec<_>>();
        server.execute(&format!("GRANT {} ON idempotency_keys TO clerk", rights.join(", ")));
        let (connecting, migrating) = refused(missing).await;
        assert_told_once(&connecting);
        assert_told_once(&migrating);
    }

    // With row policies everything is granted, and what no policy allows silently has no effect.
    server.execute(
        "GRANT ALL ON idempotency_keys TO clerk;
         ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY",
    );
    for right in ["INSERT", "SELECT", "UPDATE", "DELETE"] {
        refused(right).await;
        let check = if right == "INSERT" { "WITH CHECK" } else { "USING" };
        server.execute(&format!(
            "CREATE POLICY may_{right} ON idempotency_keys FOR {right} {check} (true)"
        ));
    }
    early.migrate().await.expect("the role may do everything");
    let clerk = PostgresStore::connect(&url).await.expect("the role may do everything");
    let key = stored(&clerk).await;
    assert_stored(&clerk, key).await;
    let rows = server.execute("SELECT count(*) FROM idempotency_keys");
    assert_eq!(rows.trim(), "1", "nothing is left of the probes");
}

/// The table of a release that lacks the columns for people, with a record and a claim in it.
fn old_table() -> String {
    let table = fresh_table();
    SHARED.execute(&format!(
        "CREATE TABLE {table} (key bytea PRIMARY KEY, fingerprint bytea NOT NULL, \
             token bytea NOT NULL, record bytea, expires timestamptz NOT NULL);
         CREATE INDEX ON {table} (expires);
         COMMENT ON TABLE {table} IS 'idempotent-axum, format 1'"
    ));
    for (key, record) in [("01", "decode('7265636f7264', 'hex')"), ("02", "NULL")] {
        SHARED.execute(&format!(
            "INSERT INTO {table} VALUES (decode(repeat('{key}', 16), 'hex'), \
             decode(repeat('07', 16), 'hex'), decode(repeat('09', 16), 'hex'), {record}, \
             now() + interval '5 minutes')"
        ));
    }
    table
}

#[tokio::test]
async fn a_table_of_an_earlier_release_gets_its_columns_and_keeps_its_rows() {
    let table = old_table();
    let store = PostgresStore::builder().table(&table).connect(&SHARED.url()).await.unwrap();
    let error = store.claim(&fresh(), LONG).await.expect_err("columns are missing");
    assert!(error.to_string().contains("PostgresStore::migrate"), "{error}");
    store.migrate().await.expect("the table is brought up to date");
    store.migrate().await.expect("and is from then on");

    assert_stored(&store, StoreKey::from_bytes([1; 16])).await;
    let running =
        Attempt::new(StoreKey::from_bytes([2; 16]), crate::FINGERPRINT, Token::from_bytes([9; 16]));
    assert!(is_held(store.renew(&running, LONG).await));
    assert!(is_held(store.complete(&running, crate::RECORD, LONG).await));
    let known = SHARED.execute(&format!(
        "SELECT count(*) FROM {table} WHERE operation IS NULL AND created IS NULL"
    ));
    assert_eq!(known.trim(), "2");
    // What that release continues to write is read.
    SHARED.execute(&format!(
        "INSERT INTO {table} (key, fingerprint, token, record, expires) SELECT \
         decode(repeat('03', 16), 'hex'), fingerprint, token, record, expires FROM {table} LIMIT 1"
    ));
    assert_stored(&store, StoreKey::from_bytes([3; 16])).await;
}

#[tokio::test]
async fn a_role_that_may_not_add_columns_is_told_what_their_owner_has_to_run() {
    let table = old_table();
    let role = format!("{table}_clerk");
    SHARED.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}"
    ));
    let url = SHARED.url().replace("postgres@", &format!("{role}@"));
    let store = PostgresStore::builder().table(&table).connect(&url).await.unwrap();
    let error = store.migrate().await.expect_err("it is not its owner");
    assert_told_once(&error);
    let text = error.to_string();
    let (_, sql) = text.split_once("has to run `").expect("it says what to run");
    SHARED.execute(sql.trim_end_matches('`'));
    store.migrate().await.expect("nothing is left to add");
    assert_stored(&store, StoreKey::from_bytes([1; 16])).await;
}

#[tokio::test]
async fn a_row_says_its_operation_and_when_it_was_made() {
    for pooled in [false, true] {
        let table = fresh_table();
        let builder = PostgresStore::builder().table(&table);
        let builder = if pooled { builder.transaction_pooler() } else { builder };
        let store = migrated(builder, &SHARED.url()).await;
        for (operation, shown) in
            [("POST /it's/{id}", "POST /it's/{id}"), ("für\0", r"f\u{fc}r\u{0}")]
        {
            let attempt = fresh().named(operation);
            assert!(is_claimed(&claim(&store, &attempt).await));
            let row = |what: &str| {
                let row = format!("key = decode('{}', 'hex')", attempt.key);
                SHARED.execute(&format!("SELECT {what} FROM {table} WHERE {row}")).trim().to_owned()
            };
            assert_eq!(row("operation"), shown);
            let is_now = "created BETWEEN now() - interval '1 minute' AND clock_timestamp()";
            assert_eq!(row(is_now), "t");
            let made = row("created");
            assert!(is_held(store.complete(&attempt, crate::RECORD, LONG).await));
            assert_eq!((row("operation").as_str(), row("created")), (shown, made));
        }
        // A lapsed row belongs to the next claim from then on.
        let (old, new) = (fresh().named("old"), "new");
        assert!(is_claimed(&claim(&store, &old).await));
        SHARED.execute(&format!(
            "UPDATE {table} SET expires = now(), created = now() - interval '1 day' \
             WHERE key = decode('{}', 'hex')",
            old.key
        ));
        assert!(is_claimed(&claim(&store, &at(old.key).named(new)).await));
        let operation = format!(
            "SELECT operation FROM {table} WHERE operation IN ('old', 'new') AND \
                                 created > now() - interval '1 hour'"
        );
        assert_eq!(SHARED.execute(&operation).trim(), new);
    }
}

#[tokio::test]
async fn the_view_of_the_page_shows_what_each_key_holds() {
    let page = include_str!("../../../../docs/keys-by-hand.md");
    let mut sql = page.split("```sql\n").skip(1).map(|block| block.split("```").next().unwrap());
    let (view, summary) = (sql.next().expect("a view"), sql.next().expect("a summary"));
    let server = Postgres::start();
    let store = migrated(PostgresStore::builder(), &server.url()).await;
    server.execute(view);
    let (running, done, lapsed) =
        (fresh().named("POST /a"), fresh().named("POST /b"), fresh().named("POST /c"));
    for attempt in [&running, &done, &lapsed] {
        assert!(is_claimed(&claim(&store, attempt).await));
    }
    assert!(is_held(store.complete(&done, crate::RECORD, LONG).await));
    server.execute("UPDATE idempotency_keys SET expires = now() WHERE operation = 'POST /c'");
    let rows = server.execute("SELECT digest || operation || state FROM idempotency");
    for (attempt, state) in [(&running, "running"), (&done, "stored"), (&lapsed, "absent")] {
        let row = format!("{}{}{state}", attempt.key, attempt.operation());
        assert!(rows.contains(&row), "{row} in {rows}");
    }
    assert!(server.execute(summary).contains("POST /b"));
}
