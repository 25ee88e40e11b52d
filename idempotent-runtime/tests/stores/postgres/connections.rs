//! The store's own connections: how many there are, who gets them, and how they come back.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use idempotent_runtime::{Claim, Hold, PostgresStore, Store};
use idempotent_test_support::{PATIENCE, chain};
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool, postgres::PgPoolOptions};
use test_servers::{Fault, PgBouncer, PoolMode, Postgres, Proxy};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    LONG, SHARED, assert_stored, claim, claimed, fresh_table, is_claimed, migrated, store_at,
    stored, until,
};
use crate::{NOT_SENT, RECORD, at, fresh, is_held};

/// Requests of a service under a constant load, which continues whatever becomes of them.
struct Load {
    served: Arc<Mutex<Vec<bool>>>,
    _requests: JoinSet<()>,
}

impl Load {
    /// This many requests per second, each abandoned after `limit`, as the runtime does.
    fn start(store: &PostgresStore, per_second: u32, limit: Duration) -> Self {
        let served = Arc::<Mutex<Vec<bool>>>::default();
        let (store, ends) = (store.clone(), Arc::clone(&served));
        let mut requests = JoinSet::new();
        requests.spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / per_second);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut under_way = JoinSet::new();
            loop {
                ticks.tick().await;
                let (store, ends) = (store.clone(), Arc::clone(&ends));
                under_way.spawn(async move {
                    let attempt = fresh();
                    let claim = timeout(limit, store.claim(&attempt, LONG)).await;
                    let is_claimed = matches!(claim, Ok(Ok(Claim::Claimed { .. })));
                    let complete = timeout(limit, store.complete(&attempt, RECORD, LONG));
                    let is_served = is_claimed && matches!(complete.await, Ok(Ok(Hold::Held)));
                    ends.lock().unwrap().push(is_served);
                    // As the runtime does after a claim that may have been made.
                    let may_be_held = match claim {
                        Ok(Ok(_)) => false,
                        Ok(Err(error)) => error.to_string() != NOT_SENT,
                        Err(_) => true,
                    };
                    let release = async || timeout(limit, store.release(&attempt)).await;
                    for _ in 0..if may_be_held { 15 } else { 0 } {
                        if let Ok(Ok(())) = release().await {
                            break;
                        }
                    }
                });
                while under_way.try_join_next().is_some() {}
            }
        });
        Self { served, _requests: requests }
    }

    fn ended(&self) -> usize {
        self.served.lock().unwrap().len()
    }

    /// Waits until the last `count` requests have all been served, or have all failed.
    async fn until_last(&self, count: usize, is_served: bool) {
        until(&format!("{count} requests in turn with `is_served` = {is_served}"), async || {
            let served = self.served.lock().unwrap();
            served.iter().rev().take_while(|served| **served == is_served).count() >= count
        })
        .await;
    }
}

/// The server's sessions that are not those of `psql`.
fn sessions(server: &Postgres) -> usize {
    let sessions = server.execute(
        "SELECT count(*) FROM pg_stat_activity
         WHERE backend_type = 'client backend' AND application_name <> 'psql'",
    );
    sessions.trim().parse().unwrap()
}

#[tokio::test]
async fn a_connection_is_opened_although_whoever_waits_for_it_leaves() {
    let server = Postgres::start_with(&["pre_auth_delay=1"]);
    let store = PostgresStore::builder().connect_timeout(LONG).connect(&server.url()).await;
    let store = store.expect("the server is up");
    server.execute(&store.schema_sql());
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name <> 'psql'",
    );
    until("a claim finds a connection", async || {
        timeout(Duration::from_millis(100), store.claim(&fresh(), LONG))
            .await
            .is_ok_and(|it| it.is_ok())
    })
    .await;
}

