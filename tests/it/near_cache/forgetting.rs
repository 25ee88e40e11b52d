//! What is forgotten is not replayed from a copy: in this process from then on, in others as soon
//! as their copies expire.

use idempotent_axum::Forgotten;
use idempotent_test_support::{Fault, fresh_key, post};

use super::{from_store, near, two};

#[tokio::test]
async fn to_forget_a_key_drops_this_process_s_copy() {
    let (_, one, other, app) = two();
    let key = fresh_key();
    one.send("/pay", &key, "").await;
    assert_eq!(one.replay("/pay", &key, "").await, near("run 1"));
    assert_eq!(other.replay("/pay", &key, "").await, from_store("run 1"));
    assert_eq!(one.key(&key).forget().await.unwrap(), Forgotten::Freed);
    assert_eq!(one.send("/pay", &key, "").await.text(), "run 2");
    // The other has its own.
    assert_eq!(other.replay("/pay", &key, "").await, near("run 1"));
    assert_eq!(other.key(&key).forget().await.unwrap(), Forgotten::Freed);
    assert_eq!(other.send("/pay", &key, "").await.text(), "run 3");
    assert_eq!(app.runs.count(), 3);
}

#[tokio::test]
async fn copies_go_before_the_call_and_after_it_whatever_becomes_of_it() {
    for is_left_alone in [false, true] {
        let (store, one, _, _) = two();
        let key = fresh_key();
        one.send("/pay", &key, "").await;
        let held = store.forget.hold();
        store.forget.next([Fault::Fails]);
        let forget = tokio::spawn(one.key(&key).forget().into_future());
        held.arrived.reaches(1).await;
        // Not forgotten yet.
        assert_eq!(one.replay("/pay", &key, "").await, from_store("run 1"));
        if is_left_alone {
            forget.abort();
            assert!(forget.await.unwrap_err().is_cancelled());
        } else {
            held.open(1);
            assert!(forget.await.unwrap().is_err());
        }
        assert_eq!(one.replay("/pay", &key, "").await, from_store("run 1"));
        assert_eq!(one.replay("/pay", &key, "").await, near("run 1"));
    }
}

/// The store answers a claim, then the key is forgotten, and only then the answer arrives: it is
/// replayed to the request that asked, and not copied.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_said_before_the_key_was_forgotten_is_not_copied_afterwards() {
    use idempotent_axum::{Idempotency, PostgresStore};
    use idempotent_test_support::PATIENCE;
    use test_servers::{Postgres, Proxy, Way};

    use super::{App, Instance, MAX_BYTES};

    let server = Postgres::start();
    let proxy = Proxy::start(server.address());
    let store = PostgresStore::connect(&server.url_through(&proxy)).await.unwrap();
    store.migrate().await.unwrap();
    let app = App::default();
    let instance = || {
        let settings = Idempotency::new(store.clone()).store_timeout(PATIENCE);
        Instance::with(settings.near_cache(MAX_BYTES), &app)
    };
    let (one, other) = (instance(), instance());
    let key = fresh_key();
    assert_eq!(other.send("/pay", &key, "").await.text(), "run 1");

    let reply = proxy.hold(Way::Reply, b"run 1");
    let late = post("/pay").key(&key).spawn(&one.router);
    tokio::task::block_in_place(|| reply.wait());
    assert_eq!(one.key(&key).forget().await.unwrap(), Forgotten::Freed);
    reply.pass();
    let late = late.await.unwrap();
    assert_eq!((late.is_replay(), late.text()), (true, "run 1"));
    assert_eq!(one.send("/pay", &key, "").await.text(), "run 2");
}
