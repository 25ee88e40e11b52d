//! Handlers with every kind of last parameter, and the `IdempotencyKey` extractor.

use std::collections::BTreeMap;

use axum::{
    Extension, Form, Json, Router,
    body::{Body, Bytes},
    extract::{
        Multipart, Path, Query, Request, State,
        rejection::{BytesRejection, JsonRejection},
    },
    http::{Extensions, HeaderMap, Method, StatusCode},
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, post as route},
};
use http_body_util::BodyExt as _;
use idempotent_axum::{Idempotency, IdempotencyKey, MemoryStore, idempotent};
use idempotent_test_support::{Answer, Ask, Runs, ask, fresh_key, post};
use serde::Deserialize;
use tower::ServiceExt as _;
use uuid::{Uuid, Variant};

/// Sends a request twice with one key to this handler alone; asserts that it ran once and that both
/// answers say `text`.
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
    // And without a key it runs each time.
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
    // The handler answers 200 about a body it could not read: that is stored like any other.
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

#[idempotent]
async fn key_last(State(runs): State<Runs>, key: IdempotencyKey) -> String {
    let _run = runs.next();
    format!("{:?} {}", key.get(), key.derive("stripe"))
}

#[idempotent]
async fn key_first(key: IdempotencyKey, State(runs): State<Runs>, _body: Bytes) -> String {
    let _run = runs.next();
    format!("{:?} {}", key.get(), key.derive("stripe"))
}

#[tokio::test]
async fn idempotency_key_is_there_when_the_body_runs() {
    for handler in [route(key_last), route(key_first)] {
        let app = Router::new()
            .route("/", handler)
            .layer(Idempotency::new(MemoryStore::new()))
            .with_state(Runs::default());
        let key = fresh_key();
        let quoted = format!("\"{}\"", key.to_uppercase());
        let answer = post("/").key(quoted).send(&app).await;
        // Normalised: without quotes, in lower case.
        assert!(answer.text().starts_with(&format!("Some({key:?}) ")), "{}", answer.text());
        // Never rejects.
        assert!(post("/").send(&app).await.text().starts_with("None "));
    }
}

#[tokio::test]
async fn idempotency_key_never_rejects_outside_a_protected_handler() {
    async fn plain(key: IdempotencyKey) -> String {
        format!("{:?}", key.get())
    }
    let app = Router::new().route("/", route(plain));
    assert_eq!(post("/").key(fresh_key()).send(&app).await.text(), "None");
    assert_eq!(post("/").key("bad").send(&app).await.text(), "None");
}

#[tokio::test]
async fn idempotency_key_never_shows_the_key_in_debug() {
    #[idempotent]
    async fn handler(key: IdempotencyKey) -> String {
        format!("{key:?}")
    }
    let app = Router::new().route("/debug", route(handler));
    let key = fresh_key();
    let answer = post("/debug").key(&key).send(&app).await;
    assert_eq!(answer.text(), "IdempotencyKey(set)");
    assert_eq!(post("/debug").send(&app).await.text(), "IdempotencyKey(none)");
}

/// A handler may serve the parts of a batch as requests of their own, with its own one's extensions.
#[tokio::test]
async fn idempotency_key_is_never_that_of_the_request_whose_extensions_were_passed_on() {
    #[idempotent]
    async fn part(key: IdempotencyKey) -> String {
        format!("{:?}", key.get())
    }
    #[idempotent]
    async fn batch(Extension(parts): Extension<Router>, extensions: Extensions) -> String {
        let mut texts = Vec::new();
        for key in
            ["8a4fd0ed-0c6b-4d43-a0f3-9b3c1b2b4a01", "8a4fd0ed-0c6b-4d43-a0f3-9b3c1b2b4a02", ""]
        {
            let mut request = Request::post("/part").body(Body::empty()).unwrap();
            *request.extensions_mut() = extensions.clone();
            if !key.is_empty() {
                request.headers_mut().insert("idempotency-key", key.parse().unwrap());
            }
            let response = parts.clone().oneshot(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            texts.push(String::from_utf8(body.to_vec()).unwrap());
        }
        texts.join(" ")
    }
    let parts: Router = Router::new().route("/part", route(part));
    let app = Router::new().route("/batch", route(batch)).layer(Extension(parts));
    let answer = post("/batch").key(fresh_key()).send(&app).await;
    assert_eq!(
        answer.text(),
        "Some(\"8a4fd0ed-0c6b-4d43-a0f3-9b3c1b2b4a01\") \
         Some(\"8a4fd0ed-0c6b-4d43-a0f3-9b3c1b2b4a02\") None"
    );
}

/// Releases its key, so that a retry runs again and derives again.
#[idempotent(principal = String::from_utf8_lossy(user.get("x-user").map_or(b"", |user| user.as_bytes())))]
async fn derive(key: IdempotencyKey, user: HeaderMap) -> (StatusCode, String) {
    drop(user);
    let labels = ["stripe", "mail", ""];
    let uuids = labels.map(|label| key.derive(label).to_string());
    (StatusCode::BAD_GATEWAY, uuids.join(" "))
}

async fn derived(path: &str, user: &str, key: Option<&str>) -> Vec<Uuid> {
    let app = Router::new()
        .route("/one", route(derive))
        .route("/two", route(derive))
        .layer(Idempotency::new(MemoryStore::new()));
    let ask = post(path).header("x-user", user);
    let answer = match key {
        Some(key) => ask.key(key),
        None => ask,
    }
    .send(&app)
    .await;
    answer.text().split(' ').map(|uuid| uuid.parse().expect("a UUID")).collect()
}

#[tokio::test]
async fn derive_gives_a_retry_the_same_uuid_and_everything_else_another() {
    let (key, other) = (fresh_key(), fresh_key());
    let first = derived("/one", "ann", Some(&key)).await;
    assert_eq!(derived("/one", "ann", Some(&key)).await, first);
    let mut seen = first.clone();
    // Another scope, principal, key; and no key, which is random each time.
    seen.extend(derived("/two", "ann", Some(&key)).await);
    seen.extend(derived("/one", "bob", Some(&key)).await);
    seen.extend(derived("/one", "ann", Some(&other)).await);
    seen.extend(derived("/one", "ann", None).await);
    seen.extend(derived("/one", "ann", None).await);
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), count), (18, 18));
    for uuid in first {
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (8, Variant::RFC4122));
    }
}

/// A service that derives another UUID after an upgrade makes the downstream call a second time.
/// The values were computed by another program.
#[tokio::test]
async fn derive_is_stable_across_processes_and_releases() {
    let uuids = derived("/one", "ann", Some("2c5ea4c0-4067-41fe-8bad-9b1deb4d3b7d")).await;
    let expected = [
        "47a4345b-06ac-8837-8cb5-4207c1006178",
        "4e7aa677-ee80-8c11-87ca-0c51bbfe25ae",
        "8463a508-dc14-8e91-9a33-9d3dcd20f3c5",
    ];
    assert_eq!(uuids, expected.map(|uuid| uuid.parse::<Uuid>().expect("a UUID")));
}

#[tokio::test]
async fn idempotency_key_gives_a_derived_key_as_it_is() {
    #[idempotent(key = id, principal = "everyone")]
    async fn handler(key: IdempotencyKey, Path(id): Path<String>) -> String {
        format!("{id} {:?}", key.get())
    }
    let app = Router::new().route("/as-it-is/{id}", route(handler));
    let answer = post("/as-it-is/%20EVT%221").send(&app).await;
    assert_eq!(answer.text(), r#" EVT"1 Some(" EVT\"1")"#);
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
