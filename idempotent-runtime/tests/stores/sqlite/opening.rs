//! Opening a file: who has it, whose it is, and which it is.

use std::{
    error::Error as _,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use idempotent_runtime::{ConnectError, SqliteStore, Store};
use idempotent_test_support::chain;
use sqlx::Connection as _;
use test_servers::Disk;
use tokio::runtime::Handle;

use super::{LONG, assert_stored, claimed, execute, file, open, shell, stored};
use crate::{RECORD, assert_told_once, is_held};

/// The error of opening the file, which must fail.
async fn refusal(disk: &Disk) -> String {
    let error = SqliteStore::connect(file(disk)).await.expect_err("it must not be opened");
    if error.source().is_some() {
        assert_told_once(&error);
    }
    chain(&error)
}

#[tokio::test]
async fn a_file_is_opened_once() {
    let disk = Disk::new();
    let store = open(&disk).await;
    let attempt = claimed(&store).await;
    let error = refusal(&disk).await;
    assert!(error.ends_with("open in this process already: clone its `SqliteStore`, or close it"));
    // Nor by any other name.
    let link = disk.path().join("link.db");
    symlink(file(&disk), &link).unwrap();
    SqliteStore::connect(&link).await.expect_err("it is the same file");
    assert!(is_held(store.complete(&attempt, RECORD, LONG).await), "it is as it was");
    let clone = store.clone();
    drop(store);
    refusal(&disk).await;
    drop(clone);
    super::until("it is closed", async || SqliteStore::connect(file(&disk)).await.is_ok()).await;
}

#[tokio::test]
async fn an_error_names_who_holds_the_file() {
    let disk = Disk::new();
    open(&disk).await.close().await;
    let lock = format!("{}-lock", file(&disk).display());
    let named = fs::read_to_string(&lock).unwrap();
    let own = format!("process {} (`stores-", std::process::id());
    assert!(named.starts_with(&own), "{named}");
    // As if another process held it.
    fs::write(&lock, "process 4711 (`shop`) on `web-1`\nanother\n").unwrap();
    let held = fs::File::open(&lock).unwrap();
    held.lock().unwrap();
    assert_eq!(
        refusal(&disk).await,
        format!(
            "`{}` is in use by process 4711 (`shop`) on `web-1`: one process owns the file, so \
             end that one before this one starts",
            file(&disk).display()
        )
    );
    fs::write(&lock, "").unwrap();
    assert!(refusal(&disk).await.contains("in use by another process: "));
    held.unlock().unwrap();
    open(&disk).await;
}

#[tokio::test]
async fn a_file_of_another_release_is_left_alone() {
    let disk = Disk::new();
    let store = open(&disk).await;
    let kept = stored(&store).await;
    store.close().await;
    let mut other = shell(&file(&disk)).await;
    execute(&mut other, "PRAGMA user_version = 2").await;
    let error = refusal(&disk).await;
    assert!(error.contains("its format is 2, and this release reads format 1: "), "{error}");
    execute(&mut other, "PRAGMA user_version = 1").await;
    assert_stored(&open(&disk).await, kept.key).await;
}

#[tokio::test]
async fn the_database_of_another_program_is_left_alone() {
    let disk = Disk::new();
    fs::write(file(&disk), "").unwrap();
    let mut other = shell(&file(&disk)).await;
    execute(&mut other, "CREATE TABLE orders (id INTEGER)").await;
    let error = refusal(&disk).await;
    assert!(error.contains("the database of another program: give the idempotency store a file"));
    let mode: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut other).await.unwrap();
    assert_eq!(mode, "delete", "it is as it was");
    execute(&mut other, "DROP TABLE orders; PRAGMA user_version = 3").await;
    refusal(&disk).await;
    execute(&mut other, "PRAGMA user_version = 0").await;
    other.close().await.unwrap();
    stored(&open(&disk).await).await;
}

#[tokio::test]
async fn what_is_no_database_is_left_alone() {
    let disk = Disk::new();
    let text = "a list of things to do\n".repeat(100);
    fs::write(file(&disk), &text).unwrap();
    let error = refusal(&disk).await;
    assert!(error.contains("is damaged: restore it from a backup, or move it away"), "{error}");
    assert_eq!(fs::read_to_string(file(&disk)).unwrap(), text);
}

#[tokio::test]
async fn a_file_that_must_not_be_written_to_is_refused() {
    let disk = Disk::new();
    open(&disk).await.close().await;
    disk.make_read_only("idempotency.db");
    let error = refusal(&disk).await;
    assert!(error.contains("is read-only: allow the service to write to it"), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_said_at_the_start() {
    let disk = Disk::small();
    disk.fill();
    let error = refusal(&disk).await;
    assert!(error.contains("disk"), "{error}");
    disk.free();
    let store = open(&disk).await;
    let kept = stored(&store).await;
    store.close().await;
    disk.fill();
    let error = refusal(&disk).await;
    assert!(error.contains("make room"), "{error}");
    disk.free();
    assert_stored(&open(&disk).await, kept.key).await;
}

/// A child process has a copy of the lock's file until it runs its program.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_file_is_free_although_child_processes_are_being_started() {
    let disk = Disk::new();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert!(Command::new("true").status().expect("`true` runs").success());
                }
            });
        }
        let opening = async {
            for _ in 0..100 {
                SqliteStore::connect(file(&disk)).await?.close().await;
            }
            Ok::<_, ConnectError>(())
        };
        let opened = tokio::task::block_in_place(|| Handle::current().block_on(opening));
        is_over.store(true, Ordering::Relaxed);
        opened.expect("nobody else has the file");
    });
}

#[tokio::test]
async fn nobody_else_may_read_what_is_stored() {
    let disk = Disk::new();
    let store = open(&disk).await;
    stored(&store).await;
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", file(&disk).display());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path}");
    }
}
