//! The problem table of the contract: each row's status, code, title and members, and what
//! `docs_url` and `error_response` make of them. Tests are named after their row.

use std::{collections::BTreeSet, error::Error};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{Idempotency, MemoryStore, Outcome, Problem, ProblemCode, Store, idempotent};
use idempotent_test_support::{Answer, Fault, Gate, Probe, fresh_key, post};
use serde_json::{Value, json};

#[idempotent(wait = "0s")]
async fn slow(State(gate): State<Gate>, _body: Bytes) {
    gate.pass().await;
}

#[idempotent(required)]
async fn instant(_body: Bytes) {}

#[idempotent(format = "any", principal = "everyone", required, header = "x-key")]
async fn any(_body: Bytes) {}

#[idempotent(key = String::from_utf8_lossy(&body), principal = "everyone")]
async fn derived(body: Bytes) {}

#[idempotent]
async fn large(_body: Bytes) -> String {
    "x".repeat(2000)
}

#[idempotent]
async fn unknown(_body: Bytes) -> (Outcome, StatusCode) {
    (Outcome::Unknown, StatusCode::OK)
}

fn configured(idempotency: Idempotency) -> (Router, Gate) {
    let gate = Gate::default();
    let app = Router::new()
        .route("/slow", route(slow))
        .route("/instant", route(instant))
        .route("/any", route(any))
        .route("/derived", route(derived))
        .route("/large", route(large))
        .route("/unknown", route(unknown))
        .route("/transaction", route(transactions::aborted))
        .layer(idempotency.max_response_bytes(1000))
        .with_state(gate.clone());
    (app, gate)
}

fn on(store: impl Store) -> Router {
    configured(Idempotency::new(store)).0
}

/// The rows that need a real server.
mod transactions {
    use std::sync::LazyLock;

    use idempotent_axum::{PostgresStore, Tx, idempotent};
    use test_servers::Postgres;

    static SERVER: LazyLock<Postgres> = LazyLock::new(Postgres::start);

    pub(super) async fn store() -> PostgresStore {
        let store = PostgresStore::connect(SERVER.url()).await.expect("the server is up");
        store.migrate().await.expect("the role may create tables");
        store
    }

    /// Ignores its error.
    #[idempotent]
    pub(super) async fn aborted(mut tx: Tx) {
        let _ = sqlx::query("SELECT 1 / 0").execute(&mut *tx).await;
    }
}

/// The rows of the table, and how to get each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    InvalidKey,
    ConflictingKeys,
    MissingKey,
    RequestInProgress,
    ResponseNotStored,
    OutcomeUnknown,
    KeyReused,
    TransactionFailed,
    Misconfigured,
    TooManyRuns,
    StoreUnavailable,
}

const ROWS: &[(Row, &str)] = &[
    (Row::InvalidKey, "invalid_key"),
    (Row::ConflictingKeys, "conflicting_keys"),
    (Row::MissingKey, "missing_key"),
    (Row::RequestInProgress, "request_in_progress"),
    (Row::ResponseNotStored, "response_not_stored"),
    (Row::OutcomeUnknown, "outcome_unknown"),
    (Row::KeyReused, "key_reused"),
    (Row::TransactionFailed, "transaction_failed"),
    (Row::Misconfigured, "misconfigured"),
    (Row::TooManyRuns, "too_many_runs"),
    (Row::StoreUnavailable, "store_unavailable"),
];

impl Row {
    /// The answer of a service configured this way.
    async fn answer(self, configure: impl Fn(Idempotency) -> Idempotency) -> Answer {
        let idempotency = match self {
            Self::StoreUnavailable => {
                Idempotency::new(Probe::<MemoryStore>::default().always(Fault::Fails))
            }
            Self::TransactionFailed => Idempotency::new(transactions::store().await),
            _ => Idempotency::new(MemoryStore::new()).max_detached_runs(1),
        };
        let (app, gate) = configured(configure(idempotency));
        let key = fresh_key();
        let twice = async |path| {
            post(path).key(&key).send(&app).await;
            post(path).key(&key).send(&app).await
        };
        match self {
            Self::InvalidKey => post("/instant").key("bad").send(&app).await,
            Self::ConflictingKeys => {
                post("/instant").key(&key).header("x-idempotency-key", fresh_key()).send(&app).await
            }
            Self::MissingKey => post("/instant").send(&app).await,
            Self::RequestInProgress => {
                let first = post("/slow").key(&key).spawn(&app);
                gate.arrived.reaches(1).await;
                let answer = post("/slow").key(&key).send(&app).await;
                gate.open(1);
                first.await.expect("no panic");
                answer
            }
            Self::ResponseNotStored => twice("/large").await,
            Self::OutcomeUnknown => twice("/unknown").await,
            Self::KeyReused => {
                post("/instant").key(&key).send(&app).await;
                post("/instant").key(&key).body("other").send(&app).await
            }
            Self::TransactionFailed | Self::Misconfigured => {
                post("/transaction").key(&key).send(&app).await
            }
            Self::TooManyRuns => {
                let first = post("/slow").key(&key).spawn(&app);
                gate.arrived.reaches(1).await;
                first.abort();
                assert!(first.await.is_err_and(|error| error.is_cancelled()));
                let answer = post("/instant").key(fresh_key()).send(&app).await;
                gate.open(1);
                answer
            }
            Self::StoreUnavailable => post("/instant").key(&key).send(&app).await,
        }
    }
}

