//! `SqliteStore`, whose disk is full now and then, or whose file another program locks.

use std::time::Duration;

use idempotent_runtime::SqliteStore;
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use test_servers::Disk;

use super::{ANSWERS, check, silence};

#[tokio::test(flavor = "multi_thread")]
async fn the_sqlite_store_is_linearizable() {
    let disk = Disk::small();
    let file = disk.path().join("idempotency.db");
    let store = SqliteStore::connect(&file).await.expect("it opens");
    let options =
        SqliteConnectOptions::new().filename(&file).busy_timeout(Duration::from_secs(3600));
    let mut other = SqliteConnection::connect_with(&options).await.expect("the file is there");
    check("SQLite", [(); 4].map(|()| store.clone()), async |load| {
        load.answers(20 * ANSWERS).await;
        silence(load, || disk.fill(), || disk.free()).await;
        let disturbed = load.recorder().disturb();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("it waits for its turn");
        load.failures(super::FAILURES).await;
        sqlx::query("ROLLBACK").execute(&mut other).await.expect("it has begun");
        drop(disturbed);
        load.answers(ANSWERS).await;
    })
    .await;
}
