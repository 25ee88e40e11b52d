//! Stores that are full.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    process::Command,
    time::Instant,
};

use test_servers::{Postgres, Redis};

use crate::{
    fleet::{Invite, assert_unavailable, exchange, instance, runs},
    service::BEGUN,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_replays_what_it_has_and_takes_nothing_new() {
    let redis = Redis::start();
    let url = redis.url();
    let (one, slow) = (instance(&url, "0s").await, instance(&url, "500ms").await);
    let (stored, running, new) = (Invite::new(), Invite::new(), Invite::new());
    let first = stored.to(&one).await;
    let caller = tokio::spawn(exchange(running.request(&slow)));
    slow.logged(BEGUN).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);

    let replay = stored.to(&one).await;
    assert!(replay.replayed && replay.body == first.body);
    let since = Instant::now();
    assert_unavailable(&new.to(&one).await, since.elapsed(), "maxmemory");
    let answer = caller.await.expect("the caller does not panic").expect("it answers");
    assert_eq!((answer.status, answer.replayed), (201, false), "the real response");
    let duplicate = running.to(&one).await;
    assert_eq!(duplicate.status, 409, "{duplicate:?}");
    assert!(duplicate.body.contains("response_not_stored"), "{duplicate:?}");

    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(new.retried(&[&one]).await.status, 201);
    for invite in [&stored, &running, &new] {
        assert_eq!(runs(invite, &[&one, &slow]).await, 1);
    }
}

/// Limits the size of each file of the server, WAL segments (16 MiB) excepted, or ends the limit.
/// To the server a file at its limit is a disk without room, for tables but not for the log.
fn limit_files(postgres: &Postgres, limit: &str) {
    let path = postgres.socket_directory().join("data/postmaster.pid");
    let file = fs::read_to_string(&path).expect("the server runs");
    let server = file.lines().next().expect("its first line is the process id");
    // As the server's user, whose processes it may limit: root may not everywhere.
    let user = fs::metadata(&path).expect("the server runs");
    let prlimit = Command::new("prlimit")
        .args(["--pid", server, &format!("--fsize={limit}:")])
        .uid(user.uid())
        .gid(user.gid())
        .status();
    assert!(prlimit.expect("`prlimit` of util-linux runs").success());
    // Sessions have the limit that the server had when they began.
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    );
}

/// Fills the table up to the limit: rows of a size, then of the smallest.
const FILL: &str = "DO $$
    DECLARE size int;
    BEGIN
        ALTER TABLE idempotency_keys ALTER record SET STORAGE PLAIN;
        FOREACH size IN ARRAY ARRAY[7000, 100, 0] LOOP
            LOOP
                BEGIN
                    INSERT INTO idempotency_keys
                    SELECT decode(md5(random()::text), 'hex'), '', '',
                        decode(repeat('00', size), 'hex'), now() + interval '1 day';
                EXCEPTION WHEN OTHERS THEN EXIT;
                END;
            END LOOP;
        END LOOP;
    END $$";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_without_disk_space_replays_what_it_has_and_takes_nothing_new() {
    let postgres = Postgres::start_with(&["autovacuum=off"]);
    let url = postgres.url();
    let (one, slow) = (instance(&url, "0s").await, instance(&url, "3s").await);
    let (stored, running, new) = (Invite::new(), Invite::new(), Invite::new());
    let first = stored.to(&one).await;
    let caller = tokio::spawn(exchange(running.request(&slow)));
    slow.logged(BEGUN).await;
    tokio::task::block_in_place(|| {
        limit_files(&postgres, "16777216");
        postgres.execute(FILL);
    });

    let replay = stored.retried(&[&one]).await;
    assert!(replay.replayed && replay.body == first.body);
    let since = Instant::now();
    assert_unavailable(&new.to(&one).await, since.elapsed(), "full disk");
    one.logged("could not extend file").await;
    let answer = caller.await.expect("the caller does not panic").expect("it answers");
    assert_eq!((answer.status, answer.replayed), (201, false), "the real response");
    slow.logged("storing a response failed, trying again").await;

    tokio::task::block_in_place(|| limit_files(&postgres, "unlimited"));
    let replay = running.retried(&[&one]).await;
    assert!(replay.replayed && replay.body == answer.body, "stored in the background");
    assert_eq!(new.retried(&[&one]).await.status, 201);
    for invite in [&stored, &running, &new] {
        assert_eq!(runs(invite, &[&one, &slow]).await, 1);
    }
}
