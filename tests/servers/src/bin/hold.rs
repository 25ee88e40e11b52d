//! Starts one server of each kind and a browser, prints their addresses, and waits to be killed:
//! `tests/lifetime.rs` checks what is left behind.

use std::process::Command;
use std::sync::LazyLock;
use std::thread;

use test_servers::{ChromeDriver, PgBouncer, PoolMode, Postgres, Redis};

static REDIS: LazyLock<Redis> = LazyLock::new(Redis::start);
static POSTGRES: LazyLock<Postgres> = LazyLock::new(|| Postgres::start_on_small_disk(&[]));
static PGBOUNCER: LazyLock<PgBouncer> =
    LazyLock::new(|| PgBouncer::start(&POSTGRES, PoolMode::Session));
static CHROMEDRIVER: LazyLock<ChromeDriver> = LazyLock::new(ChromeDriver::start);

/// Opens a browser, and returns an argument that no other has.
fn open_browser() -> String {
    let arguments = CHROMEDRIVER.arguments();
    let session = format!(
        r#"{{"capabilities": {{"alwaysMatch": {{"goog:chromeOptions": {{"args": {arguments:?}}}}}}}}}"#
    );
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--noproxy", "*", "--json", &session]);
    let opened = curl.arg(format!("{}/session", CHROMEDRIVER.url())).output().expect("`curl` runs");
    assert!(opened.status.success(), "{opened:?}");
    arguments
        .into_iter()
        .find(|argument| argument.starts_with("--user-data-dir="))
        .expect("it is there")
}

fn main() {
    println!(
        "{}",
        REDIS.cli(&["--raw", "CONFIG", "GET", "dir"]).lines().last().expect("a name and a value")
    );
    println!("{}", POSTGRES.socket_directory().display());
    println!("{} {} {}", REDIS.address(), POSTGRES.address(), PGBOUNCER.address());
    println!("{}", open_browser());
    loop {
        thread::park();
    }
}
