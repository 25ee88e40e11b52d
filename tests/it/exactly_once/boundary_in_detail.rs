//! `Tx` inside a boundary, in detail: when it is committed, and what layers can do to it.

use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header::SET_COOKIE},
    middleware::{Next, from_fn, from_fn_with_state, map_response},
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{Outcome, RunBoundary, Tx, TxError, idempotent};
use idempotent_test_support::{Answer, Ask, Counter, Gate, fresh_key, post};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use super::{App, Bank, insert, outcomes, until};

/// Writes a row, and then does what `what` says.
#[idempotent(wait = "60s")]
async fn pay(State(app): State<App>, mut tx: Tx, what: String) -> Result<Response, TxError> {
    let run = app.runs.add();
    let paid = insert(&mut tx, &what).await?;
    let created = (StatusCode::CREATED, paid).into_response();
    match &*what {
        "waits" => drop(app.gate.pass().await),
        "panics" => panic!("as it was asked to"),
        "deferred" => {
            sqlx::query("INSERT INTO transfers VALUES (0)").execute(&mut *tx).await?;
        }
        "unknown" => return Ok((Outcome::Unknown, created).into_response()),
        "flaky" if run == 0 => return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response()),
        _ => {}
    }
    Ok(created)
}

/// A service whose boundary has these layers inside it.
async fn bank(inside: impl FnOnce(Router<App>) -> Router<App>) -> Bank<'static> {
    let routes = inside(Router::new().route("/pay", route(pay))).layer(RunBoundary::new());
    Bank::open(routes).await
}

fn ask(key: Option<&str>, what: &'static str) -> Ask {
    let ask = post("/pay").body(what);
    match key {
        Some(key) => ask.key(key),
        None => ask,
    }
}

/// With a key, and without one.
fn keys() -> [Option<String>; 2] {
    [Some(fresh_key()), None]
}

fn seen(answer: &Answer) -> (u16, String) {
    let is_problem = answer.header("content-type") == Some("application/problem+json");
    let text = if is_problem { answer.problem().1 } else { String::new() };
    (answer.status.as_u16(), text)
}

#[tokio::test]
async fn it_is_committed_when_the_response_has_passed_and_not_before() {
    let (passed, gate) = (Counter::default(), Gate::default());
    let stop = {
        let (passed, gate) = (passed.clone(), gate.clone());
        move |response: Response| {
            let (passed, gate) = (passed.clone(), gate.clone());
            async move {
                gate.pass().await;
                passed.add();
                response
            }
        }
    };
    let bank = bank(|routes| routes.layer(map_response(stop))).await;
    for (rows, key) in keys().into_iter().enumerate() {
        let asked = ask(key.as_deref(), "rent").spawn(&bank.router);
        gate.arrived.reaches(rows + 1).await;
        assert_eq!((bank.app.runs.get(), bank.payments().len()), (rows + 1, rows));
        gate.open(1);
        assert_eq!(asked.await.unwrap().status, StatusCode::CREATED);
        assert_eq!((passed.get(), bank.payments().len()), (rows + 1, rows + 1));
    }
}

#[tokio::test]
async fn a_commit_that_fails_is_what_the_caller_gets_with_what_is_its_own() {
    let bank = bank(|routes| {
        routes.layer(map_response(|response: Response| async move {
            ([(SET_COOKIE, "cart=2"), (axum::http::header::ETAG, "\"2\"")], response)
        }))
    })
    .await;
    bank.query(outcomes::TRANSFERS);
    for key in keys() {
        let answer = ask(key.as_deref(), "deferred").send(&bank.router).await;
        assert_eq!(seen(&answer), (500, "transaction_failed".to_owned()));
        assert_eq!(answer.header(SET_COOKIE), Some("cart=2"));
        assert_eq!(answer.header("etag"), None);
    }
    assert!(bank.payments().is_empty());
    assert_eq!(bank.keys(), 0);
}

