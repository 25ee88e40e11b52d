//! Handlers in a document that `aide` makes: `Idempotent<E>` says the same.

use std::sync::{Arc, Mutex};

use aide::{
    OperationInput,
    axum::{
        ApiRouter,
        routing::{post as api_post, post_with},
    },
    generate::GenContext,
    openapi::{OpenApi, Operation, Response},
};
use axum::{
    Json, Router,
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, request::Parts},
};
use idempotent_axum::{
    IdempotencyKey, idempotent,
    openapi::{Key, Problems},
};
use idempotent_test_support::{fresh_key, post};
use serde_json::Value;
use utoipa::{IntoParams as _, IntoResponses as _};

use crate::{codes, headers};

/// The router, and what the document says of its only operation.
fn split(router: ApiRouter) -> (Router, Value) {
    let mut document = OpenApi::default();
    let app = router.finish_api(&mut document);
    let document = serde_json::to_value(document).expect("a document is JSON");
    (app, document["paths"]["/"]["post"].clone())
}

#[idempotent]
async fn echo(key: IdempotencyKey, Json(text): Json<String>) -> String {
    key.get().map_or(text, str::to_owned)
}

#[idempotent]
async fn nothing() {}

#[test]
fn it_says_what_utoipa_says() {
    let (_, mut operation) = split(ApiRouter::new().api_route("/", api_post(echo)));
    let parameters = serde_json::to_value(Key::into_params(|| None)).expect("it is JSON");
    let responses = serde_json::to_value(Problems::responses()).expect("it is JSON");
    for (name, mut said) in [("parameters", parameters), ("responses", responses)] {
        without_defaults(&mut said);
        without_defaults(&mut operation[name]);
        assert_eq!(operation[name], said);
    }
    assert_eq!(operation["requestBody"]["content"]["application/json"]["schema"]["type"], "string");
}

/// Leaves out what is so without being said.
fn without_defaults(document: &mut Value) {
    match document {
        Value::Array(values) => values.iter_mut().for_each(without_defaults),
        Value::Object(members) => {
            members.retain(|name, value| match &**name {
                "required" => *value != false,
                "style" => value != "simple",
                _ => true,
            });
            members.values_mut().for_each(without_defaults);
        }
        _ => {}
    }
}

#[tokio::test]
async fn the_handlers_are_routed_and_replay() {
    for route in [api_post(echo), api_post(nothing)] {
        let (app, operation) = split(ApiRouter::new().api_route("/", route));
        assert_eq!(headers(&operation).len(), 2);
        let key = fresh_key();
        for replayed in [false, true] {
            let answer = post("/").key(&key).json("\"text\"").send(&app).await;
            assert_eq!((answer.status, answer.is_replay()), (StatusCode::OK, replayed));
        }
    }
}

#[idempotent(header = "x-key", format = "any", required, principal = "everyone", ttl = "7d")]
async fn by_other_options(body: Json<String>) -> Json<String> {
    body
}

#[test]
fn what_the_options_change_is_said_by_hand() {
    let route = post_with(by_other_options, |operation| {
        let operation = operation.response::<201, Json<String>>().response::<404, Json<String>>();
        Key::new().headers(&["x-key"]).any().required().ttl("7 days").describe(operation)
    });
    let (_, operation) = split(ApiRouter::new().api_route("/", route));
    assert_eq!(headers(&operation), [("x-key", true)]);
    let key = &operation["parameters"][0];
    assert_eq!(key["schema"]["maxLength"], 255);
    let text = key["description"].as_str().expect("it is described");
    assert!(text.ends_with("response of the first request, for 7 days."), "{text}");
    let marker = |status: &str| &operation["responses"][status]["headers"]["idempotent-replayed"];
    assert_eq!(marker("201")["schema"]["type"], "boolean");
    assert_eq!((marker("404"), marker("409")), (&Value::Null, &Value::Null));

    let route = post_with(echo, |operation| Key::new().headers(&[]).uuid_v4().describe(operation));
    let (_, operation) = split(ApiRouter::new().api_route("/", route));
    assert_eq!(headers(&operation), []);
}

/// An extractor with a header and errors of its own.
struct Body;

impl<S: Sync> FromRequest<S> for Body {
    type Rejection = StatusCode;

    async fn from_request(_: Request, _: &S) -> Result<Self, StatusCode> {
        Ok(Self)
    }
}

impl OperationInput for Body {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Json::<u64>::operation_input(ctx, operation);
    }

    fn inferred_early_responses(
        _: &mut GenContext,
        _: &mut Operation,
    ) -> Vec<(Option<u16>, Response)> {
        let described =
            |text: &str| Response { description: text.to_owned(), ..Response::default() };
        vec![(Some(422), described("of the body")), (None, described("of anything"))]
    }
}

/// One in front of it.
struct User;

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = StatusCode;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        Ok(Self)
    }
}

impl OperationInput for User {}

#[idempotent]
async fn with_extractors(_user: User, _body: Body) {}

#[test]
fn an_extractors_own_words_are_kept() {
    let errors = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&errors);
    aide::generate::on_error(move |error| seen.lock().expect("no panic").push(error.to_string()));
    let (_, operation) = split(ApiRouter::new().api_route("/", api_post(with_extractors)));
    let responses = &operation["responses"];
    assert_eq!(responses["422"]["description"], "of the body");
    assert_eq!(responses["default"]["description"], "of anything");
    assert_eq!(codes(&operation, 400), ["invalid_key", "conflicting_keys", "missing_key"]);
    assert_eq!(operation["requestBody"]["required"], true);
    assert_eq!(*errors.lock().expect("no panic"), [""; 0]);
}