/// Asserts every member and header of a problem, and that there are no others.
fn assert_problem(answer: &Answer, status: u16, code: &str, title: &str) {
    let document = answer.json();
    let detail = document["detail"].as_str().expect("a detail");
    let expected = json!({
        "type": format!("https://docs.rs/idempotent-axum/latest/idempotent_axum/#{code}"),
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "message": detail,
    });
    assert_eq!(document, expected);
    assert_eq!(answer.status.as_u16(), status);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("content-language"), Some("en"));
    assert_eq!(answer.header("link"), None);
    assert!(!answer.is_replay());
    let retry_after: &[_] = match code {
        "request_in_progress" => &[Some("1")],
        // Random, so that clients do not all come back at once.
        "store_unavailable" | "too_many_runs" => &[Some("1"), Some("2"), Some("3")],
        _ => &[None],
    };
    assert!(retry_after.contains(&answer.header("retry-after")), "{answer:?}");
    assert!(detail.len() > 20 && detail.is_ascii(), "{detail}");
}

async fn assert_row(row: Row, status: u16, code: &str, title: &str) {
    assert_problem(&row.answer(|idempotency| idempotency).await, status, code, title);
}

#[tokio::test]
async fn invalid_key_400() {
    assert_row(Row::InvalidKey, 400, "invalid_key", "Idempotency-Key is invalid").await;
}

#[tokio::test]
async fn invalid_key_400_detail_of_the_uuid_formats() {
    let answer = Row::InvalidKey.answer(|idempotency| idempotency).await;
    assert_eq!(
        answer.json()["detail"],
        "Invalid idempotency key format. The idempotency-key must be a valid UUID"
    );
}

#[tokio::test]
async fn invalid_key_400_detail_of_any_names_the_header() {
    let answer = post("/any").header("x-key", "").send(&on(MemoryStore::new())).await;
    assert_problem(&answer, 400, "invalid_key", "Idempotency-Key is invalid");
    let document = answer.json();
    let detail = document["detail"].as_str().expect("a detail");
    assert!(detail.contains("x-key") && detail.contains("255"), "{detail}");
}

#[tokio::test]
async fn invalid_key_400_of_an_empty_derived_key() {
    let answer = post("/derived").send(&on(MemoryStore::new())).await;
    assert_problem(&answer, 400, "invalid_key", "Idempotency-Key is invalid");
}

#[tokio::test]
async fn conflicting_keys_400() {
    assert_row(Row::ConflictingKeys, 400, "conflicting_keys", "Idempotency-Key is ambiguous").await;
}

#[tokio::test]
async fn missing_key_400() {
    assert_row(Row::MissingKey, 400, "missing_key", "Idempotency-Key is missing").await;
    let answer = post("/any").send(&on(MemoryStore::new())).await;
    assert_problem(&answer, 400, "missing_key", "Idempotency-Key is missing");
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("x-key")));
}

#[tokio::test]
async fn request_in_progress_409() {
    let title = "A request is outstanding for this Idempotency-Key";
    assert_row(Row::RequestInProgress, 409, "request_in_progress", title).await;
}

#[tokio::test]
async fn response_not_stored_409() {
    let title = "The response for this Idempotency-Key is not available";
    assert_row(Row::ResponseNotStored, 409, "response_not_stored", title).await;
}

#[tokio::test]
async fn outcome_unknown_409() {
    let title = "The response for this Idempotency-Key is not available";
    assert_row(Row::OutcomeUnknown, 409, "outcome_unknown", title).await;
}

#[tokio::test]
async fn key_reused_422() {
    assert_row(Row::KeyReused, 422, "key_reused", "Idempotency-Key is already used").await;
}

#[tokio::test]
async fn transaction_failed_500() {
    let title = "The transaction failed";
    assert_row(Row::TransactionFailed, 500, "transaction_failed", title).await;
}

#[tokio::test]
async fn misconfigured_500() {
    let title = "Idempotency is misconfigured";
    assert_row(Row::Misconfigured, 500, "misconfigured", title).await;
}

#[tokio::test]
async fn store_unavailable_503() {
    let title = "Idempotency store is unavailable";
    assert_row(Row::StoreUnavailable, 503, "store_unavailable", title).await;
}

