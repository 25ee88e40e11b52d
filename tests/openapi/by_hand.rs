//! An attribute below `#[utoipa::path]`, which describes it by hand.

use axum::{Json, http::StatusCode};
use idempotent_axum::{
    idempotent,
    openapi::{Key, Problems},
};
use idempotent_test_support::{fresh_key, post};
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{operation, split};

#[utoipa::path(
    post,
    path = "/",
    request_body = String,
    params(Key),
    responses(
        Problems,
        (status = 200, headers(("idempotent-replayed" = bool))),
        (status = 422, description = "Of the handler"),
    ),
)]
#[idempotent]
async fn below(Json(text): Json<String>) -> String {
    text
}

#[idempotent]
#[utoipa::path(post, path = "/", responses((status = 200), (status = 422, description = "Of the handler")))]
async fn above(Json(text): Json<String>) -> String {
    text
}

#[test]
fn it_says_what_an_attribute_above_says() {
    let (mut above, mut below) = (operation(routes!(above)), operation(routes!(below)));
    for operation in [&mut above, &mut below] {
        operation["operationId"].take();
        // The types do not know how long a response is stored, nor is the marker in their words.
        let key = operation["parameters"][0]["description"].as_str().expect("it is described");
        operation["parameters"][0]["description"] = key.replace(", for 1 hour", "").into();
        let marker = &mut operation["responses"]["200"]["headers"]["idempotent-replayed"];
        assert_eq!(marker["schema"]["type"], "boolean");
        marker.take();
    }
    assert_eq!(above, below);
    assert_ne!(above["responses"]["503"], Value::Null);
    assert_eq!(above["responses"]["422"]["description"], "Of the handler");
}

#[tokio::test]
async fn both_are_routed_and_replay() {
    for routes in [routes!(above), routes!(below)] {
        let (app, _) = split(OpenApiRouter::new().routes(routes));
        let key = fresh_key();
        for replayed in [false, true] {
            let answer = post("/").key(&key).json("\"text\"").send(&app).await;
            assert_eq!((answer.status, answer.is_replay()), (StatusCode::OK, replayed));
        }
    }
}
