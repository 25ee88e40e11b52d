//! Handlers with every kind of last parameter, with none, and with as many as Axum allows.

use std::collections::BTreeMap;

use axum::{
    Extension, Form, Json, Router,
    body::{Body, Bytes},
    extract::{
        Multipart, Path, Query, Request, State,
        rejection::{BytesRejection, JsonRejection},
    },
    http::{HeaderMap, Method},
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, post as route},
};
use http_body_util::BodyExt as _;
use idempotent_axum::{Idempotency, IdempotencyKey, MemoryStore, idempotent};
use idempotent_test_support::{Answer, Ask, Runs, ask, fresh_key, post};
use serde::Deserialize;
use uuid::Uuid;

/// Sends a request to this handler twice with one key; asserts that it ran once and that both
/// answers are `text`.
async fn assert_protected(handler: MethodRouter<Runs>, request: impl Fn() -> Ask, text: &str) {
    let runs = Runs::default();
    let app = Router::new()
        .route("/{id}", handler)
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(runs.clone());
    let key = fresh_key();
    let first: Answer = request().key(&key).send(&app).await;
    assert_eq!((first.text(), first.is_replay()), (text, false));
    let second = request().key(&key).send(&app).await;
    assert_eq!((second.text(), second.is_replay()), (text, true));
    assert_eq!(runs.count(), 1);
    // Without a key it runs each time.
    assert!(!request().send(&app).await.is_replay());
    assert_eq!(runs.count(), 2);
}

#[tokio::test]
async fn last_parameter_bytes() {
    #[idempotent]
    async fn handler(State(runs): State<Runs>, body: Bytes) -> Bytes {
        let _run = runs.next();
        body
    }
    assert_protected(route(handler), || post("/1").body("bytes"), "bytes").await;
}

#[tokio::test]
async fn last_parameter_string() {
    #[idempotent]
    async fn handler(State(runs): State<Runs>, body: String) -> String {
        let _run = runs.next();
        body
    }
    assert_protected(route(handler), || post("/1").body("text"), "text").await;
}

#[derive(Deserialize)]
struct Input {
    name: String,
}

