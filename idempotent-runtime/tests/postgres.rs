//! `PostgresStore` on real servers: what it promises, through a pooler too, and what faults do to it.
#![cfg(all(feature = "postgres", feature = "testing"))]

use std::{
    collections::HashSet,
    error::Error as _,
    future::Future,
    net::TcpListener,
    process::Command,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use idempotent_runtime::{
    Claim, Fingerprint, PostgresStore, PostgresStoreBuilder, Store, StoreError, StoreKey, Token,
    testing::conformance,
};
use idempotent_test_support::{PATIENCE, chain};
use test_servers::{Fault, PgBouncer, PoolMode, Postgres, Proxy};
use tokio::{runtime::Handle, task::JoinSet, time::timeout};

/// For tests that take a table of their own.
static SHARED: LazyLock<Postgres> = LazyLock::new(Postgres::start);

const LONG: Duration = Duration::from_mins(10);
const FINGERPRINT: Fingerprint = Fingerprint::from_bytes([7; 16]);
const RECORD: Bytes = Bytes::from_static(b"record");

fn fresh_key() -> StoreKey {
    StoreKey::from_bytes(*Token::random().as_bytes())
}

/// A table name that no other test has.
fn fresh_table() -> String {
    format!("keys_{:032x}", u128::from_be_bytes(*Token::random().as_bytes()))
}

async fn store_at(url: &str) -> PostgresStore {
    migrated(PostgresStore::builder().table(fresh_table()), url).await
}

async fn migrated(builder: PostgresStoreBuilder, url: &str) -> PostgresStore {
    let store = builder.connect(url).await.expect("the server is up");
    store.migrate().await.expect("the role may create tables");
    store
}

async fn claim(store: &PostgresStore, key: StoreKey, token: Token) -> Claim {
    store.claim(key, FINGERPRINT, token, LONG).await.expect("the server answers")
}

fn is_claimed(claim: &Claim) -> bool {
    matches!(claim, Claim::Claimed { .. })
}

async fn claimed(store: &PostgresStore) -> (StoreKey, Token) {
    let (key, token) = (fresh_key(), Token::random());
    assert!(is_claimed(&claim(store, key, token).await));
    (key, token)
}

async fn stored(store: &PostgresStore) -> StoreKey {
    let (key, token) = claimed(store).await;
    assert!(store.complete(key, token, RECORD, LONG).await.unwrap());
    key
}

async fn assert_stored(store: &PostgresStore, key: StoreKey) {
    let found = claim(store, key, Token::random()).await;
    assert_eq!(found, Claim::Stored { fingerprint: FINGERPRINT, record: RECORD });
}

/// Looks until it is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !so().await {
        assert!(start.elapsed() < PATIENCE, "it does not come to be so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    conformance(store_at(&SHARED.url()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms_where_transactions_are_serializable_by_default() {
    let options = "?options=-c%20default_transaction_isolation%3Dserializable";
    conformance(store_at(&(SHARED.url() + options)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms_through_a_transaction_pooler() {
    let server = Postgres::start();
    let pooler = PgBouncer::start(&server, PoolMode::Transaction);
    let builder = PostgresStore::builder().transaction_pooler();
    conformance(migrated(builder, &pooler.url()).await).await;
    let sessions = server.execute(
        "SELECT count(*) > 1 FROM pg_stat_activity
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    );
    assert_eq!(sessions.trim(), "t", "the pooler used several sessions");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_megabyte_pass_a_transaction_pooler() {
    let pooler = PgBouncer::start(&SHARED, PoolMode::Transaction);
    let builder = PostgresStore::builder().table(fresh_table()).transaction_pooler();
    let store = migrated(builder, &pooler.url()).await;
    let record: Bytes = (0..=u8::MAX).cycle().take(1 << 20).collect();
    let (key, token) = claimed(&store).await;
    assert!(store.complete(key, token, record.clone(), LONG).await.unwrap());
    let found = claim(&store, key, Token::random()).await;
    assert_eq!(found, Claim::Stored { fingerprint: FINGERPRINT, record });
}

#[tokio::test]
async fn a_pooler_without_the_option_is_refused() {
    // One pooler refuses the session's settings, the other one drops them.
    let ignore = ["ignore_startup_parameters = extra_float_digits, options"];
    for settings in [&[][..], &ignore[..]] {
        let pooler = PgBouncer::start_with(&SHARED, PoolMode::Transaction, settings);
        let error = PostgresStore::connect(&pooler.url()).await.expect_err("it is refused");
        let text = error.to_string();
        assert!(text.contains("transaction_pooler()"), "with {settings:?}: {}", chain(&error));
    }
}

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
            assert!(is_claimed(&claim(&store, fresh_key(), Token::random()).await));
            store.migrate().await.expect("and may do it again");
        }
    }
}

#[tokio::test]
async fn a_role_that_may_not_create_anything_migrates_what_is_there() {
    let store = store_at(&SHARED.url()).await;
    let migration = store.migration();
    let table = migration.lines().find_map(|line| line.strip_prefix("CREATE TABLE ")).unwrap();
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

    // Of its own schema it needs no right to create schemas.
    migrated(PostgresStore::builder().schema("clerk"), &url).await;
    let other = PostgresStore::builder().table("other").connect(&url).await.unwrap();
    let error = chain(&other.migrate().await.expect_err("it may not create a table"));
    assert!(error.contains("permission denied"), "{error}");
}

#[tokio::test]
async fn the_migration_as_text_makes_the_same_table() {
    let server = Postgres::start();
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    server.execute(&store.migration());
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
            assert!(is_claimed(&claim(&store, key, Token::random()).await));
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
    let claim = store.claim(fresh_key(), FINGERPRINT, Token::random(), LONG);
    let error = claim.await.expect_err("there is no table");
    assert!(error.to_string().contains("PostgresStore::migrate"), "{error}");
    assert!(error.source().is_some());
}

#[tokio::test]
async fn every_verb_is_one_statement_and_one_is_all_a_replay_takes() {
    let server = Postgres::start_with(&["shared_preload_libraries=pg_stat_statements"]);
    server.execute("CREATE EXTENSION pg_stat_statements");
    let store = migrated(PostgresStore::builder(), &server.url()).await;
    let verbs = async |key: StoreKey, token: Token| {
        claim(&store, key, token).await;
        assert!(store.renew(key, token, LONG).await.unwrap());
        assert!(store.complete(key, token, RECORD, LONG).await.unwrap());
        store.release(key, token).await.unwrap();
        assert_stored(&store, key).await;
    };
    server.execute("SELECT pg_stat_statements_reset()");
    for _ in 0..10 {
        verbs(fresh_key(), Token::random()).await;
    }
    let statements = server
        .execute("SELECT calls, query FROM pg_stat_statements WHERE query !~ 'pg_stat_statements'");
    let calls: u32 =
        statements.lines().filter_map(|line| line.split_once('|')?.0.parse::<u32>().ok()).sum();
    assert_eq!(calls, 5 * 10, "{statements}");
}

#[tokio::test]
async fn a_replay_takes_no_transaction_id_and_writes_no_wal() {
    let quiet = ["autovacuum=off", "wal_level=minimal", "max_wal_senders=0"];
    let server = Postgres::start_with(&quiet);
    let pooler = PgBouncer::start(&server, PoolMode::Transaction);
    let stores = [
        migrated(PostgresStore::builder(), &server.url()).await,
        migrated(PostgresStore::builder().transaction_pooler(), &pooler.url()).await,
    ];
    for store in stores {
        let key = stored(&store).await;
        let (running, _) = claimed(&store).await;
        let look = async || {
            assert_stored(&store, key).await;
            let found = claim(&store, running, Token::random()).await;
            assert!(matches!(found, Claim::Running { .. }));
        };
        // The first read may tidy the page up.
        look().await;
        server.execute("CHECKPOINT");
        let state = || {
            server.execute("SELECT pg_snapshot_xmax(pg_current_snapshot()), pg_current_wal_lsn()")
        };
        let before = state();
        for _ in 0..100 {
            look().await;
        }
        assert_eq!(state(), before);
        claimed(&store).await;
        assert_ne!(state(), before, "a claim shows in what was compared");
    }
}

#[tokio::test]
async fn a_claim_repeated_by_its_token_holds_for_a_whole_lease_again() {
    let store = store_at(&SHARED.url()).await;
    let (key, token) = (fresh_key(), Token::random());
    let claim = async |lease| store.claim(key, FINGERPRINT, token, lease).await.unwrap();
    assert!(is_claimed(&claim(Duration::from_secs(5)).await));
    assert_eq!(claim(LONG).await, Claim::Claimed { lease: Some(LONG) });
    match store.claim(key, FINGERPRINT, Token::random(), LONG).await.unwrap() {
        Claim::Running { lease_left: Some(left), .. } => assert!(left > LONG / 2, "{left:?}"),
        found => panic!("{found:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_that_overtakes_itself_is_stored_both_times() {
    let store = store_at(&SHARED.url()).await;
    for _ in 0..50 {
        let (key, token) = claimed(&store).await;
        let both = (0..4).map(|_| {
            let store = store.clone();
            async move { store.complete(key, token, RECORD, LONG).await.unwrap() }
        });
        let stored = both.collect::<JoinSet<_>>().join_all().await;
        assert_eq!(stored, [true; 4]);
        assert_stored(&store, key).await;
    }
}

#[tokio::test]
async fn a_record_that_no_field_can_hold_is_too_large() {
    let store = store_at(&SHARED.url()).await;
    let (key, token) = claimed(&store).await;
    let record = Bytes::from(vec![0; (256 << 20) + 1]);
    let error = store.complete(key, token, record, LONG).await.expect_err("it is refused");
    assert!(error.to_string().contains("larger than the idempotency store"), "{error}");
    assert!(store.complete(key, token, RECORD, LONG).await.unwrap(), "the claim is untouched");
}

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
    let (running, token) = claimed(&store).await;
    let _tasks = [store.purge_expired(LONG), store.purge_expired(LONG)];
    until("only live rows are left", async || {
        server.execute("SELECT count(*) FROM idempotency_keys").trim() == "2"
    })
    .await;
    assert_stored(&store, key).await;
    assert!(store.renew(running, token, LONG).await.unwrap());
    let batches = server.execute("SELECT sum(deleted), max(deleted) <= 500 FROM batches");
    assert_eq!(batches.trim(), "1700|t");
}

#[tokio::test]
async fn purging_goes_on_and_stops_with_its_handle_or_its_store() {
    let store = store_at(&SHARED.url()).await;
    let purge = async |store: &PostgresStore| {
        let (key, token) = claimed(store).await;
        store.complete(key, token, RECORD, Duration::from_millis(1)).await.unwrap();
    };
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let soon = Duration::from_millis(10);
    let migration = store.migration();
    let table = migration.split("CREATE TABLE ").nth(1).unwrap().split(" (").next().unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn the_first_calls_after_a_restart_of_the_server_succeed() {
    let server = Postgres::start();
    let store = migrated(PostgresStore::builder(), &server.url()).await;
    // Many at once, so that the pool is full of connections that will be dead.
    let held = (0..40).map(|_| {
        let store = store.clone();
        async move { claimed(&store).await }
    });
    let held = held.collect::<JoinSet<_>>().join_all().await;
    let key = stored(&store).await;
    server.restart();
    assert_stored(&store, key).await;
    server.restart();
    assert!(store.renew(held[0].0, held[0].1, LONG).await.unwrap());
    server.restart();
    assert!(store.complete(held[0].0, held[0].1, RECORD, LONG).await.unwrap());
    server.restart();
    store.release(held[1].0, held[1].1).await.unwrap();
    assert!(is_claimed(&claim(&store, held[1].0, Token::random()).await));
    for (key, token) in &held[2..] {
        assert!(store.complete(*key, *token, RECORD, LONG).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_and_restarted_under_use_loses_nothing_acknowledged() {
    let server = Arc::new(Postgres::start());
    let store = migrated(PostgresStore::builder(), &server.url()).await;
    let mut clients = JoinSet::new();
    let rounds = Arc::new(tokio::sync::Semaphore::new(0));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for _ in 0..8 {
        let (store, rounds, stop) = (store.clone(), Arc::clone(&rounds), Arc::clone(&stop));
        clients.spawn(async move {
            let mut acknowledged = HashSet::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let (key, token) = (fresh_key(), Token::random());
                let claim = store.claim(key, FINGERPRINT, token, LONG);
                if !matches!(timeout(LONG, claim).await, Ok(Ok(Claim::Claimed { .. }))) {
                    continue;
                }
                if let Ok(true) = store.complete(key, token, RECORD, LONG).await {
                    acknowledged.insert(key);
                    rounds.add_permits(1);
                }
            }
            acknowledged
        });
    }
    for _ in 0..4 {
        // The store works, before and between the faults.
        rounds.acquire_many(50).await.unwrap().forget();
        let server = Arc::clone(&server);
        tokio::task::spawn_blocking(move || server.restart()).await.unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for acknowledged in clients.join_all().await {
        for key in acknowledged {
            assert_stored(&store, key).await;
        }
    }
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_may_be_made_again() {
    let server = Postgres::start();
    let proxy = Proxy::start(server.address());
    // One message a statement, so that the first answer to be lost is that of the statement.
    let builder = PostgresStore::builder().transaction_pooler();
    let store = migrated(builder, &server.url_through(&proxy)).await;
    let rows = || server.execute("SELECT count(*), count(record) FROM idempotency_keys");

    until("a claim arrives whose answer is lost", async || {
        let token = Token::random();
        let (other, key) = (stored(&store).await, fresh_key());
        let before = rows();
        proxy.set(Fault::LoseReplies);
        let lost = store.claim(key, FINGERPRINT, token, LONG).await;
        proxy.set(Fault::None);
        assert!(lost.is_err(), "no answer has come: {lost:?}");
        let has_arrived = rows() != before;
        assert!(is_claimed(&claim(&store, key, token).await), "its token has it");
        assert_stored(&store, other).await;
        has_arrived
    })
    .await;
    until("a record arrives whose acknowledgement is lost", async || {
        let (key, token) = claimed(&store).await;
        let before = rows();
        proxy.set(Fault::LoseReplies);
        let lost = store.complete(key, token, RECORD, LONG).await;
        proxy.set(Fault::None);
        assert!(lost.is_err(), "no answer has come: {lost:?}");
        let has_arrived = rows() != before;
        assert!(store.complete(key, token, RECORD, LONG).await.unwrap(), "it is not lost");
        assert_stored(&store, key).await;
        has_arrived
    })
    .await;
}

#[tokio::test]
async fn calls_abandoned_at_a_silent_server_give_their_connections_back() {
    let server = Postgres::start();
    let url = server.url() + "?application_name=abandoned";
    let store = migrated(PostgresStore::builder().max_connections(2), &url).await;
    let (one, two) = (claimed(&store), claimed(&store));
    tokio::join!(one, two);
    // Only the sessions of the pool fall silent; the server goes on taking new ones.
    let sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'abandoned'";
    let sessions: Vec<_> = server.execute(sessions).lines().map(str::to_owned).collect();
    assert_eq!(sessions.len(), 2);
    let signal = |name: &str| {
        assert!(Command::new("kill").arg(name).args(&sessions).status().unwrap().success());
    };
    signal("-STOP");
    let abandoned = async || {
        let call = claim(&store, fresh_key(), Token::random());
        timeout(Duration::from_millis(200), call).await.expect_err("the session is silent");
    };
    tokio::join!(abandoned(), abandoned());
    until("a claim gets a new connection", async || {
        store.claim(fresh_key(), FINGERPRINT, Token::random(), LONG).await.is_ok()
    })
    .await;
    signal("-CONT");
}

/// What `connect` says, which must not take for ever.
async fn refusal(connect: impl Future<Output = Result<PostgresStore, StoreError>>) -> StoreError {
    let result = timeout(PATIENCE, connect).await.expect("`connect` ends by itself");
    result.expect_err("it cannot connect")
}

#[tokio::test]
async fn a_server_that_is_down_is_one_clear_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("postgres://user:secret@{address}/postgres");
    let error = refusal(PostgresStore::connect(&url)).await;
    assert_eq!(error.to_string(), format!("cannot connect to PostgreSQL at `{address}`"));
    assert!(chain(&error).contains("Connection refused"), "{}", chain(&error));
    assert!(!format!("{error:?}{}", chain(&error)).contains("secret"));
}

#[tokio::test]
async fn a_server_that_is_silent_is_one_clear_error() {
    let proxy = Proxy::start(SHARED.address());
    proxy.set(Fault::Stall);
    let builder = PostgresStore::builder().connect_timeout(Duration::from_millis(200));
    let error = refusal(builder.connect(&SHARED.url_through(&proxy))).await;
    assert!(error.to_string().ends_with("no answer within 200ms"), "{error}");
}

#[tokio::test]
async fn a_url_that_is_none_is_one_clear_error() {
    for url in ["", "redis://localhost", "postgres://user:secret@host:port/"] {
        let error = refusal(PostgresStore::connect(url)).await;
        assert!(!format!("{error:?}{}", chain(&error)).contains("secret"), "{error:?}");
        assert!(error.to_string().contains("PostgreSQL"), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_read_only_server_is_refused_and_claims_nothing() {
    let server = Postgres::start();
    let store = migrated(PostgresStore::builder(), &server.url()).await;
    let set_read_only = |value: &str| {
        server.execute(&format!(
            "ALTER DATABASE postgres SET default_transaction_read_only = {value}"
        ));
    };
    let (running, _) = claimed(&store).await;
    set_read_only("on");
    // The store's session began before; the setting is for those to come.
    until("the store meets it", async || {
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name <> 'psql' AND backend_type = 'client backend'",
        );
        store.claim(fresh_key(), FINGERPRINT, Token::random(), LONG).await.is_err()
    })
    .await;
    let rows = || server.execute("SELECT count(*) FROM idempotency_keys");
    let before = rows();
    let key = fresh_key();
    for key in [key, running] {
        let error = store.claim(key, FINGERPRINT, Token::random(), LONG).await.unwrap_err();
        assert!(error.to_string().contains("read-only"), "{}", chain(&error));
        assert!(error.source().is_some());
    }
    let error = refusal(PostgresStore::connect(&server.url())).await;
    assert!(error.to_string().contains("read-only"), "{}", chain(&error));
    assert_eq!(rows(), before);

    // As after a failover: sessions that are still read-only are given up, one a failed call.
    server.execute(
        "SET transaction_read_only = off; ALTER DATABASE postgres RESET default_transaction_read_only",
    );
    until("the store recovers by itself", async || {
        store.claim(key, FINGERPRINT, Token::random(), LONG).await.is_ok()
    })
    .await;
}
