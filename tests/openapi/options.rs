//! What the attribute's options change in the document.

use axum::Json;
use idempotent_axum::idempotent;
use serde_json::{Value, json};
use utoipa_axum::routes;

use crate::{headers, operation};

#[idempotent(header = "X-Idempotency-Key", format = "any", required, principal = "everyone")]
#[utoipa::path(post, path = "/")]
async fn one_header(body: String) -> String {
    body
}

#[test]
fn a_header_of_any_text_that_is_required() {
    let operation = operation(routes!(one_header));
    assert_eq!(headers(&operation), [("x-idempotency-key", true)]);
    let key = &operation["parameters"][0];
    assert_eq!(
        key["schema"],
        json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~]([ -~]*[!-~])?$"})
    );
    assert_eq!(key["example"], "order-4711");
    let text = key["description"].as_str().expect("it is described");
    assert!(text.starts_with("A text of 1 to 255 printable ASCII characters that"), "{text}");
    assert!(text.ends_with("response of the first request, for 1 hour."), "{text}");
}

#[idempotent(header = ["a-key", "b-key"], format = "uuid-v4", required, ttl = "36h")]
#[utoipa::path(post, path = "/")]
async fn two_headers(body: String) -> String {
    body
}

#[test]
fn of_several_headers_the_first_is_required() {
    let operation = operation(routes!(two_headers));
    assert_eq!(headers(&operation), [("a-key", true), ("b-key", false)]);
    for key in operation["parameters"].as_array().expect("it has parameters") {
        let schema = &key["schema"];
        assert_eq!((&schema["type"], &schema["format"]), (&json!("string"), &json!("uuid")));
        let pattern = schema["pattern"].as_str().expect("it has a pattern");
        assert!(pattern.contains("-4[0-9A-Fa-f]{3}-[89ABab]"), "{pattern}");
    }
    let text = operation["parameters"][0]["description"].as_str().expect("it is described");
    assert!(text.starts_with("A UUID of version 4 that"), "{text}");
    assert!(text.ends_with(", for 1 day 12 hours."), "{text}");
}

#[derive(serde::Deserialize, utoipa::ToSchema)]
struct Event {
    id: String,
}

#[idempotent(key = event.id, principal = "everyone")]
#[utoipa::path(post, path = "/", responses((status = 200)))]
async fn webhook(Json(event): Json<Event>) -> String {
    event.id
}

#[test]
fn a_key_in_the_body_is_in_no_header() {
    let operation = operation(routes!(webhook));
    assert_eq!(headers(&operation), []);
    let response = &operation["responses"]["200"]["headers"]["idempotent-replayed"];
    assert_eq!(response["schema"]["type"], "boolean");
    assert!(operation["responses"]["422"] != Value::Null);
}

#[idempotent]
#[utoipa::path(post, path = "/", params(
    ("Idempotency-Key" = String, Header, description = "In other words"),
    ("x-idempotency-key" = u64, Query),
))]
async fn in_other_words(body: String) -> String {
    body
}

#[test]
fn a_header_that_is_described_by_hand_is_not_described_again() {
    let operation = operation(routes!(in_other_words));
    assert_eq!(headers(&operation), [("Idempotency-Key", true), ("x-idempotency-key", false)]);
    assert_eq!(operation["parameters"][0]["description"], "In other words");
}

#[idempotent]
#[utoipa::path(post, path = "/", params(idempotent_axum::openapi::Key))]
async fn both_ways(body: String) -> String {
    body
}

#[test]
fn a_key_that_is_described_by_its_type_is_not_described_again() {
    let names = [("idempotency-key", false), ("x-idempotency-key", false)];
    assert_eq!(headers(&operation(routes!(both_ways))), names);
}
