//! Stores that are full.

use std::time::Instant;

use test_servers::{Postgres, Redis};
use tokio::task::block_in_place;

use crate::{
    fleet::{Invite, Load, assert_unavailable, exchange, in_time, instance, runs},
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_whose_disk_is_full_loses_nothing_and_with_room_again_goes_on() {
    in_time(async {
        let postgres = block_in_place(|| Postgres::start_on_small_disk(&["fsync=on"]));
        let url = postgres.url();
        let (one, slow) = (instance(&url, "0s").await, instance(&url, "6s").await);
        let load = Load::start([instance(&url, "20ms").await, instance(&url, "20ms").await]);
        let (stored, running, new) = (Invite::new(), Invite::new(), Invite::new());
        let first = stored.to(&one).await;
        let caller = tokio::spawn(exchange(running.request(&slow)));
        slow.logged(BEGUN).await;

        // The server runs, and its tables cannot grow.
        block_in_place(|| postgres.fill_disk());
        load.instances()[0].logged("could not extend file").await;
        let replay = stored.retried(&[&one]).await;
        assert!(replay.replayed && replay.body == first.body);

        // Its WAL needs a new file: it panics, and cannot come up again without room. The panic may
        // be in this very session.
        let _ = block_in_place(|| postgres.try_execute("SELECT pg_switch_wal()"));
        block_in_place(|| postgres.await_end());
        for invite in [&new, &stored] {
            let since = Instant::now();
            assert_unavailable(&invite.to(&one).await, since.elapsed(), "full disk");
        }
        let answer = caller.await.expect("the caller does not panic").expect("it answers");
        assert_eq!((answer.status, answer.replayed), (201, false), "the real response");
        slow.logged("idempotency store unavailable").await;

        block_in_place(|| {
            postgres.free_disk();
            postgres.restart(); // as its supervisor would
        });
        let replay = running.retried(&[&one]).await;
        assert!(replay.replayed && replay.body == answer.body, "stored in the background");
        assert_eq!(stored.retried(&[&one]).await.body, first.body);
        assert_eq!(new.retried(&[&one]).await.status, 201);
        for invite in [&stored, &running, &new] {
            assert_eq!(runs(invite, &[&one, &slow]).await, 1);
        }
        load.assert_once().await;
    })
    .await;
}
