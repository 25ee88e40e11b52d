//! Concurrent requests share a commit.

use std::{fs, path::Path};

use idempotent_runtime::Store;
use test_servers::Disk;
use tokio::task::JoinSet;

use super::{LONG, claimed, execute, file, open, shell, stored};
use crate::{RECORD, is_held};

/// How many transactions the WAL holds, each of which was synced. See [the
/// format](https://www.sqlite.org/fileformat2.html#the_write_ahead_log).
fn commits(database: &Path) -> usize {
    let log = fs::read(format!("{}-wal", database.display())).expect("there is a log");
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
    let (header, frames) = log.split_at(32);
    let page = word(&header[8..]) as usize;
    frames
        .chunks_exact(24 + page)
        .take_while(|frame| frame[8..16] == header[16..24])
        // Only the last frame of a transaction has the size of the database.
        .filter(|frame| word(&frame[4..]) > 0)
        .count()
}

#[tokio::test]
async fn many_that_are_stored_at_once_share_commits() {
    const MANY: usize = 100;
    let disk = Disk::new();
    let store = open(&disk).await;
    let mut attempts = Vec::new();
    for _ in 0..MANY {
        attempts.push(claimed(&store).await);
    }
    let before = commits(&file(&disk));
    // While the first waits for another program, the others gather.
    let mut writing = shell(&file(&disk)).await;
    execute(&mut writing, "BEGIN IMMEDIATE").await;
    let mut storing = JoinSet::new();
    for attempt in attempts {
        let store = store.clone();
        storing.spawn(async move { is_held(store.complete(&attempt, RECORD, LONG).await) });
    }
    tokio::task::yield_now().await;
    execute(&mut writing, "ROLLBACK").await;
    assert!(storing.join_all().await.into_iter().all(|held| held));
    let shared = commits(&file(&disk)) - before;
    assert!((1..=4).contains(&shared), "{MANY} records took {shared} commits");

    stored(&store).await;
    stored(&store).await;
    assert_eq!(commits(&file(&disk)) - before, shared + 2, "one after the other, each has its own");
}