#[tokio::test]
async fn a_call_does_not_wait_for_a_server_that_goes_on_refusing() {
    let server = Postgres::start();
    let store = migrated(PostgresStore::builder().acquire_timeout(LONG), &server.url()).await;
    server.kill();
    store.claim(&fresh(), LONG).await.expect_err("it was on its way");
    for _ in 0..3 {
        let claim = timeout(PATIENCE, store.claim(&fresh(), LONG)).await;
        let error = claim.expect("it fails before its limit").expect_err("nobody listens");
        assert_eq!(error.to_string(), NOT_SENT, "{}", chain(&error));
    }
    server.restart();
    assert!(is_claimed(&claim(&store, &fresh()).await), "the next attempt finds it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_comes_back_after_an_outage_although_connecting_is_slow() {
    let server = Arc::new(Postgres::start_with(&["pre_auth_delay=1"]));
    let builder = PostgresStore::builder().connect_timeout(LONG);
    let store = migrated(builder, &server.url()).await;
    let load = Load::start(&store, 20, Duration::from_secs(2));
    load.until_last(20, true).await;
    server.kill();
    load.until_last(100, false).await;
    let again = Arc::clone(&server);
    tokio::task::spawn_blocking(move || again.restart()).await.unwrap();
    let before = load.ended();
    // Connections that take longer to open than callers wait are still opened.
    load.until_last(60, true).await;
    let needed = load.ended() - before;
    assert!(needed <= 20 * 20, "{needed} requests ended until all were served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_comes_back_after_an_outage_under_full_load() {
    let server = Arc::new(Postgres::start());
    let store = migrated(PostgresStore::builder(), &server.url()).await;
    let load = Load::start(&store, 200, Duration::from_secs(2));
    load.until_last(200, true).await;
    server.kill();
    load.until_last(2000, false).await;
    let again = Arc::clone(&server);
    tokio::task::spawn_blocking(move || again.restart()).await.unwrap();
    let before = load.ended();
    load.until_last(600, true).await;
    let needed = load.ended() - before;
    assert!(needed <= 200 * 20, "{needed} requests ended until all were served");
    let sessions = sessions(&server);
    assert!(sessions <= 10, "{sessions} sessions");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_given_up_at_a_locked_table_do_not_use_up_the_server() {
    let server = Postgres::start();
    let store = migrated(PostgresStore::builder(), &server.url()).await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    let mut lock = other.begin().await.unwrap();
    lock.execute("LOCK TABLE idempotency_keys").await.unwrap();
    let load = Load::start(&store, 50, Duration::from_millis(200));
    let mut most = 0;
    until("500 requests have been given up", async || {
        most = most.max(sessions(&server) - 1);
        load.ended() >= 500
    })
    .await;
    assert!(most <= 20, "{most} sessions of a store that has 10 connections");
    lock.rollback().await.unwrap();
    load.until_last(50, true).await;
}

/// No `statement_timeout` ends a commit, and a session that waits for a standby does not notice that
/// its client has gone.
#[tokio::test(flavor = "multi_thread")]
async fn commits_that_wait_for_a_standby_do_not_use_up_the_server() {
    const CONNECTIONS: u32 = 4;
    let server = Postgres::start();
    let builder = PostgresStore::builder().max_connections(CONNECTIONS);
    let store = migrated(builder, &server.url()).await;
    let standbys = |names: &str| {
        server.execute(&format!("ALTER SYSTEM SET synchronous_standby_names = {names}"));
        server.execute("SELECT pg_reload_conf()");
    };
    standbys("'nobody'");
    let load = Load::start(&store, 50, Duration::from_millis(200));
    let mut most = 0;
    until("1000 requests have been given up", async || {
        most = most.max(sessions(&server));
        load.ended() >= 1000
    })
    .await;
    let bound = 2 * usize::try_from(CONNECTIONS).unwrap();
    assert!(most <= bound, "{most} sessions of a store that has {CONNECTIONS} connections");
    standbys("DEFAULT");
    load.until_last(50, true).await;
}

#[tokio::test]
async fn a_verb_ends_with_its_statement_timeout_also_behind_a_pooler() {
    let server = Postgres::start();
    let pooler = PgBouncer::start(&server, PoolMode::Transaction);
    let builder = || PostgresStore::builder().statement_timeout(Duration::from_millis(200));
    let stores = [
        migrated(builder(), &server.url()).await,
        migrated(builder().transaction_pooler(), &pooler.url()).await,
        builder().build(PgPool::connect(&server.url()).await.unwrap()).unwrap(),
    ];
    let held = claimed(&stores[0]).await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    let mut lock = other.begin().await.unwrap();
    lock.execute("LOCK TABLE idempotency_keys").await.unwrap();
    for store in &stores {
        let errors = [
            store.claim(&fresh(), LONG).await.expect_err("the table is locked"),
            store.complete(&held, RECORD, LONG).await.expect_err("the table is locked"),
        ];
        for error in errors {
            assert!(error.to_string().contains("`statement_timeout`"), "{}", chain(&error));
        }
    }
    lock.rollback().await.unwrap();
    for store in &stores {
        assert!(is_claimed(&claim(store, &fresh()).await), "the connections are whole");
    }
    assert_eq!(
        pooler.execute("SHOW statement_timeout; SHOW bytea_output").trim(),
        "0\nhex",
        "nothing is left in sessions that others use"
    );
}

#[tokio::test]
async fn neither_migrating_nor_purging_ends_with_the_statement_timeout() {
    let server = Postgres::start();
    let limit = Duration::from_millis(100);
    let store = migrated(PostgresStore::builder().statement_timeout(limit), &server.url()).await;
    let short = claimed(&store).await;
    assert!(is_held(store.complete(&short, RECORD, Duration::from_millis(1)).await));
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    let mut lock = other.begin().await.unwrap();
    // Migrating waits for the first, purging for the second.
    lock.execute("SELECT pg_advisory_xact_lock(x'6964656d706f6b78'::bigint)").await.unwrap();
    lock.execute("LOCK TABLE idempotency_keys").await.unwrap();
    let migrating = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    // Its first round is its last.
    let _purging = store.purge_expired(LONG);
    let waiting = || server.execute("SELECT count(*) FROM pg_locks WHERE NOT granted");
    until("both wait", async || waiting().trim() == "2").await;
    for _ in 0..5 {
        let error = store.claim(&fresh(), LONG).await.expect_err("the table is locked");
        assert!(error.to_string().contains("`statement_timeout`"), "{}", chain(&error));
    }
    assert_eq!(waiting().trim(), "2", "they wait for longer than a verb may");
    lock.rollback().await.unwrap();
    migrating.await.unwrap().expect("it has waited");
    until("what has expired is gone", async || {
        server.execute("SELECT count(*) FROM idempotency_keys").trim() == "0"
    })
    .await;
}

#[tokio::test]
async fn handlers_that_hold_every_connection_of_their_pool_take_none_from_the_store() {
    let options = PgPoolOptions::new().max_connections(5).acquire_timeout(Duration::from_secs(2));
    let pool = options.connect(&SHARED.url()).await.unwrap();
    let builder = PostgresStore::builder().table(fresh_table());
    let store = builder.build(pool.clone()).unwrap();
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(pool.acquire().await.unwrap());
    }
    store.migrate().await.unwrap();
    let attempt = claimed(&store).await;
    assert!(is_held(store.renew(&attempt, LONG).await));
    assert!(is_held(store.complete(&attempt, RECORD, LONG).await));
    assert_stored(&store, attempt.key).await;
    drop(held);
}

#[tokio::test]
async fn connections_are_made_with_the_options_that_the_pool_has_by_then() {
    let server = Postgres::start();
    let greeted = Arc::new(AtomicUsize::new(0));
    let greets = Arc::clone(&greeted);
    let pool = PgPoolOptions::new()
        .after_connect(move |connection, _| {
            greets.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                connection.execute("SET idempotent_test.greeting = 'hello'").await.map(drop)
            })
        })
        .connect_lazy(&(server.url() + "?application_name=before"))
        .unwrap();
    let store = PostgresStore::new(pool.clone());
    store.migrate().await.unwrap();
    claimed(&store).await;
    assert!(greeted.load(Ordering::Relaxed) > 0, "`after_connect` has run");
    assert_eq!(pool.size(), 0, "the pool itself was not used");

    server.execute("CREATE ROLE fresh LOGIN SUPERUSER");
    let options = pool.connect_options().as_ref().clone();
    pool.set_connect_options(options.username("fresh").application_name("after"));
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'before'",
    );
    until("a connection is made with the new credentials", async || {
        claimed(&store).await;
        let users = server.execute(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'after'",
        );
        users.trim() == "fresh"
    })
    .await;
}

