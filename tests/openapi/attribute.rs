//! An attribute above `#[utoipa::path]` describes itself.

use axum::{
    Json,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use idempotent_axum::idempotent;
use idempotent_test_support::{fresh_key, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{codes, headers, operation, split};

#[derive(Serialize, Deserialize, ToSchema)]
struct Invite {
    email: String,
}

/// Invites somebody.
///
/// At most once.
#[idempotent(ttl = "7d")]
#[utoipa::path(
    post,
    path = "/teams/{team}/invites",
    params(("team" = u64, Path, description = "Whose guest it is")),
    responses((status = 201, body = Invite, headers(("location" = String)))),
)]
async fn invite(Path(team): Path<u64>, Json(invite): Json<Invite>) -> Response {
    let location = format!("/teams/{team}/invites/1");
    (StatusCode::CREATED, [("location", location)], Json(invite)).into_response()
}

#[test]
fn the_document_says_what_the_attribute_does() {
    let operation = operation(routes!(invite));
    let name = |other: &str| {
        json!({
            "name": other,
            "in": "header",
            "description": "Another name of `idempotency-key`: either is enough. If both are sent, they must be equal.",
            "required": false,
            "schema": {"type": "string", "format": "uuid"},
            "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
        })
    };
    let mut key = name("idempotency-key");
    key["description"] = "A UUID that makes retries safe: choose a new one for each request, and repeat it with every retry. A retry gets the stored response of the first request, for 7 days. Without a key, a retry is a new request.".into();
    let parameters = operation["parameters"].as_array().expect("it has parameters");
    assert_eq!(parameters[0]["name"], "team");
    assert_eq!(parameters[0]["description"], "Whose guest it is");
    assert_eq!(parameters[1..], [key, name("x-idempotency-key")]);

    let created = &operation["responses"]["201"];
    assert_eq!(created["headers"]["location"]["schema"]["type"], "string");
    assert_eq!(
        created["headers"]["idempotent-replayed"],
        json!({
            "description": "`true` if this is the stored response of an earlier request with the same key, which is replayed for 7 days",
            "schema": {"type": "boolean"},
        })
    );
    assert_eq!(
        created["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/Invite"
    );
    assert_eq!(operation["summary"], "Invites somebody.");
    assert_eq!(operation["description"], "At most once.");
}

#[test]
fn utoipa_sees_the_parameters_as_they_are_written() {
    let (_, document) = split(OpenApiRouter::new().routes(routes!(invite)));
    let operation = &document["paths"]["/teams/{team}/invites"]["post"];
    let body = &operation["requestBody"];
    assert_eq!(
        body["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/Invite"
    );
    assert_eq!(body["required"], true);
    assert!(document["components"]["schemas"]["Invite"].is_object());
}

#[tokio::test]
async fn the_handler_is_routed_and_replays() {
    let (app, _) = split(OpenApiRouter::new().routes(routes!(invite)));
    let key = fresh_key();
    for replayed in [false, true] {
        let ask = post("/teams/7/invites").key(&key).json(r#"{"email":"ada@example.com"}"#);
        let answer = ask.send(&app).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        assert_eq!(answer.is_replay(), replayed);
    }
}

#[idempotent]
#[utoipa::path(post, path = "/", responses(
    (status = 200),
    (status = ACCEPTED, headers(("a"), ("b" = u64))),
    (status = StatusCode::NO_CONTENT),
    (status = 206, headers(("Idempotent-Replayed" = String, description = "By hand"))),
    (status = "2XX"),
    (status = 302),
    (status = NOT_FOUND),
    (status = "default"),
))]
async fn answers_anything() {}

#[test]
fn each_success_may_be_a_replay() {
    let operation = operation(routes!(answers_anything));
    let responses = operation["responses"].as_object().expect("it has responses");
    let replayed = responses.iter().filter(|(_, response)| {
        response["headers"]["idempotent-replayed"]["schema"]["type"] == "boolean"
    });
    let replayed: Vec<&str> = replayed.map(|(status, _)| &**status).collect();
    assert_eq!(replayed, ["200", "202", "204", "2XX"]);
    let accepted = responses["202"]["headers"].as_object().expect("it has headers");
    assert_eq!(accepted.keys().collect::<Vec<_>>(), ["a", "b", "idempotent-replayed"]);
    let by_hand = responses["206"]["headers"].as_object().expect("it has headers");
    assert_eq!(by_hand.keys().collect::<Vec<_>>(), ["Idempotent-Replayed"]);
}

#[derive(utoipa::IntoResponses)]
enum Refusal {
    /// Of the service.
    #[response(status = 422)]
    #[expect(dead_code, reason = "only the document names it")]
    Invalid,
}

#[idempotent]
#[utoipa::path(post, path = "/", responses(
    (status = 409, description = "Of the handler", body = String, content_type = "text/plain"),
    Refusal,
))]
async fn refuses(body: String) -> String {
    body
}

#[test]
fn what_is_written_for_a_status_wins() {
    let operation = operation(routes!(refuses));
    let described = |status: &str| &operation["responses"][status]["description"];
    assert_eq!(described("409"), "Of the handler");
    assert_eq!(described("422"), "Of the service.");
    assert_eq!(operation["responses"]["409"]["content"]["text/plain"]["schema"]["type"], "string");
    assert!(codes(&operation, 409).is_empty() && codes(&operation, 422).is_empty());
    assert_eq!(codes(&operation, 400), ["invalid_key", "conflicting_keys", "missing_key"]);
    assert!(codes(&operation, 503).contains(&"store_unavailable"));
}

#[idempotent]
#[cfg_attr(all(), utoipa::path(post, path = "/"), allow(clippy::unused_async))]
async fn documented() {}

#[idempotent]
#[cfg_attr(any(), utoipa::path(post, path = "/"))]
async fn undocumented() {}

/// The name that utoipa gives to what it knows of a handler, which is free.
#[expect(non_camel_case_types, reason = "as utoipa has it")]
struct __path_undocumented;

#[test]
fn a_condition_of_the_description_holds_for_what_is_added() {
    let operation = operation(routes!(documented));
    assert_eq!(headers(&operation).len(), 2);
    let _: axum::Router = axum::Router::new().route("/", axum::routing::post(undocumented));
}

macro_rules! handler {
    ($name:ident, $path:literal, $status:literal, $ttl:literal) => {
        #[idempotent(ttl = $ttl)]
        #[utoipa::path(post, path = $path, responses((status = $status)))]
        async fn $name(body: String) -> String {
            body
        }
    };
}

handler!(generated, "/generated", 200, "90s");

#[test]
fn a_handler_of_a_macro_describes_itself() {
    let operation = operation(routes!(generated));
    let marker = &operation["responses"]["200"]["headers"]["idempotent-replayed"];
    let text = marker["description"].as_str().expect("it is described");
    assert!(text.ends_with("for 1 minute 30 seconds"), "{text}");
}

#[test]
fn a_handler_in_a_function_describes_itself() {
    #[idempotent(header = "x-key")]
    #[utoipa::path(post, path = "/")]
    async fn local(body: String) -> String {
        body
    }

    let operation = operation(routes!(local));
    assert_eq!(headers(&operation), [("x-key", false)]);
    assert!(operation["responses"]["409"] != Value::Null);
}
