//! The options that are not expressions: what each changes, and its default. Tests are named after
//! their option.

use std::time::Duration;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    routing::post as route,
};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Gate, PATIENCE, Probe, Runs, fresh_key, post};

use crate::service::on_own_store;

#[idempotent]
async fn plain(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
}

#[tokio::test]
async fn ttl_ends_replays_counted_from_when_the_response_was_stored() {
    #[idempotent(ttl = "1s")]
    async fn handler(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let (app, runs) = on_own_store(Router::new().route("/", route(handler)));
    let key = fresh_key();
    let stored = tokio::time::Instant::now();
    assert_eq!(post("/").key(&key).send(&app).await.text(), "run 1");
    // Asking all the time: if a replay extended the ttl, it would never end.
    let second = async {
        loop {
            let asked = stored.elapsed();
            let answer = post("/").key(&key).send(&app).await;
            if !answer.is_replay() {
                return answer;
            }
            assert_eq!(answer.text(), "run 1");
            assert!(asked < Duration::from_secs(10), "replayed long after the ttl");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let second = tokio::time::timeout(PATIENCE, second).await.expect("the ttl passes");
    assert!(stored.elapsed() >= Duration::from_secs(1), "gone before its ttl");
    assert_eq!((second.text(), runs.count()), ("run 2", 2));
}

#[tokio::test]
async fn ttl_takes_every_form_of_a_duration() {
    #[idempotent(ttl = "7d")]
    async fn days(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(ttl = "90s")]
    async fn seconds(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(ttl = "1h 30m")]
    async fn mixed(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let (app, runs) = on_own_store(
        Router::new()
            .route("/days", route(days))
            .route("/seconds", route(seconds))
            .route("/mixed", route(mixed)),
    );
    for path in ["/days", "/seconds", "/mixed"] {
        let key = fresh_key();
        let first = post(path).key(&key).send(&app).await;
        let second = post(path).key(&key).send(&app).await;
        assert!(second.is_replay());
        assert_eq!(first.body, second.body);
    }
    assert_eq!(runs.count(), 3);
}

#[tokio::test]
async fn header_names_where_the_key_is_read() {
    #[idempotent(header = "X-Request-Key")]
    async fn one(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(header = ["x-a", "x-b"])]
    async fn two(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let (app, _) = on_own_store(Router::new().route("/one", route(one)).route("/two", route(two)));
    let key = fresh_key();
    let replayed = async |path: &'static str, name: &'static str| {
        post(path).header(name, &key).send(&app).await.is_replay()
    };
    assert!(!replayed("/one", "x-request-key").await);
    assert!(replayed("/one", "x-request-key").await);
    assert!(!replayed("/two", "x-a").await);
    assert!(replayed("/two", "x-b").await);
    // The default names mean nothing here.
    for path in ["/one", "/two"] {
        for name in ["idempotency-key", "x-idempotency-key"] {
            assert!(!replayed(path, name).await);
            assert!(!replayed(path, name).await);
        }
    }
}

#[tokio::test]
async fn header_defaults_to_idempotency_key_and_x_idempotency_key() {
    let (app, runs) = on_own_store(Router::new().route("/", route(plain)));
    let key = fresh_key();
    for name in ["idempotency-key", "x-idempotency-key"] {
        assert_eq!(post("/").header(name, &key).send(&app).await.text(), "run 1");
    }
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn format_says_which_keys_are_valid() {
    #[idempotent(format = "uuid")]
    async fn uuid() {}
    #[idempotent(format = "uuid-v4")]
    async fn uuid_v4() {}
    #[idempotent(format = "any", principal = "everyone")]
    async fn any() {}
    #[idempotent]
    async fn default() {}

    let app = Router::new()
        .route("/uuid", route(uuid))
        .route("/uuid-v4", route(uuid_v4))
        .route("/any", route(any))
        .route("/default", route(default))
        .layer(Idempotency::new(MemoryStore::new()));
    let v1 = "c232ab00-9414-11ec-b3c8-9f6bdeced846";
    let v4 = "919108f7-52d1-4320-9bac-f847db4148a8";
    let valid = [
        ("/uuid", [true, true, false]),
        ("/uuid-v4", [false, true, false]),
        ("/any", [true, true, true]),
        ("/default", [true, true, false]),
    ];
    for (path, valid) in valid {
        for (key, valid) in [v1, v4, "order 1"].into_iter().zip(valid) {
            let status = post(path).key(key).send(&app).await.status;
            assert_eq!(status == StatusCode::OK, valid, "{path} {key}: {status}");
        }
    }
}

#[tokio::test]
async fn required_refuses_a_request_without_a_key() {
    #[idempotent(required)]
    async fn handler(State(runs): State<Runs>, _body: Bytes) -> String {
        runs.next()
    }
    let app = Router::new().route("/required", route(handler)).route("/optional", route(plain));
    let (app, runs) = on_own_store(app);
    let answer = post("/required").send(&app).await;
    assert_eq!(answer.problem(), (400, "missing_key".to_owned()));
    assert_eq!(runs.count(), 0);
    assert_eq!(post("/required").key(fresh_key()).send(&app).await.text(), "run 1");
    // Off by default.
    assert_eq!(post("/optional").send(&app).await.text(), "run 2");
}

#[idempotent]
async fn replay_default(State(runs): State<Runs>, Path(status): Path<u16>) -> (StatusCode, String) {
    (StatusCode::from_u16(status).expect("a status"), runs.next())
}

#[idempotent(replay = "all")]
async fn replay_all(State(runs): State<Runs>, Path(status): Path<u16>) -> (StatusCode, String) {
    (StatusCode::from_u16(status).expect("a status"), runs.next())
}

#[idempotent(replay = "2xx")]
async fn replay_2xx(State(runs): State<Runs>, Path(status): Path<u16>) -> (StatusCode, String) {
    (StatusCode::from_u16(status).expect("a status"), runs.next())
}

#[idempotent(replay = ["4xx", "201", "503"])]
async fn replay_mixed(State(runs): State<Runs>, Path(status): Path<u16>) -> (StatusCode, String) {
    (StatusCode::from_u16(status).expect("a status"), runs.next())
}

#[idempotent(replay = "409")]
async fn replay_code(State(runs): State<Runs>, Path(status): Path<u16>) -> (StatusCode, String) {
    (StatusCode::from_u16(status).expect("a status"), runs.next())
}

#[tokio::test]
async fn replay_says_which_statuses_are_stored_and_any_other_releases_the_key() {
    type Stored = fn(u16) -> bool;

    let (app, _) = on_own_store(
        Router::new()
            .route("/default/{status}", route(replay_default))
            .route("/all/{status}", route(replay_all))
            .route("/2xx/{status}", route(replay_2xx))
            .route("/mixed/{status}", route(replay_mixed))
            .route("/code/{status}", route(replay_code)),
    );
    let statuses = [
        200, 201, 202, 204, 299, 300, 302, 304, 308, 400, 402, 404, 409, 422, 499, 500, 503, 599,
        799,
    ];
    let stored: [(&str, Stored); 5] = [
        ("default", |status| (200..400).contains(&status)),
        ("all", |_| true),
        ("2xx", |status| (200..300).contains(&status)),
        ("mixed", |status| (400..500).contains(&status) || [201, 503].contains(&status)),
        ("code", |status| status == 409),
    ];
    for (option, stored) in stored {
        for status in statuses {
            let (key, path) = (fresh_key(), format!("/{option}/{status}"));
            let first = post(&path).key(&key).send(&app).await;
            let second = post(&path).key(&key).send(&app).await;
            assert_eq!((first.status.as_u16(), second.status.as_u16()), (status, status), "{path}");
            assert_eq!(second.is_replay(), stored(status), "{path}");
            assert_eq!(first.body == second.body, stored(status), "{path}");
        }
    }
}

#[tokio::test]
async fn wait_0s_answers_a_concurrent_duplicate_at_once_and_says_when_to_retry() {
    #[idempotent(wait = "0s")]
    async fn handler(State(gate): State<Gate>) -> String {
        format!("run {}", gate.pass().await)
    }
    let (gate, probe) = (Gate::default(), Probe::<MemoryStore>::default());
    let app = Router::new()
        .route("/", route(handler))
        .layer(Idempotency::new(probe.clone()))
        .with_state(gate.clone());
    let key = fresh_key();
    let first = post("/").key(&key).spawn(&app);
    gate.arrived.reaches(1).await;
    // The first one cannot end before this answer arrives.
    let duplicate = post("/").key(&key).send(&app).await;
    assert_eq!(duplicate.problem(), (409, "request_in_progress".to_owned()));
    let seconds = duplicate.header("retry-after").expect("it is there").parse::<u32>();
    assert!(seconds.expect("seconds") >= 1);
    assert_eq!(probe.wait.begun.get(), 0, "not waited at all");
    gate.open(1);
    assert_eq!(first.await.expect("no panic").text(), "run 0");
    assert!(post("/").key(&key).send(&app).await.is_replay());
    assert_eq!(gate.arrived.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn wait_is_how_long_a_concurrent_duplicate_waits() {
    #[idempotent(wait = "3s")]
    async fn three(State(gate): State<Gate>) -> &'static str {
        gate.pass().await;
        "passed"
    }
    #[idempotent]
    async fn default(State(gate): State<Gate>) -> &'static str {
        gate.pass().await;
        "passed"
    }
    let gate = Gate::default();
    let app = Router::new()
        .route("/three", route(three))
        .route("/default", route(default))
        .with_state(gate.clone());
    for (runs, path, seconds) in [(1, "/three", 3), (2, "/default", 10)] {
        let key = fresh_key();
        let first = post(path).key(&key).spawn(&app);
        gate.arrived.reaches(runs).await;
        // The clock is virtual: it only advances while everything waits, and then exactly.
        let arrived = tokio::time::Instant::now();
        let duplicate = post(path).key(&key).send(&app).await;
        assert_eq!(duplicate.problem(), (409, "request_in_progress".to_owned()));
        let waited = arrived.elapsed();
        assert_eq!(waited.as_secs(), seconds, "{path}: {waited:?}");
        gate.open(1);
        assert_eq!(first.await.expect("no panic").text(), "passed");
    }
}

mod renamed {
    //! Mimics a dependency under another name.
    pub(crate) use idempotent_axum as of_another_name;
}

#[tokio::test]
async fn crate_is_where_generated_code_finds_the_library() {
    #[idempotent(crate = renamed::of_another_name, principal = "everyone")]
    async fn handler(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let (app, runs) = on_own_store(Router::new().route("/", route(handler)));
    let key = fresh_key();
    post("/").key(&key).send(&app).await;
    assert!(post("/").key(&key).send(&app).await.is_replay());
    assert_eq!(runs.count(), 1);
}
