//! What a shared store costs: commands per request, counted on a real server, and the latency they
//! add over the store in memory, beside that of a bare round trip to the same server. And what a
//! near cache saves of it: replays a second with and without one.
//!
//! Requests are called in the process: one after the other for the latency, by one client and by many
//! for the rates of each store, SQLite's file included. The server is on the same machine, so the
//! latency is that of its work, without a network's.

mod rates;

use std::time::Instant;

use axum::Router;
use benches::{
    Handler, handler, program,
    request::{drive, key, order, request},
    table,
};
use idempotent_axum::{
    Idempotency, MemoryStore, PostgresStore, RedisStore, SqliteStore, SqliteSynchronous, Store,
};
use redis::aio::ConnectionManager;
use sqlx::{Connection as _, PgConnection};
use test_servers::{Disk, Postgres, Redis};
use uuid::Uuid;

const ROUNDS: usize = 3000;
/// Their times are not taken: connections open, statements are prepared, scripts loaded.
const WARM_UP: usize = 200;
/// Requests whose commands are counted.
const COUNTED: u64 = 100;
/// Keys whose replays are counted by the second, that often.
const REPLAYED: usize = 2000;
const TIMES: usize = 9;
const CLIENTS: usize = 16;
const NEAR_CACHE: usize = 64 << 20;

const REDIS: [(&str, &[&str]); 2] = [
    ("Redis, nothing on disk", &[]),
    ("Redis, `appendfsync always`", &["--appendonly", "yes", "--appendfsync", "always"]),
];
const POSTGRES: [(&str, &str); 2] =
    [("PostgreSQL, `fsync=off`", "fsync=off"), ("PostgreSQL", "fsync=on")];

fn main() {
    program::arguments("stores", |arguments| arguments.is_empty().then_some(()));
    program::runtime(1).block_on(async {
        compare().await;
        rates().await;
        compare_replays().await;
    });
}

async fn compare() {
    table::head(
        &format!("Medians of {ROUNDS} rounds, [quartiles], × a bare round trip"),
        &[
            "store",
            "commands, first",
            "commands, replay",
            "bare round trip, µs",
            "first adds, µs",
            "replay adds, µs",
        ],
    );
    for (name, arguments) in REDIS {
        let server = Redis::start_with(arguments);
        let store = RedisStore::connect(server.url()).await.expect("the server is up");
        let client = redis::Client::open(server.url()).expect("a URL");
        let mut connection = ConnectionManager::new(client).await.expect("the server is up");
        let ping = async || {
            redis::cmd("PING").exec_async(&mut connection).await.expect("it answers");
        };
        print(name, store, ping, || redis_commands(&server)).await;
    }
    for (name, fsync) in POSTGRES {
        let server = Postgres::start_with(&[fsync, "shared_preload_libraries=pg_stat_statements"]);
        server.execute("CREATE EXTENSION pg_stat_statements");
        let store = PostgresStore::connect(&server.url()).await.expect("the server is up");
        store.migrate().await.expect("a superuser may");
        let mut connection = PgConnection::connect(&server.url()).await.expect("the server is up");
        let select = async || {
            sqlx::query("SELECT 1").execute(&mut connection).await.expect("it answers");
        };
        print(name, store, select, || postgres_commands(&server)).await;
    }
}

async fn rates() {
    rates::head();
    rates::print("memory", router(MemoryStore::new())).await;
    for (name, synchronous) in [
        ("SQLite, `synchronous=NORMAL`", SqliteSynchronous::Normal),
        ("SQLite", SqliteSynchronous::Full),
    ] {
        let disk = Disk::new();
        let store = SqliteStore::builder().synchronous(synchronous);
        let store = store.connect(disk.path().join("idempotency.db")).await;
        rates::print(name, router(store.expect("the file can be made"))).await;
    }
    for (name, arguments) in REDIS {
        let server = Redis::start_with(arguments);
        let store = RedisStore::connect(server.url()).await.expect("the server is up");
        rates::print(name, router(store)).await;
    }
    for (name, fsync) in POSTGRES {
        let server = Postgres::start_with(&[fsync]);
        let store = PostgresStore::connect(&server.url()).await.expect("the server is up");
        store.migrate().await.expect("a superuser may");
        rates::print(name, router(store)).await;
    }
}

/// Prints the row of a store. `trip` is a bare round trip, `commands` how many the server has had.
async fn print(
    name: &str,
    store: impl Store,
    mut trip: impl AsyncFnMut(),
    commands: impl Fn() -> u64,
) {
    let (mut memory, mut shared) = (router(MemoryStore::new()), router(store));
    let mut times: [Vec<f64>; 5] = Default::default();
    for round in 0..WARM_UP + ROUNDS {
        let key = key();
        let taken = [
            timed(trip()).await,
            timed(send(&mut memory, key, false)).await,
            timed(send(&mut memory, key, true)).await,
            timed(send(&mut shared, key, false)).await,
            timed(send(&mut shared, key, true)).await,
        ];
        if round >= WARM_UP {
            times.iter_mut().zip(taken).for_each(|(times, taken)| times.push(taken));
        }
    }
    let [trip, first_in_memory, replay_in_memory, first, replay] = times.map(table::quartiles);
    let added = |shared: [f64; 3], memory: [f64; 3]| {
        let [low, median, high] = shared.map(|micros| micros - memory[1]);
        format!("{median:.0} [{low:.0}–{high:.0}], {:.2} ×", median / trip[1])
    };

    let keys: Vec<_> = (0..COUNTED).map(|_| key()).collect();
    let firsts = made(&commands, send_all(&mut shared, &keys, false)).await;
    let replays = made(&commands, send_all(&mut shared, &keys, true)).await;
    table::row([
        name.to_owned(),
        each(firsts).to_string(),
        each(replays).to_string(),
        format!("{:.0}", trip[1]),
        added(first, first_in_memory),
        added(replay, replay_in_memory),
    ]);
}

