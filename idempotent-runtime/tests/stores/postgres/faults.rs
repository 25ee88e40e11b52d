//! A server that restarts, dies, falls silent, loses an answer, or is read-only.

use std::{collections::HashSet, process::Command, sync::Arc, time::Duration};

use idempotent_runtime::{Attempt, Claim, Hold, PostgresStore, Store};
use idempotent_test_support::{chain, history::Recorder};
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use test_servers::{Fault, Postgres, Proxy};
use tokio::{task::JoinSet, time::timeout};

use super::{
    LONG, assert_stored, claim, claimed,
    connecting::{closed_address, refusal},
    is_claimed, migrated, stored, until,
};
use crate::{NOT_SENT, RECORD, assert_told_once, at, fresh, fresh_key, is_held};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_calls_after_a_restart_of_the_server_succeed() {
    let server = Postgres::start();
    let recorder = Recorder::default();
    let store = recorder.instance(migrated(PostgresStore::builder(), &server.url()).await);
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
    assert!(is_held(store.renew(&held[0], LONG).await));
    server.restart();
    assert!(is_held(store.complete(&held[0], RECORD, LONG).await));
    server.restart();
    store.release(&held[1]).await.unwrap();
    assert!(is_claimed(&claim(&store, &at(held[1].key)).await));
    for attempt in &held[2..] {
        assert!(is_held(store.complete(attempt, RECORD, LONG).await));
    }
    recorder.history().assert_linearizable();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_and_restarted_under_use_loses_nothing_acknowledged() {
    let server = Arc::new(Postgres::start());
    let recorder = Recorder::default();
    let store = recorder.instance(migrated(PostgresStore::builder(), &server.url()).await);
    let mut clients = JoinSet::new();
    let rounds = Arc::new(tokio::sync::Semaphore::new(0));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for _ in 0..8 {
        let (store, rounds, stop) = (store.clone(), Arc::clone(&rounds), Arc::clone(&stop));
        clients.spawn(async move {
            let mut acknowledged = HashSet::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let attempt = fresh();
                let claim = store.claim(&attempt, LONG);
                if !matches!(timeout(LONG, claim).await, Ok(Ok(Claim::Claimed { .. }))) {
                    continue;
                }
                if let Ok(Hold::Held) = store.complete(&attempt, RECORD, LONG).await {
                    acknowledged.insert(attempt.key);
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
    recorder.history().assert_linearizable();
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_may_be_made_again() {
    let server = Postgres::start();
    let proxy = Proxy::start(server.address());
    // One message per statement, so that the first lost answer is that of the statement.
    let builder = PostgresStore::builder().transaction_pooler();
    let recorder = Recorder::default();
    let store = recorder.instance(migrated(builder, &server.url_through(&proxy)).await);
    let rows = || server.execute("SELECT count(*), count(record) FROM idempotency_keys");

    until("a claim arrives whose answer is lost", async || {
        let (other, attempt) = (stored(&store).await, fresh());
        let before = rows();
        proxy.set(Fault::LoseReplies);
        let lost = store.claim(&attempt, LONG).await;
        proxy.set(Fault::None);
        let error = lost.expect_err("no answer has come").to_string();
        let has_arrived = rows() != before;
        assert!(!has_arrived || error != NOT_SENT, "it was sent");
        assert!(is_claimed(&claim(&store, &attempt).await), "its token has it");
        assert_stored(&store, other).await;
        has_arrived
    })
    .await;
    until("a record arrives whose acknowledgement is lost", async || {
        let attempt = claimed(&store).await;
        let before = rows();
        proxy.set(Fault::LoseReplies);
        let lost = store.complete(&attempt, RECORD, LONG).await;
        proxy.set(Fault::None);
        let error = lost.expect_err("no answer has come").to_string();
        let has_arrived = rows() != before;
        assert!(!has_arrived || error != NOT_SENT, "it was sent");
        assert!(is_held(store.complete(&attempt, RECORD, LONG).await), "it is not lost");
        assert_stored(&store, attempt.key).await;
        has_arrived
    })
    .await;
    recorder.history().assert_linearizable();
}

#[tokio::test]
async fn calls_abandoned_at_a_silent_server_give_their_connections_back() {
    let server = Postgres::start();
    let url = server.url() + "?application_name=abandoned";
    let store = migrated(PostgresStore::builder().max_connections(2), &url).await;
    let held = claimed(&store).await;
    let sessions = || {
        let sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'abandoned'";
        server.execute(sessions).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    until("all sessions are there", async || {
        let (_, renewed) = tokio::join!(claimed(&store), store.renew(&held, LONG));
        is_held(renewed) && sessions().len() == 2
    })
    .await;
    // Only the store's sessions fall silent; the server still takes new ones.
    let sessions = sessions();
    let signal = |name: &str| {
        assert!(Command::new("kill").arg(name).args(&sessions).status().unwrap().success());
    };
    signal("-STOP");
    let short = Duration::from_millis(200);
    let attempt = fresh();
    let claim = async { timeout(short, store.claim(&attempt, LONG)).await.is_err() };
    let renewal = async { timeout(short, store.renew(&held, LONG)).await.is_err() };
    assert_eq!(tokio::join!(claim, renewal), (true, true), "the sessions are silent");
    until("a claim gets a new connection", async || store.claim(&fresh(), LONG).await.is_ok())
        .await;
    until("a renewal gets one", async || store.renew(&held, LONG).await.is_ok()).await;
    signal("-CONT");
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
    let running = claimed(&store).await;
    set_read_only("on");
    // The store's session began earlier; the setting only affects later ones.
    until("the store meets it", async || {
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name <> 'psql' AND backend_type = 'client backend'",
        );
        store.claim(&fresh(), LONG).await.is_err()
    })
    .await;
    let rows = || server.execute("SELECT count(*) FROM idempotency_keys");
    let before = rows();
    let key = fresh_key();
    for key in [key, running.key] {
        let error = store.claim(&at(key), LONG).await.unwrap_err();
        assert!(error.to_string().contains("read-only"), "{}", chain(&error));
        assert_told_once(&error);
    }
    let error = refusal(PostgresStore::connect(&server.url())).await;
    assert!(error.to_string().contains("read-only"), "{}", chain(&error));
    assert_eq!(rows(), before);

    // As after a failover: sessions that are still read-only are dropped, one per failed call.
    server.execute(
        "SET transaction_read_only = off; ALTER DATABASE postgres RESET default_transaction_read_only",
    );
    until("the store recovers by itself", async || store.claim(&at(key), LONG).await.is_ok()).await;
}

#[tokio::test]
async fn a_call_without_a_connection_was_not_sent() {
    let server = Postgres::start();
    let builder = || {
        let builder = PostgresStore::builder().acquire_timeout(Duration::from_millis(100));
        builder.max_connections(2)
    };
    let assert_not_sent = async |store: &PostgresStore| {
        let error = store.claim(&fresh(), LONG).await.unwrap_err();
        assert_eq!(error.to_string(), NOT_SENT, "{}", chain(&error));
        assert_told_once(&error);
    };
    let closed = server.url().replace(&server.address().to_string(), &closed_address());
    for url in [&*closed, "postgres://nowhere.invalid"] {
        let pool = PgPool::connect_lazy(url).unwrap();
        assert_not_sent(&builder().build(pool).unwrap()).await;
    }

    // The one connection that claims may use waits for a lock.
    let store = migrated(builder(), &server.url()).await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    let mut lock = other.begin().await.unwrap();
    lock.execute("LOCK TABLE idempotency_keys").await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.claim(&fresh(), LONG).await }
    });
    until("the claim waits", async || {
        let locks = server.execute("SELECT count(*) FROM pg_locks WHERE NOT granted");
        locks.trim() == "1"
    })
    .await;
    assert_not_sent(&store).await;
    lock.rollback().await.unwrap();
    assert!(is_claimed(&waiting.await.unwrap().unwrap()));
}

/// A store whose one connection is open and idle, and a claim in it.
async fn claimed_and_idle(url: &str) -> (PostgresStore, Attempt) {
    let store = migrated(PostgresStore::builder(), url).await;
    let attempt = claimed(&store).await;
    (store, attempt)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_on_its_way_may_have_arrived() {
    let server = Postgres::start();
    let proxy = Proxy::start(server.address());
    let (store, attempt) = claimed_and_idle(&server.url_through(&proxy)).await;
    proxy.set(Fault::Stall);
    let call = tokio::spawn(async move { store.renew(&attempt, LONG).await });
    proxy.await_stalled();
    proxy.set(Fault::Reset);
    let error = call.await.unwrap().expect_err("the connection is reset");
    assert_ne!(error.to_string(), NOT_SENT, "{}", chain(&error));
}

#[tokio::test]
async fn a_call_that_broke_before_no_connection_was_left_may_have_been_made() {
    let server = Postgres::start();
    let (store, attempt) = claimed_and_idle(&server.url()).await;
    server.kill();
    let error = store.renew(&attempt, LONG).await.unwrap_err();
    assert_ne!(error.to_string(), NOT_SENT, "{}", chain(&error));
    let error = store.renew(&attempt, LONG).await.unwrap_err();
    assert_eq!(error.to_string(), NOT_SENT, "{}", chain(&error));
    assert!(chain(&error).contains("refused"), "it tells why: {}", chain(&error));
    assert_told_once(&error);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_the_server_ended_are_not_noticed() {
    let server = Postgres::start_with(&["idle_session_timeout=300"]);
    let store = migrated(PostgresStore::builder(), &server.url()).await;
    let sessions = || {
        let sessions = "SELECT count(*) FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        server.execute(sessions).trim().to_owned()
    };
    for _ in 0..3 {
        let claims = (0..10).map(|_| {
            let store = store.clone();
            async move { claimed(&store).await }
        });
        claims.collect::<JoinSet<_>>().join_all().await;
        until("all sessions have been idle for too long", async || sessions() == "0").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_for_a_connection_is_asked_again() {
    let server = Postgres::start_with(&["max_connections=8", "superuser_reserved_connections=0"]);
    let builder = PostgresStore::builder().acquire_timeout(Duration::from_millis(100));
    let store = migrated(builder, &server.url()).await;
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
    );
    let mut others = Vec::new();
    until("others use up the server's connections", async || {
        match PgConnection::connect(&server.url()).await {
            Ok(other) => others.push(other),
            // The connection of `psql` may still be open.
            Err(_) => return others.len() == 8,
        }
        false
    })
    .await;
    // The first one is sent over the connection that the server has ended.
    store.claim(&fresh(), LONG).await.unwrap_err();
    let error = store.claim(&fresh(), LONG).await.unwrap_err();
    assert_eq!(error.to_string(), NOT_SENT, "{}", chain(&error));
    assert!(chain(&error).contains("too many clients"), "{}", chain(&error));
    assert_told_once(&error);
    drop(others);
    until("there is room again", async || store.claim(&fresh(), LONG).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forget_that_may_have_arrived_is_not_sent_again() {
    let server = Postgres::start();
    let proxy = Proxy::start(server.address());
    // In one message, so that it is more than prepared.
    let builder = PostgresStore::builder().transaction_pooler();
    let store = migrated(builder, &server.url_through(&proxy)).await;
    let other = migrated(PostgresStore::builder(), &server.url()).await;
    let key = stored(&store).await;
    // So that there is a connection.
    assert_stored(&store, key).await;
    proxy.set(Fault::LoseReplies);
    let error = store.forget(key, true).await.expect_err("the answer is lost");
    assert_ne!(error.to_string(), NOT_SENT);
    // Somebody claims what it has freed; a second `forget` would free that.
    let next = at(key);
    until("the first call is done", async || is_claimed(&claim(&other, &next).await)).await;
    proxy.set(Fault::None);
    assert!(!is_claimed(&claim(&store, &at(key)).await), "the store goes on");
    assert!(is_held(other.renew(&next, LONG).await));
}