#[tokio::test]
async fn too_many_runs_503() {
    assert_row(Row::TooManyRuns, 503, "too_many_runs", "Too many requests are still running").await;
}

/// A request whose record cannot be read, or whose first run is still going, gets it as well.
#[tokio::test]
async fn store_unavailable_503_does_not_say_that_nothing_ran() {
    let document = Row::StoreUnavailable.answer(|idempotency| idempotency).await.json();
    let detail = document["detail"].as_str().expect("a detail");
    assert!(detail.contains("same idempotency key") && !detail.contains("processed"), "{detail}");
}

#[test]
fn the_table_has_every_code() {
    let codes: BTreeSet<_> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes.len(), ProblemCode::ALL.len(), "no code stands twice");
    assert_eq!(codes, ROWS.iter().map(|(_, code)| *code).collect());
    for code in ProblemCode::ALL {
        assert_eq!(code.to_string(), code.as_str());
    }
}

#[tokio::test]
async fn a_problem_is_an_error_that_says_title_and_detail() {
    let as_error = |problem: Problem| -> Response {
        let code = problem.code();
        assert!(ProblemCode::ALL.contains(&code));
        let error: Box<dyn Error + Send + Sync> = problem.into();
        assert!(error.source().is_none());
        let problem = error.downcast_ref::<Problem>().expect("the problem itself");
        assert_eq!(problem.code(), code);
        (problem.status(), error.to_string()).into_response()
    };
    for &(row, _) in ROWS {
        let document = row.answer(|idempotency| idempotency).await.json();
        let answer = row.answer(|idempotency| idempotency.error_response(as_error)).await;
        let [title, detail] = ["title", "detail"].map(|member| document[member].as_str().unwrap());
        assert_eq!(answer.text(), format!("{title}: {detail}"));
    }
}

#[test]
fn each_type_points_to_an_anchor_in_the_documentation_of_the_crate() {
    for &(_, code) in ROWS {
        let anchor = format!("<a id=\"{code}\"></a>");
        assert!(include_str!("../../../README.md").contains(&anchor), "{code}");
    }
}

#[tokio::test]
async fn docs_url_is_the_base_of_type_and_a_describedby_link() {
    const URL: &str = "https://api.example.com/docs/idempotency";
    for &(row, code) in ROWS {
        let answer = row.answer(|idempotency| idempotency.docs_url(URL)).await;
        assert_eq!(answer.json()["type"], format!("{URL}#{code}"));
        let link = format!("<{URL}>; rel=\"describedby\"");
        assert_eq!(answer.header("link"), Some(link.as_str()), "{code}");
    }
}

#[test]
fn docs_url_must_be_a_url() {
    for bad in ["", "https://example.com/a b", "https://example.com/<x>", "https://e.com/\u{e9}\n"]
    {
        let set = || Idempotency::new(MemoryStore::new()).docs_url(bad);
        assert!(std::panic::catch_unwind(set).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn error_response_replaces_the_format_of_every_problem() {
    fn envelope(problem: &Problem) -> (StatusCode, Json<Value>) {
        let error = json!({ "error": {
            "code": problem.code().as_str(), "title": problem.title(), "text": problem.detail(),
        }});
        (problem.status(), Json(error))
    }
    for &(row, code) in ROWS {
        let own = row
            .answer(|idempotency| idempotency.error_response(|problem| envelope(&problem)))
            .await;
        let default = row.answer(|idempotency| idempotency).await;
        let document = default.json();
        assert_eq!(own.status, default.status);
        assert_eq!(own.header("content-type"), Some("application/json"));
        assert_eq!(
            own.json(),
            json!({ "error": {
                "code": code, "title": document["title"], "text": document["detail"],
            }})
        );
        // Added if the problem has it.
        let has_retry_after = |answer: &Answer| answer.header("retry-after").is_some();
        assert_eq!(has_retry_after(&own), has_retry_after(&default), "{code}");
    }
}

#[tokio::test]
async fn error_response_keeps_a_retry_after_of_its_own() {
    let busy = |problem: Problem| (problem.status(), [("retry-after", "7")], "busy");
    for row in [Row::RequestInProgress, Row::StoreUnavailable] {
        let answer = row.answer(|idempotency| idempotency.error_response(busy)).await;
        assert_eq!((answer.header("retry-after"), answer.text()), (Some("7"), "busy"));
    }
}

#[tokio::test]
async fn error_response_may_give_the_problem_itself() {
    const URL: &str = "/docs";
    let decorated = |problem: Problem| -> Response { ([("x-own", "1")], problem).into_response() };
    for &(row, code) in ROWS {
        let answer =
            row.answer(|idempotency| idempotency.error_response(decorated).docs_url(URL)).await;
        assert_eq!(answer.header("x-own"), Some("1"));
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["type"], format!("{URL}#{code}"));
        assert_eq!(answer.header("link"), Some("</docs>; rel=\"describedby\""));
    }
}