#[tokio::test]
async fn last_parameter_json() {
    #[idempotent]
    async fn handler(State(runs): State<Runs>, Json(input): Json<Input>) -> String {
        let _run = runs.next();
        input.name
    }
    assert_protected(route(handler), || post("/1").json(r#"{"name": "ann"}"#), "ann").await;
}

#[tokio::test]
async fn last_parameter_form() {
    #[idempotent]
    async fn handler(State(runs): State<Runs>, Form(input): Form<Input>) -> String {
        let _run = runs.next();
        input.name
    }
    let form = || {
        post("/1").header("content-type", "application/x-www-form-urlencoded").body("name=a%20b")
    };
    assert_protected(route(handler), form, "a b").await;
}

#[tokio::test]
async fn last_parameter_multipart() {
    #[idempotent]
    async fn handler(State(runs): State<Runs>, mut form: Multipart) -> Result<String, Response> {
        let _run = runs.next();
        let mut fields = String::new();
        while let Some(field) = form.next_field().await.map_err(IntoResponse::into_response)? {
            let name = field.name().unwrap_or_default().to_owned();
            let text = field.text().await.map_err(IntoResponse::into_response)?;
            fields.extend([name.as_str(), "=", text.as_str(), ";"]);
        }
        Ok(fields)
    }
    let form = || {
        let part = |name: &str, value: &str| {
            format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        post("/1")
            .header("content-type", "multipart/form-data; boundary=X")
            .body(part("a", "1") + &part("b", "2") + "--X--\r\n")
    };
    assert_protected(route(handler), form, "a=1;b=2;").await;
}

#[tokio::test]
async fn last_parameter_request() {
    #[idempotent]
    async fn handler(State(runs): State<Runs>, request: Request) -> String {
        let _run = runs.next();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let body = request.into_body().collect().await.expect("the body is there").to_bytes();
        format!("{method} {uri} {}", String::from_utf8_lossy(&body))
    }
    assert_protected(any(handler), || ask(Method::PUT, "/1?q").body("b"), "PUT /1?q b").await;
}

#[tokio::test]
async fn last_parameter_body() {
    #[idempotent]
    async fn handler(State(runs): State<Runs>, body: Body) -> Body {
        let _run = runs.next();
        body
    }
    assert_protected(route(handler), || post("/1").body("streamed"), "streamed").await;
}

#[tokio::test]
async fn last_parameter_option() {
    #[idempotent]
    async fn handler(State(runs): State<Runs>, input: Option<Json<Input>>) -> String {
        let _run = runs.next();
        input.map_or_else(|| "none".to_owned(), |Json(input)| input.name)
    }
    assert_protected(route(handler), || post("/1").json(r#"{"name": "ann"}"#), "ann").await;
    assert_protected(route(handler), || post("/1"), "none").await;
}

#[tokio::test]
async fn last_parameter_result() {
    #[idempotent]
    async fn handler(
        State(runs): State<Runs>,
        input: Result<Json<Input>, JsonRejection>,
    ) -> String {
        let _run = runs.next();
        input.map_or_else(|rejection| rejection.status().to_string(), |Json(input)| input.name)
    }
    assert_protected(route(handler), || post("/1").json(r#"{"name": "ann"}"#), "ann").await;
    // The handler answers 200 although it could not read the body: stored like any other response.
    assert_protected(route(handler), || post("/1").json("{"), "400 Bad Request").await;
}

#[tokio::test]
async fn last_parameter_of_request_parts() {
    #[idempotent]
    async fn path(State(runs): State<Runs>, Path(id): Path<u32>) -> String {
        let _run = runs.next();
        id.to_string()
    }
    #[idempotent]
    async fn query(
        State(runs): State<Runs>,
        Query(query): Query<BTreeMap<String, String>>,
    ) -> String {
        let _run = runs.next();
        format!("{query:?}")
    }
    #[idempotent]
    async fn headers(State(runs): State<Runs>, headers: HeaderMap) -> String {
        let _run = runs.next();
        headers.contains_key("x-there").to_string()
    }
    #[idempotent]
    async fn method(State(runs): State<Runs>, method: Method) -> String {
        let _run = runs.next();
        method.to_string()
    }
    #[idempotent]
    async fn state(State(runs): State<Runs>) -> &'static str {
        let _run = runs.next();
        "state"
    }
    assert_protected(route(path), || post("/7"), "7").await;
    assert_protected(route(query), || post("/7?a=1"), r#"{"a": "1"}"#).await;
    assert_protected(route(headers), || post("/7").header("x-there", "1"), "true").await;
    assert_protected(route(method), || post("/7"), "POST").await;
    assert_protected(route(state), || post("/7"), "state").await;
}

#[tokio::test]
async fn last_parameter_tuple() {
    #[idempotent]
    async fn handler(
        State(runs): State<Runs>,
        (method, Path(id), body): (Method, Path<u32>, Result<Bytes, BytesRejection>),
    ) -> String {
        let _run = runs.next();
        format!("{method} {id} {}", body.map_or(0, |body| body.len()))
    }
    assert_protected(route(handler), || post("/7").body("four"), "POST 7 4").await;
}

#[tokio::test]
async fn no_parameter() {
    #[idempotent]
    async fn handler() -> String {
        Uuid::new_v4().to_string()
    }
    let app = Router::new().route("/no-parameter", route(handler));
    let key = fresh_key();
    let first = post("/no-parameter").key(&key).send(&app).await;
    let second = post("/no-parameter").key(&key).send(&app).await;
    assert!(second.is_replay());
    assert_eq!(first.body, second.body);
    assert_ne!(post("/no-parameter").send(&app).await.body, first.body);
}

#[tokio::test]
async fn sixteen_parameters() {
    type Map = BTreeMap<String, String>;

    #[allow(clippy::too_many_arguments, reason = "as many as Axum takes")]
    #[idempotent(principal = format!("{id}{}", q.len()))]
    async fn handler(
        State(runs): State<Runs>,
        Path(id): Path<u32>,
        Query(q): Query<Map>,
        _p4: Method,
        _p5: Method,
        _p6: Method,
        _p7: HeaderMap,
        _p8: HeaderMap,
        _p9: State<Runs>,
        _p10: State<Runs>,
        _p11: IdempotencyKey,
        _p12: Path<String>,
        _p13: Query<Map>,
        _p14: Method,
        _p15: Method,
        Json(input): Json<Input>,
    ) -> String {
        let _run = runs.next();
        format!("{id} {q:?} {}", input.name)
    }
    let request = || post("/7?a=1").json(r#"{"name": "ann"}"#);
    assert_protected(route(handler), request, r#"7 {"a": "1"} ann"#).await;
}

#[tokio::test]
async fn extensions_of_middleware_reach_the_handler() {
    #[derive(Clone)]
    struct Tenant(&'static str);

    #[idempotent(principal = tenant.0)]
    async fn handler(State(runs): State<Runs>, Extension(tenant): Extension<Tenant>) -> String {
        let _run = runs.next();
        tenant.0.to_owned()
    }
    let set = middleware::from_fn(async |mut request: Request, next: middleware::Next| {
        request.extensions_mut().insert(Tenant("acme"));
        next.run(request).await
    });
    assert_protected(route(handler).layer(set), || post("/1"), "acme").await;
}

#[idempotent]
async fn conditional(
    #[cfg(not(any()))] Path(id): Path<u64>,
    #[cfg(any())] missing: Missing,
    #[cfg(not(any()))] body: String,
    #[cfg(any())] Json(other): Json<Missing>,
) -> String {
    format!("{id} {body}")
}

#[tokio::test]
async fn the_last_parameter_is_the_last_that_is_compiled() {
    let app = Router::new().route("/conditional/{id}", route(conditional));
    assert_eq!(post("/conditional/7").body("body").send(&app).await.text(), "7 body");
}
