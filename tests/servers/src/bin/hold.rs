//! Starts one server of each kind, prints their addresses, and waits to be killed:
//! `tests/lifetime.rs` checks what is left behind.

use std::sync::LazyLock;
use std::thread;

use test_servers::{PgBouncer, PoolMode, Postgres, Redis};

static REDIS: LazyLock<Redis> = LazyLock::new(Redis::start);
static POSTGRES: LazyLock<Postgres> = LazyLock::new(|| Postgres::start_on_small_disk(&[]));
static PGBOUNCER: LazyLock<PgBouncer> =
    LazyLock::new(|| PgBouncer::start(&POSTGRES, PoolMode::Session));

fn main() {
    println!(
        "{}",
        REDIS.cli(&["--raw", "CONFIG", "GET", "dir"]).lines().last().expect("a name and a value")
    );
    println!("{}", POSTGRES.socket_directory().display());
    println!("{} {} {}", REDIS.address(), POSTGRES.address(), PGBOUNCER.address());
    loop {
        thread::park();
    }
}