/// How many commands the server has had for `work`.
async fn made(commands: impl Fn() -> u64, work: impl Future<Output = ()>) -> u64 {
    let of_counting = {
        let before = commands();
        commands() - before
    };
    let before = commands();
    work.await;
    commands() - before - of_counting
}

/// How many each of the counted requests has made.
fn each(commands: u64) -> u64 {
    assert_eq!(commands % COUNTED, 0, "each request makes the same number");
    commands / COUNTED
}

fn router(store: impl Store) -> Router {
    Handler::Returns.idempotent().layer(Idempotency::new(store))
}

async fn send_all(router: &mut Router, keys: &[Uuid], is_replay: bool) {
    for &key in keys {
        send(router, key, is_replay).await;
    }
}

async fn send(router: &mut Router, key: Uuid, is_replay: bool) {
    let runs = handler::runs();
    drive(router, [request(Some(key), order(100))]).await;
    assert_eq!(handler::runs() - runs, u64::from(!is_replay));
}

/// In microseconds.
async fn timed(work: impl Future<Output = ()>) -> f64 {
    let since = Instant::now();
    work.await;
    since.elapsed().as_secs_f64() * 1e6
}

/// How often the server has read from a client: once a command, but not for those of a script.
fn redis_commands(server: &Redis) -> u64 {
    let statistics = server.cli(&["INFO", "stats"]);
    let reads = statistics.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
    reads.and_then(|reads| reads.trim().parse().ok()).expect("Redis 6 counts its reads")
}

/// The statements on the store's table that the server has run.
fn postgres_commands(server: &Postgres) -> u64 {
    let calls = server.execute(
        "SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_statements
         WHERE query LIKE '%idempotency_keys%'",
    );
    calls.parse().expect("a number")
}

/// Replays with and without a near cache.
async fn compare_replays() {
    table::head(
        &format!(
            "Replays of {CLIENTS} clients: {REPLAYED} keys, medians of {TIMES} times, [quartiles]"
        ),
        &["store", "", "commands, replay", "replays a second"],
    );
    let server = Redis::start();
    let store = RedisStore::connect(server.url()).await.expect("the server is up");
    print_replays("Redis", store, || redis_commands(&server)).await;
    let server = Postgres::start_with(&["shared_preload_libraries=pg_stat_statements"]);
    server.execute("CREATE EXTENSION pg_stat_statements");
    let store = PostgresStore::connect(&server.url()).await.expect("the server is up");
    store.migrate().await.expect("a superuser may");
    print_replays("PostgreSQL", store, || postgres_commands(&server)).await;
}

async fn print_replays(name: &str, store: impl Store + Clone, commands: impl Fn() -> u64) {
    let near = || {
        let idempotency = Idempotency::new(store.clone()).near_cache(NEAR_CACHE);
        Handler::Returns.idempotent().layer(idempotency)
    };
    let (mut plain, mut warm) = (router(store.clone()), near());
    let keys: Vec<_> = (0..REPLAYED).map(|_| key()).collect();
    send_all(&mut plain, &keys, false).await;
    send_all(&mut warm, &keys, true).await;
    let mut rates: [Vec<f64>; 3] = Default::default();
    for _ in 0..TIMES {
        // One that has not replayed them yet.
        let cold = near();
        for (rates, router) in rates.iter_mut().zip([&plain, &warm, &cold]) {
            rates.push(rate(router, &keys).await);
        }
    }
    let rows = ["without a near cache", "near cache, hit", "near cache, miss"];
    let counted = &keys[..usize::try_from(COUNTED).expect("a small number")];
    for ((row, rates), mut router) in rows.into_iter().zip(rates).zip([plain, warm, near()]) {
        let made = made(&commands, send_all(&mut router, counted, true)).await;
        let [low, median, high] = table::quartiles(rates);
        table::row([
            name.to_owned(),
            row.to_owned(),
            each(made).to_string(),
            format!("{median:.0} [{low:.0}–{high:.0}]"),
        ]);
    }
}

/// How many of these replays a second `router` gives to all clients.
async fn rate(router: &Router, keys: &[Uuid]) -> f64 {
    let runs = handler::runs();
    let since = Instant::now();
    let clients = keys.chunks(keys.len().div_ceil(CLIENTS)).map(|keys| {
        let (mut router, keys) = (router.clone(), keys.to_vec());
        tokio::spawn(async move {
            let requests = keys.into_iter().map(|key| request(Some(key), order(100)));
            drive(&mut router, requests).await;
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("a client does not panic");
    }
    let rate = f64::from(u32::try_from(keys.len()).expect("a small number"))
        / since.elapsed().as_secs_f64();
    assert_eq!(handler::runs(), runs, "all are replays");
    rate
}
