//! What the verbs promise and cost, including through a pooler.

use std::time::Duration;

use bytes::Bytes;
use idempotent_runtime::{
    Attempt, Claim, Forgotten, Hold, KeyState, PostgresStore, Store, testing::conformance,
};
use idempotent_test_support::chain;
use test_servers::{PgBouncer, PoolMode, Postgres};
use tokio::task::JoinSet;

use super::{
    LONG, SHARED, assert_is_record, assert_stored, claim, claimed, fresh_table, is_claimed,
    migrated, store_at, stored,
};
use crate::{FOREIGN, RECORD, at, fresh, fresh_key, is_held};

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
    let attempt = claimed(&store).await;
    assert!(is_held(store.complete(&attempt, record.clone(), LONG).await));
    assert_is_record(claim(&store, &at(attempt.key)).await, &record);
}

#[tokio::test]
async fn every_verb_is_one_statement_and_one_is_all_a_replay_takes() {
    let server = Postgres::start_with(&["shared_preload_libraries=pg_stat_statements"]);
    server.execute("CREATE EXTENSION pg_stat_statements");
    let store = migrated(PostgresStore::builder(), &server.url()).await;
    let verbs = async |attempt: Attempt| {
        claim(&store, &attempt).await;
        assert!(is_held(store.renew(&attempt, LONG).await));
        assert!(is_held(store.complete(&attempt, RECORD, LONG).await));
        store.release(&attempt).await.unwrap();
        assert_stored(&store, attempt.key).await;
        assert!(matches!(store.read(attempt.key).await.unwrap(), KeyState::Stored { .. }));
        assert_eq!(store.forget(attempt.key, false).await.unwrap(), Forgotten::Freed);
    };
    server.execute("SELECT pg_stat_statements_reset()");
    for _ in 0..10 {
        verbs(fresh()).await;
    }
    let statements = server
        .execute("SELECT calls, query FROM pg_stat_statements WHERE query !~ 'pg_stat_statements'");
    let calls: u32 =
        statements.lines().filter_map(|line| line.split_once('|')?.0.parse::<u32>().ok()).sum();
    assert_eq!(calls, 7 * 10, "{statements}");
}

#[tokio::test]
async fn a_replay_and_a_look_take_no_transaction_id_and_write_no_wal() {
    let quiet = ["autovacuum=off", "wal_level=minimal", "max_wal_senders=0"];
    let server = Postgres::start_with(&quiet);
    let pooler = PgBouncer::start(&server, PoolMode::Transaction);
    let stores = [
        migrated(PostgresStore::builder(), &server.url()).await,
        migrated(PostgresStore::builder().transaction_pooler(), &pooler.url()).await,
    ];
    for store in stores {
        let key = stored(&store).await;
        let running = claimed(&store).await;
        let look = async || {
            assert_stored(&store, key).await;
            let found = claim(&store, &at(running.key)).await;
            assert!(matches!(found, Claim::Running { .. }));
            assert!(matches!(store.read(key).await.unwrap(), KeyState::Stored { .. }));
            assert!(matches!(store.read(running.key).await.unwrap(), KeyState::Running { .. }));
            assert_eq!(store.read(fresh_key()).await.unwrap(), KeyState::Absent);
        };
        // The first read may tidy up the page.
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
    let attempt = fresh();
    let claim = async |lease| store.claim(&attempt, lease).await.unwrap();
    assert!(is_claimed(&claim(Duration::from_secs(5)).await));
    assert_eq!(claim(LONG).await, Claim::Claimed { lease: Some(LONG) });
    match store.claim(&at(attempt.key), LONG).await.unwrap() {
        Claim::Running { lease_left: Some(left), .. } => assert!(left > LONG / 2, "{left:?}"),
        found => panic!("{found:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_that_overtakes_itself_is_stored_both_times() {
    let store = store_at(&SHARED.url()).await;
    for _ in 0..50 {
        let attempt = claimed(&store).await;
        let both = (0..4).map(|_| {
            let (store, attempt) = (store.clone(), attempt.clone());
            async move { store.complete(&attempt, RECORD, LONG).await.unwrap() }
        });
        let stored = both.collect::<JoinSet<_>>().join_all().await;
        assert_eq!(stored, [Hold::Held; 4]);
        assert_stored(&store, attempt.key).await;
    }
}

#[tokio::test]
async fn a_record_that_no_field_can_hold_is_too_large() {
    let store = store_at(&SHARED.url()).await;
    let attempt = claimed(&store).await;
    let record = Bytes::from(vec![0; (256 << 20) + 1]);
    let error = store.complete(&attempt, record, LONG).await.expect_err("it is refused");
    assert!(error.to_string().contains("larger than the idempotency store"), "{error}");
    assert!(is_held(store.complete(&attempt, RECORD, LONG).await), "the claim is untouched");
}

#[tokio::test]
async fn a_row_that_this_release_cannot_read_is_never_a_miss() {
    let server = Postgres::start();
    let store = migrated(PostgresStore::builder(), &server.url()).await;
    let key = stored(&store).await;
    server.execute("UPDATE idempotency_keys SET fingerprint = 'other'");
    let errors = [
        store.claim(&at(key), LONG).await.expect_err("an unknown row"),
        store.read(key).await.expect_err("an unknown row"),
    ];
    for error in errors {
        assert!(error.to_string().starts_with(FOREIGN), "{}", chain(&error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_to_sessions_that_print_bytes_in_another_way_conforms() {
    let server = Postgres::start();
    server.execute("ALTER DATABASE postgres SET bytea_output = escape");
    let pooler = PgBouncer::start(&server, PoolMode::Transaction);
    let builder = PostgresStore::builder().transaction_pooler();
    conformance(migrated(builder, &pooler.url()).await).await;
}
