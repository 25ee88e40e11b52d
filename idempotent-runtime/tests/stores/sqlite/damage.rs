//! Files that do not hold what was written to them.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use idempotent_runtime::{Attempt, Claim, SqliteStore, Store};
use idempotent_test_support::chain;
use test_servers::Disk;

use super::{LONG, file, open, stored};
use crate::{RECORD, at, fresh};

const PAGE: u64 = 4096;

/// A closed file with records.
async fn filled() -> (Disk, Vec<Attempt>) {
    let disk = Disk::new();
    let store = open(&disk).await;
    let mut attempts = Vec::new();
    for _ in 0..200 {
        attempts.push(stored(&store).await);
    }
    store.close().await;
    (disk, attempts)
}

/// Changes each byte of the pages after `from`, up to `to`.
fn scramble(path: &Path, from: u64, to: u64) {
    let mut file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut bytes = vec![0; usize::try_from((to - from) * PAGE).unwrap()];
    file.seek(SeekFrom::Start(from * PAGE)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    for byte in &mut bytes {
        *byte ^= 0xa5;
    }
    file.seek(SeekFrom::Start(from * PAGE)).unwrap();
    file.write_all(&bytes).unwrap();
}

fn pages(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len() / PAGE
}

async fn assert_refused(disk: &Disk, what: &str) {
    let error = SqliteStore::connect(file(disk)).await.expect_err(what);
    let error = chain(&error);
    assert!(error.contains("is damaged: restore it from a backup"), "{what}: {error}");
}

#[tokio::test]
async fn each_damaged_page_is_found_as_the_file_is_opened() {
    let (disk, _) = filled().await;
    let whole = fs::read(file(&disk)).unwrap();
    assert!(pages(&file(&disk)) > 5);
    for page in 0..pages(&file(&disk)) {
        scramble(&file(&disk), page, page + 1);
        assert_refused(&disk, &format!("page {page}")).await;
        fs::write(file(&disk), &whole).unwrap();
    }
    fs::write(file(&disk), &whole[..whole.len() / 2]).unwrap();
    assert_refused(&disk, "the first half").await;
    fs::write(file(&disk), &whole).unwrap();
    open(&disk).await;
}

#[tokio::test]
async fn a_key_that_was_changed_is_found_as_the_file_is_opened() {
    let (disk, attempts) = filled().await;
    let mut bytes = fs::read(file(&disk)).unwrap();
    // Other keys have left copies behind where pages were split.
    let key = attempts[199].key;
    let is_there = |place: &usize| bytes[*place..].starts_with(key.as_bytes());
    let places: Vec<_> = (0..bytes.len()).filter(is_there).collect();
    assert_eq!(places.len(), 2, "in the table and in its index");
    for place in places {
        bytes[place + 15] ^= 1;
        fs::write(file(&disk), &bytes).unwrap();
        assert_refused(&disk, "one bit").await;
        bytes[place + 15] ^= 1;
    }
    fs::write(file(&disk), &bytes).unwrap();
    open(&disk).await;
}

#[tokio::test]
async fn damage_that_is_met_later_runs_nothing_that_was_stored() {
    let (disk, attempts) = filled().await;
    let last = pages(&file(&disk));
    scramble(&file(&disk), last - 1, last);
    let builder = SqliteStore::builder().check_on_open(false);
    let store = builder.connect(file(&disk)).await.expect("nobody has looked");
    let (mut replayed, mut failed) = (0, 0);
    for attempt in &attempts {
        match store.claim(&at(attempt.key), LONG).await {
            Ok(Claim::Stored { record, .. }) => {
                assert_eq!(record, RECORD);
                replayed += 1;
            }
            Ok(claim) => panic!("what was stored runs again: {claim:?}"),
            Err(error) => {
                let error = chain(&error);
                let what = "is damaged: what can be read is replayed, and nothing new runs; stop";
                assert!(error.contains(what), "{error}");
                failed += 1;
            }
        }
    }
    assert!(replayed > 0 && failed > 0, "{replayed} replayed, {failed} failed");
    // A key that is not found may be on a corrupt page.
    store.claim(&fresh(), LONG).await.expect_err("an absent key is not trusted");
}
