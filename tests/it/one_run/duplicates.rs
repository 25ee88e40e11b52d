//! Concurrent duplicates: one run per key, and no key blocks another.

use std::sync::Arc;

use axum::http::StatusCode;
use idempotent_test_support::{Server, fresh_key};
use tokio::{sync::Barrier, task::JoinSet};

use super::{App, first_runs, request, router};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_hundred_duplicates_over_tcp_run_once_in_each_of_fifty_rounds() {
    let app = App::default();
    let server = Arc::new(Server::start(router(&app).0).await);
    for round in 0..50 {
        let key = fresh_key();
        let mut duplicates = JoinSet::new();
        for _ in 0..100 {
            let (server, key) = (Arc::clone(&server), key.clone());
            duplicates.spawn(async move { server.post("/yielding", &key, "pay").await });
        }
        let replies = duplicates.join_all().await;
        assert_eq!(app.runs.get(), round + 1, "one run per key");
        assert!(replies.iter().all(|reply| reply.status == 200));
        assert!(replies.iter().all(|reply| reply.text() == format!("run {round}")));
        assert_eq!(first_runs(&replies), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_duplicates_of_an_instant_or_a_yielding_handler_run_it_once() {
    for path in ["/instant", "/yielding"] {
        let app = App::default();
        let (router, _) = router(&app);
        for round in 0..20 {
            let key = fresh_key();
            let together = Arc::new(Barrier::new(50));
            let mut duplicates = JoinSet::new();
            for _ in 0..50 {
                let (router, together) = (router.clone(), Arc::clone(&together));
                let request = request(path, &key, "");
                duplicates.spawn(async move {
                    together.wait().await;
                    request.send(&router).await
                });
            }
            let answers = duplicates.join_all().await;
            assert_eq!(app.runs.get(), round + 1);
            let expected = format!("run {round}");
            assert!(answers.iter().all(|seen| seen.status == 200 && seen.text() == expected));
            assert_eq!(first_runs(&answers), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_waits_for_the_first_response_and_replays_it() {
    let app = App::default();
    let (router, probe) = router(&app);
    let key = fresh_key();
    let first = request("/gated", &key, "pay").spawn(&router);
    app.gate.arrived.reaches(1).await;
    let duplicate = request("/gated", &key, "pay").spawn(&router);
    probe.wait.begun.reaches(1).await;
    assert!(!duplicate.is_finished());
    app.gate.open(1);
    for (answer, is_replay) in [(first, false), (duplicate, true)] {
        let answer = answer.await.unwrap();
        assert_eq!((answer.is_replay(), answer.text()), (is_replay, "run 0"));
        assert_eq!(answer.status, 200);
    }
    assert_eq!(app.gate.arrived.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_that_disconnects_disturbs_nobody() {
    let app = App::default();
    let (router, probe) = router(&app);
    let server = Server::start(router).await;
    let key = fresh_key();
    let first = server.open("/gated", &key, "pay").await;
    app.gate.arrived.reaches(1).await;
    let cut = server.open("/gated", &key, "pay").await;
    probe.wait.begun.reaches(1).await;
    let stays = server.open("/gated", &key, "pay").await;
    probe.wait.begun.reaches(2).await;

    drop(cut);
    probe.wait.ended.reaches(1).await;
    assert_eq!(app.gate.arrived.get(), 1);

    app.gate.open(1);
    assert_eq!(first.reply().await.unwrap().body, "run 0");
    let replay = stays.reply().await.unwrap();
    assert!(replay.is_replay());
    assert_eq!(replay.body, "run 0");
    assert_eq!((app.gate.arrived.get(), probe.release.begun.get()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_key_blocks_no_other_key() {
    let app = App::default();
    let (router, probe) = router(&app);
    let server = Server::start(router.clone()).await;
    let key = fresh_key();
    let first = server.open("/gated", &key, "pay").await;
    app.gate.arrived.reaches(1).await;
    let waiter = server.open("/gated", &key, "pay").await;
    probe.wait.begun.reaches(1).await;

    // Enough keys to meet the blocked one in every shared part of the store.
    for _ in 0..1000 {
        let answer = request("/instant", &fresh_key(), "").send(&router).await;
        assert_eq!((answer.is_replay(), answer.status), (false, StatusCode::OK));
    }
    assert_eq!(server.post("/instant", &fresh_key(), "").await.status, 200);

    app.gate.open(1);
    assert_eq!(first.reply().await.unwrap().body, waiter.reply().await.unwrap().body);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_request_with_a_running_key_gets_422_at_once_and_disturbs_nobody() {
    let app = App::default();
    let (router, probe) = router(&app);
    let server = Server::start(router).await;
    let key = fresh_key();
    let first = server.open("/gated", &key, "pay 1").await;
    app.gate.arrived.reaches(1).await;

    let other = server.post("/gated", &key, "pay 1000").await;
    assert_eq!(other.problem(), (422, "key_reused".to_owned()));
    assert_eq!(probe.wait.begun.get(), 0, "not waited at all");

    app.gate.open(1);
    assert_eq!(first.reply().await.unwrap().body, "run 0");
    assert_eq!(server.post("/gated", &key, "pay 1000").await.status, 422);
    let replay = server.post("/gated", &key, "pay 1").await;
    assert!(replay.is_replay());
    assert_eq!(replay.body, "run 0");
}