#[tokio::test]
async fn a_handler_that_its_layers_cut_short_or_that_panics_is_rolled_back() {
    let limit = Duration::from_millis(50);
    let timeout = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, limit);
    let word = |response: Response| async move { (Outcome::Final, response) };
    for (layered, what, status) in [
        (bank(|routes| routes.layer(timeout)).await, "waits", 504),
        // Whatever outcome a layer gives it.
        (bank(|routes| routes.layer(timeout).layer(map_response(word))).await, "waits", 504),
        (bank(|routes| routes.layer(CatchPanicLayer::new())).await, "panics", 500),
        (
            bank(|routes| routes.layer(CatchPanicLayer::new()).layer(map_response(word))).await,
            "panics",
            500,
        ),
    ] {
        for key in keys() {
            for _ in 0..2 {
                let runs = layered.app.runs.get();
                let answer = ask(key.as_deref(), what).send(&layered.router).await;
                assert_eq!(answer.status.as_u16(), status, "{what}");
                assert_eq!(layered.app.runs.get(), runs + 1, "{what}: the key was free");
            }
        }
        assert!(layered.payments().is_empty());
    }
    let outside = bank(|routes| routes).await;
    let panic = ask(Some(&fresh_key()), "panics").spawn(&outside.router).await;
    assert!(panic.expect_err("it reaches the caller").is_panic());
    assert!(outside.payments().is_empty());
}

#[tokio::test]
async fn an_unknown_outcome_is_committed_whatever_passes() {
    let mapped = |response: Response| async {
        let is_paid = response.status() == StatusCode::CREATED;
        if is_paid { StatusCode::BAD_GATEWAY.into_response() } else { response }
    };
    let bank = bank(|routes| routes.layer(map_response(mapped))).await;
    let key = fresh_key();
    let answer = ask(Some(&key), "unknown").send(&bank.router).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    let retry = ask(Some(&key), "unknown").send(&bank.router).await;
    assert_eq!(seen(&retry), (409, "outcome_unknown".to_owned()));
    assert_eq!(ask(None, "unknown").send(&bank.router).await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(bank.payments().len(), 2);
}

/// Answers before the handler has.
async fn hasty(State(app): State<App>, request: Request, next: Next) -> Response {
    tokio::spawn(next.run(request));
    app.gate.arrived.reaches(app.runs.get().max(1)).await;
    StatusCode::ACCEPTED.into_response()
}

#[tokio::test]
async fn a_layer_that_answers_before_the_handler_has_ended_is_refused() {
    for key in keys() {
        let app = App::default();
        let routes = Router::new().route("/pay", route(pay));
        let routes = routes.layer(from_fn_with_state(app.clone(), hasty)).layer(RunBoundary::new());
        let mut bank = Bank::open(Router::new()).await;
        app.url.set(bank.app.url.get().expect("it is known").clone()).expect("it is new");
        bank.router = routes.layer(bank.idempotency.clone()).with_state(app.clone());
        let answer = ask(key.as_deref(), "waits").send(&bank.router).await;
        assert_eq!(seen(&answer), (500, "transaction_failed".to_owned()));
        app.gate.open_for_good();
        until("its session has ended", || {
            bank.query("SELECT count(*) FROM pg_locks WHERE relation = 'payments'::regclass") == "0"
        })
        .await;
        assert!(bank.payments().is_empty());
    }
}

/// Tries again until the response is not 503, at most twice.
async fn retry(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 10).await.expect("a short body");
    let send = || next.clone().run(Request::from_parts(parts.clone(), Body::from(body.clone())));
    match send().await {
        response if response.status() == StatusCode::SERVICE_UNAVAILABLE => send().await,
        response => response,
    }
}

#[tokio::test]
async fn of_a_handler_that_is_tried_again_no_two_rows_are_there() {
    for (key, layered) in [
        (None, bank(|routes| routes.layer(from_fn(retry))).await),
        (Some(fresh_key()), bank(|routes| routes.layer(from_fn(retry))).await),
        (None, Bank::open(outside()).await),
        (Some(fresh_key()), Bank::open(outside()).await),
    ] {
        let answer = ask(key.as_deref(), "flaky").send(&layered.router).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        assert_eq!((layered.app.runs.get(), layered.payments().len()), (2, 1));
    }
}

/// The layer outside of the boundary, where it belongs.
fn outside() -> Router<App> {
    Router::new().route("/pay", route(pay)).layer(RunBoundary::new()).layer(from_fn(retry))
}