#[tokio::test]
async fn whoever_holds_a_key_does_not_queue_behind_claims() {
    let store = store_at(&SHARED.url()).await;
    let (held, ended) = (claimed(&store).await, claimed(&store).await);
    let (table, contested) = (table_of(&store), fresh());
    let mut other = PgConnection::connect(&SHARED.url()).await.unwrap();
    let mut uncommitted = other.begin().await.unwrap();
    let insert = format!(
        "INSERT INTO {table} (key, fingerprint, token, expires)
         VALUES ($1, '', '', now() + interval '1 hour')"
    );
    let insert = sqlx::query(sqlx::AssertSqlSafe(insert)).bind(&contested.key.as_bytes()[..]);
    insert.execute(&mut *uncommitted).await.unwrap();
    // Each of them waits for the transaction to end, or for a connection.
    let mut claims = JoinSet::new();
    for _ in 0..100 {
        let (store, attempt) = (store.clone(), at(contested.key));
        claims.spawn(async move { store.claim(&attempt, LONG).await });
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    until("claims wait for all that they may use", async || {
        SHARED.execute(waiting).trim().parse::<u32>().unwrap() >= 7
    })
    .await;
    for _ in 0..20 {
        assert!(is_held(store.renew(&held, LONG).await));
    }
    assert!(is_held(store.complete(&held, RECORD, LONG).await));
    store.release(&ended).await.unwrap();
    uncommitted.rollback().await.unwrap();
    claims.shutdown().await;
}

/// The quoted name of the store's table.
fn table_of(store: &PostgresStore) -> String {
    let schema = store.schema_sql();
    schema.split("CREATE TABLE ").nth(1).unwrap().split(" (").next().unwrap().to_owned()
}

#[tokio::test]
async fn no_more_calls_wait_than_can_be_served_and_the_others_fail_at_once() {
    let server = Postgres::start();
    let builder = PostgresStore::builder().max_connections(2).acquire_timeout(LONG);
    let store = migrated(builder.statement_timeout(LONG), &server.url()).await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    let mut lock = other.begin().await.unwrap();
    lock.execute("LOCK TABLE idempotency_keys").await.unwrap();
    let mut claims = JoinSet::new();
    for _ in 0..200 {
        let store = store.clone();
        claims.spawn(async move { store.claim(&fresh(), LONG).await });
    }
    // One claim has the connection that claims may use, and 64 wait for it.
    for _ in 0..200 - 65 {
        let error = claims.join_next().await.unwrap().unwrap().expect_err("too many wait");
        assert_eq!(error.to_string(), NOT_SENT);
        assert!(chain(&error).contains("64 calls wait"), "{}", chain(&error));
    }
    lock.rollback().await.unwrap();
    for claim in claims.join_all().await {
        assert!(is_claimed(&claim.expect("it has waited")));
    }
}

#[tokio::test]
async fn a_migration_cut_off_anywhere_leaves_no_transaction_to_a_verb() {
    let server = Postgres::start();
    let proxy = Proxy::start(server.address());
    // One connection for all callers: the verb gets the one that the migration had.
    let builder = PostgresStore::builder().max_connections(2);
    let store = migrated(builder, &server.url_through(&proxy)).await;
    // So that each answer is waited for.
    proxy.set(Fault::Latency(Duration::from_millis(5)));
    for polls in 1.. {
        if let Some(migrated) = first_polls(store.migrate(), polls).await {
            migrated.unwrap();
            assert!(polls > 5, "a migration waits for more answers than that: {polls}");
            break;
        }
        let key = stored(&store).await;
        let rows = server.execute(&format!(
            "SELECT count(record) FROM idempotency_keys WHERE key = decode('{key}', 'hex')"
        ));
        assert_eq!(rows.trim(), "1", "what was acknowledged is committed, cut at poll {polls}");
    }
}

/// The result of `call` within this many polls; otherwise it is dropped.
async fn first_polls<T>(call: impl Future<Output = T>, polls: u32) -> Option<T> {
    let mut call = pin!(call);
    let mut polled = 0;
    poll_fn(|context| {
        polled += 1;
        match call.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if polled == polls => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
