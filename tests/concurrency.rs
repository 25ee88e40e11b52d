//! Concurrent requests: one run for one key, and no key in another's way.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use idempotent_axum::{Idempotency, MemoryStore, Outcome, idempotent};
use idempotent_test_support::{Answer, Ask, Counter, Gate, Server, ask, fresh_key};
use tokio::{sync::Barrier, task::JoinSet};

type Probe = idempotent_test_support::Probe<Arc<MemoryStore>>;

#[derive(Clone, Default)]
struct App {
    runs: Counter,
    gate: Gate,
}

#[idempotent]
async fn instant(State(app): State<App>) -> String {
    format!("run {}", app.runs.add())
}

#[idempotent]
async fn yielding(State(app): State<App>) -> String {
    let run = app.runs.add();
    tokio::task::yield_now().await;
    format!("run {run}")
}

/// Stops at the gate, then answers what its body says; a body `fails` answers so once.
#[idempotent(wait = "1h")]
async fn gated(State(app): State<App>, body: String) -> Response {
    let run = app.gate.pass().await;
    match body.as_str() {
        "fails" if run == 0 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "releases" if run == 0 => (Outcome::Retryable, "later").into_response(),
        "panics" if run == 0 => panic!("the first run panics"),
        _ => format!("run {run}").into_response(),
    }
}

#[idempotent(wait = "0s")]
async fn impatient(State(app): State<App>) -> &'static str {
    app.gate.pass().await;
    "done"
}

/// A failure that takes six seconds.
#[idempotent]
async fn slow_failure(State(app): State<App>) -> StatusCode {
    app.runs.add();
    tokio::time::sleep(Duration::from_secs(6)).await;
    StatusCode::INTERNAL_SERVER_ERROR
}

fn router(app: &App) -> (Router, Probe) {
    let probe = Probe::default();
    let router = Router::new()
        .route("/instant", post(instant))
        .route("/yielding", post(yielding))
        .route("/gated", post(gated))
        .route("/impatient", post(impatient))
        .route("/slow-failure", post(slow_failure))
        .layer(Idempotency::new(probe.clone()))
        .with_state(app.clone());
    (router, probe)
}

fn request(path: &str, key: &str, body: &'static str) -> Ask {
    ask(Method::POST, path).key(key).body(body)
}

fn first_runs(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| !answer.is_replay()).count()
}

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
    app.gate.open(1);
    for (answer, is_replay) in [(first, false), (duplicate, true)] {
        let answer = answer.await.unwrap();
        assert_eq!((answer.is_replay(), answer.text()), (is_replay, "run 0"));
        assert_eq!(answer.status, 200);
    }
    assert_eq!(app.gate.arrived.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_0s_answers_409_at_once_and_says_when_to_retry() {
    let app = App::default();
    let (router, probe) = router(&app);
    let server = Server::start(router).await;
    let key = fresh_key();
    let first = server.open("/impatient", &key, "pay").await;
    app.gate.arrived.reaches(1).await;

    let duplicate = server.post("/impatient", &key, "pay").await;
    assert_eq!(duplicate.problem(), (409, "request_in_progress".to_owned()));
    assert!(duplicate.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(probe.wait.begun.get(), 0, "not waited at all");

    app.gate.open(1);
    assert_eq!(first.reply().await.unwrap().body, "done");
}

/// Twenty waiters; the first run ends without a stored response.
async fn exactly_one_waiter_takes_over(ending: &'static str) {
    const WAITERS: usize = 20;
    for _ in 0..5 {
        let app = App::default();
        let (router, probe) = router(&app);
        let key = fresh_key();
        let first = request("/gated", &key, ending).spawn(&router);
        app.gate.arrived.reaches(1).await;
        let mut waiters = JoinSet::new();
        for _ in 0..WAITERS {
            let (router, request) = (router.clone(), request("/gated", &key, ending));
            waiters.spawn(async move { request.send(&router).await });
        }
        probe.wait.begun.reaches(WAITERS).await;

        app.gate.open(1);
        match (ending, first.await) {
            ("panics", first) => assert!(first.unwrap_err().is_panic()),
            ("fails", first) => assert_eq!(first.unwrap().status, 500),
            (_, first) => assert_eq!(first.unwrap().text(), "later"),
        }
        app.gate.arrived.reaches(2).await;
        // The others have looked again and wait again: a second taker would be at the gate.
        probe.wait.begun.reaches(WAITERS + WAITERS - 1).await;
        assert_eq!(app.gate.arrived.get(), 2);

        app.gate.open_for_good();
        let answers = waiters.join_all().await;
        assert!(answers.iter().all(|answer| answer.text() == "run 1"));
        assert_eq!(first_runs(&answers), 1);
        assert_eq!(app.gate.arrived.get(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exactly_one_waiter_takes_over_where_the_first_one_fails() {
    exactly_one_waiter_takes_over("fails").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exactly_one_waiter_takes_over_where_the_first_one_is_retryable() {
    exactly_one_waiter_takes_over("releases").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exactly_one_waiter_takes_over_where_the_first_one_panics() {
    exactly_one_waiter_takes_over("panics").await;
}

/// The clock is virtual: seconds pass when everybody sleeps.
#[tokio::test(start_paused = true)]
async fn wait_counts_from_the_arrival_of_the_duplicate_over_all_takeovers() {
    let app = App::default();
    let (router, probe) = router(&app);
    let key = fresh_key();
    let start = tokio::time::Instant::now();
    let timed = |router: Router, key: &str| {
        let request = request("/slow-failure", key, "");
        async move { (request.send(&router).await.status, start.elapsed().as_secs()) }
    };
    let first = tokio::spawn(timed(router.clone(), &key));
    app.runs.reaches(1).await;
    let mut duplicates = JoinSet::new();
    duplicates.spawn(timed(router.clone(), &key));
    duplicates.spawn(timed(router, &key));
    probe.wait.begun.reaches(2).await;

    assert_eq!(first.await.unwrap(), (StatusCode::INTERNAL_SERVER_ERROR, 6));
    // One takes over from the sixth to the twelfth second; the other has waited ten by then.
    let mut answers = duplicates.join_all().await;
    answers.sort_by_key(|(_, seconds)| *seconds);
    assert_eq!(
        answers,
        [(StatusCode::CONFLICT, 10), (StatusCode::INTERNAL_SERVER_ERROR, 12)],
        "a takeover does not start the wait anew"
    );
    assert_eq!(app.runs.get(), 2);
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

    // Enough keys to meet the blocked one in every part of the store that several keys share.
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
