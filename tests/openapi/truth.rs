//! The library does what the document says: its answers are those that are described, and the keys of
//! the examples are keys.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use idempotent_axum::{Idempotency, MemoryStore, Outcome, ProblemCode, idempotent};
use idempotent_test_support::{Answer, Fault, Gate, Probe, fresh_key, post};
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{assert_valid, codes, operation, split};

/// Answers with its body; some bodies are special.
#[idempotent(required, wait = "0s")]
#[utoipa::path(post, path = "/", responses((status = 200, body = String)))]
async fn echo(State(gate): State<Gate>, body: String) -> Response {
    match &*body {
        "waits" => drop(gate.pass().await),
        "unknown" => return (Outcome::Unknown, ()).into_response(),
        _ => {}
    }
    body.into_response()
}

/// The service, and what its document says of `echo`.
fn service(gate: &Gate, idempotency: Idempotency) -> (Router, Value) {
    let router = OpenApiRouter::new().routes(routes!(echo)).with_state(gate.clone());
    let (app, document) = split(router);
    (app.layer(idempotency), document["paths"]["/"]["post"].clone())
}

/// Asserts that `answer` says `code`, and is what the document says of its status.
fn assert_described(answer: &Answer, operation: &Value, code: &str) {
    let (status, given) = answer.problem();
    assert_eq!(given, code);
    assert!(codes(operation, status).contains(&code), "{code}: {operation}");
    let response = &operation["responses"][status.to_string()];
    let content = response["content"].as_object().expect("it has content");
    let (content_type, content) = content.iter().next().expect("it has a type");
    assert_eq!(answer.header("content-type"), Some(&**content_type));

    let (schema, document) = (&content["schema"], answer.json());
    let document = document.as_object().expect("it is an object");
    let properties = schema["properties"].as_object().expect("it has properties");
    let required = schema["required"].as_array().into_iter().flatten();
    let required: BTreeSet<&str> = required.filter_map(Value::as_str).collect();
    for object in [properties, document] {
        assert_eq!(object.keys().map(String::as_str).collect::<BTreeSet<_>>(), required);
    }
    for (name, value) in document {
        let described = &properties[name];
        let kind = if value.is_string() { "string" } else { "integer" };
        assert_eq!(described["type"], kind, "{name}");
        let values = described["enum"].as_array();
        assert!(values.is_none_or(|values| values.contains(value)), "{name} of {described}");
    }

    let retry_after = answer.header("retry-after");
    let is_described = response["headers"]["retry-after"]["schema"]["minimum"] == 1;
    assert!(retry_after.is_none() || is_described, "{operation}");
    assert!(retry_after.is_none_or(|seconds| seconds.parse::<u32>().is_ok_and(|it| it >= 1)));
}

#[tokio::test]
async fn every_refusal_is_one_that_is_described() {
    let (gate, store) = (Gate::default(), Probe::<Arc<MemoryStore>>::default());
    let idempotency = Idempotency::new(store.clone()).max_response_bytes(10).max_detached_runs(1);
    let (app, operation) = service(&gate, idempotency.clone());
    let refused = async |ask: idempotent_test_support::Ask, code: &str| {
        assert_described(&ask.send(&app).await, &operation, code);
    };

    refused(post("/"), "missing_key").await;
    refused(post("/").key("order-1"), "invalid_key").await;
    let two = post("/").key(fresh_key()).header("x-idempotency-key", fresh_key());
    refused(two, "conflicting_keys").await;
    for (body, code) in [
        ("a", "key_reused"),
        ("unknown", "outcome_unknown"),
        ("longer than ten bytes", "response_not_stored"),
    ] {
        let key = fresh_key();
        assert_eq!(post("/").key(&key).body(body).send(&app).await.status, StatusCode::OK);
        let again = if code == "key_reused" { "b" } else { body };
        refused(post("/").key(&key).body(again), code).await;
    }

    let key = fresh_key();
    let first = post("/").key(&key).body("waits").spawn(&app);
    gate.arrived.reaches(1).await;
    refused(post("/").key(&key).body("waits"), "request_in_progress").await;
    // Its caller goes away, and it goes on.
    first.abort();
    assert!(first.await.is_err());
    refused(post("/").key(fresh_key()).body("a"), "too_many_runs").await;
    gate.open(1);
    idempotency.drain().await;

    store.claim.always(Fault::Fails);
    refused(post("/").key(fresh_key()), "store_unavailable").await;
}

#[test]
fn every_code_is_described_under_one_status() {
    let operation = operation(routes!(echo_alone));
    let statuses: Vec<&String> =
        operation["responses"].as_object().into_iter().flat_map(|all| all.keys()).collect();
    for code in ProblemCode::ALL {
        let under = statuses.iter().filter_map(|status| status.parse().ok()).filter(|status| {
            let described = codes(&operation, *status);
            described.contains(&code.as_str())
        });
        assert_eq!(under.count(), 1, "{code}: {operation}");
    }
}

#[idempotent]
#[utoipa::path(post, path = "/")]
async fn echo_alone(body: String) -> String {
    body
}

#[idempotent(format = "uuid-v4", required)]
#[utoipa::path(post, path = "/v4", responses((status = 200, description = "Done")))]
async fn version_four(body: String) -> String {
    body
}

#[idempotent(format = "any", required, principal = "everyone")]
#[utoipa::path(post, path = "/any", responses((status = 200, description = "Done")))]
async fn any(body: String) -> String {
    body
}

#[tokio::test]
async fn the_document_is_valid_and_the_key_of_its_example_is_one() {
    let router = OpenApiRouter::new()
        .routes(routes!(echo_alone))
        .routes(routes!(version_four))
        .routes(routes!(any));
    let (app, document) = split(router);
    assert_valid("utoipa.json", &document);
    for path in ["/", "/v4", "/any"] {
        let parameters = &document["paths"][path]["post"]["parameters"];
        let example = parameters[0]["example"].as_str().expect("it has an example");
        for replayed in [false, true] {
            let answer = post(path).key(example).send(&app).await;
            assert_eq!((answer.status, answer.is_replay()), (StatusCode::OK, replayed));
        }
    }
}
