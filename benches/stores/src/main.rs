//! What a shared store costs: commands per request, counted on a real server, and the latency they
//! add over the store in memory, beside that of a bare round trip to the same server.
//!
//! Requests are called in the process, one after the other. The server is on the same machine, so
//! the latency is that of its work, without a network's.

use std::time::{Duration, Instant};

use axum::{Router, body::Body, extract::Request, http::StatusCode, routing::post};
use idempotent_axum::{Idempotency, MemoryStore, PostgresStore, RedisStore, Store, idempotent};
use redis::aio::ConnectionManager;
use sqlx::{Connection as _, PgConnection};
use test_servers::{Postgres, Redis};
use tower_service::Service as _;

const ROUNDS: usize = 3000;
/// Their times are not taken: connections open, statements are prepared, scripts loaded.
const WARM_UP: usize = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("\n### Commands and latency of the shared stores\n");
    println!(
        "Medians of {ROUNDS} rounds, quartiles in brackets; × is the ratio to a bare round trip.\n"
    );
    println!(
        "| store | commands, first | commands, replay | bare round trip, µs | first adds, µs | replay adds, µs |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, arguments) in [
        ("Redis, nothing on disk", &[][..]),
        ("Redis, `appendfsync always`", &["--appendonly", "yes", "--appendfsync", "always"]),
    ] {
        let server = Redis::start_with(arguments);
        let store = RedisStore::connect(server.url()).await.expect("the server is up");
        let client = redis::Client::open(server.url()).expect("a URL");
        let mut connection = ConnectionManager::new(client).await.expect("the server is up");
        let ping = async || {
            redis::cmd("PING").exec_async(&mut connection).await.expect("it answers");
        };
        print(name, store, ping, || redis_commands(&server)).await;
    }
    for (name, fsync) in [("PostgreSQL, `fsync=off`", "fsync=off"), ("PostgreSQL", "fsync=on")] {
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

/// Prints the row of a store. `trip` is a bare round trip, `commands` how many the server has had.
async fn print(
    name: &str,
    store: impl Store,
    mut trip: impl AsyncFnMut(),
    commands: impl Fn() -> u64,
) {
    let (mut memory, mut shared) = (router(MemoryStore::new()), router(store));
    let mut times: [Vec<Duration>; 5] = Default::default();
    for round in 0..WARM_UP + ROUNDS {
        let key = uuid::Uuid::new_v4().to_string();
        let taken = [
            timed(trip()).await,
            timed(send(&mut memory, &key, false)).await,
            timed(send(&mut memory, &key, true)).await,
            timed(send(&mut shared, &key, false)).await,
            timed(send(&mut shared, &key, true)).await,
        ];
        if round >= WARM_UP {
            times.iter_mut().zip(taken).for_each(|(times, taken)| times.push(taken));
        }
    }
    let [trip, first_in_memory, replay_in_memory, first, replay] = times.map(Quartiles::of);
    let added = |shared: &Quartiles, memory: &Quartiles| {
        let [low, median, high] = shared.0.map(|micros| micros - memory.0[1]);
        format!("{median:.0} [{low:.0}–{high:.0}], {:.2} ×", median / trip.0[1])
    };

    const COUNTED: u64 = 100;
    let of_counting = {
        let before = commands();
        commands() - before
    };
    let keys: Vec<_> = (0..COUNTED).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    let before = commands();
    for key in &keys {
        send(&mut shared, key, false).await;
    }
    let between = commands();
    for key in &keys {
        send(&mut shared, key, true).await;
    }
    let after = commands();
    let each = |commands: u64| {
        let commands = commands - of_counting;
        assert_eq!(commands % COUNTED, 0, "each request makes the same number");
        commands / COUNTED
    };
    println!(
        "| {name} | {} | {} | {:.0} | {} | {} |",
        each(between - before),
        each(after - between),
        trip.0[1],
        added(&first, &first_in_memory),
        added(&replay, &replay_in_memory),
    );
}

#[idempotent]
async fn order(body: String) -> (StatusCode, String) {
    (StatusCode::CREATED, body)
}

fn router(store: impl Store) -> Router {
    Router::new().route("/orders", post(order)).layer(Idempotency::new(store))
}

async fn send(router: &mut Router, key: &str, is_replay: bool) {
    let request = Request::post("/orders").header("idempotency-key", key);
    let request = request.body(Body::from("x".repeat(100))).expect("a valid request");
    let response = router.call(request).await.unwrap_or_else(|never| match never {});
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers().contains_key("idempotent-replayed"), is_replay);
}

async fn timed(work: impl Future<Output = ()>) -> Duration {
    let since = Instant::now();
    work.await;
    since.elapsed()
}

/// Quartiles and median, in microseconds.
struct Quartiles([f64; 3]);

impl Quartiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self([1, 2, 3].map(|quarter| times[times.len() * quarter / 4].as_secs_f64() * 1e6))
    }
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
