//! A first run that ends without a stored response: exactly one waiter takes over, the others keep
//! waiting, and nobody waits longer for it.

use axum::{Router, http::StatusCode};
use idempotent_test_support::fresh_key;
use tokio::task::JoinSet;

use super::{App, first_runs, request, router};

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

/// The clock is virtual: seconds pass while everything sleeps.
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
    // One takes over from the sixth to the twelfth second; the other's ten seconds are over before that.
    let mut answers = duplicates.join_all().await;
    answers.sort_by_key(|(_, seconds)| *seconds);
    assert_eq!(
        answers,
        [(StatusCode::CONFLICT, 10), (StatusCode::INTERNAL_SERVER_ERROR, 12)],
        "a takeover does not start the wait anew"
    );
    assert_eq!(app.runs.get(), 2);
}
