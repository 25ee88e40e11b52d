//! Requests that differ in their bytes but are the same: JSON by its value, forms by their parts,
//! whatever their boundary. And requests that are the same under two keys, which what a store holds
//! does not reveal.

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    routing::{any, post as route},
};
use idempotent_axum::{Idempotency, MemoryStore, Store, idempotent};
use idempotent_test_support::{Ask, Leased, Probe, Runs, fresh_key, post};
use serde_json::Value;

#[idempotent(fingerprint = "json")]
async fn by_value(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
}

#[idempotent]
async fn by_bytes(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
}

fn app(store: impl Store) -> (Router, Runs) {
    let runs = Runs::default();
    let app = Router::new()
        .route("/value", route(by_value))
        .route("/bytes", route(by_bytes))
        .layer(Idempotency::new(store))
        .with_state(runs.clone());
    (app, runs)
}

/// The content type and the body of a request.
type Content = (String, String);

/// Asserts which requests are the same as the first one, in memory and in a shared store: each has
/// its own kind of fingerprint.
async fn assert_same(path: &str, first: Content, same: Vec<Content>, other: Vec<Content>) {
    for (app, runs) in [app(MemoryStore::new()), app(Leased::default())] {
        let key = fresh_key();
        let send = async |(content_type, body): &Content| {
            let ask = post(path).key(&key).header("content-type", content_type);
            ask.body(body.clone()).send(&app).await
        };
        assert_eq!(send(&first).await.text(), "run 1");
        for content in std::iter::once(&first).chain(&same) {
            assert!(send(content).await.is_replay(), "{content:?}");
        }
        for content in &other {
            let answer = send(content).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{content:?}");
            assert_eq!(answer.problem().1, "key_reused");
        }
        assert_eq!(runs.count(), 1);
    }
}

const JSON: &str = "application/json";

fn typed(content_type: &str, body: &str) -> Content {
    (content_type.to_owned(), body.to_owned())
}

fn json(body: &str) -> Content {
    typed(JSON, body)
}

fn all<const N: usize>(bodies: [&str; N]) -> Vec<Content> {
    bodies.map(json).into()
}

#[tokio::test]
async fn json_that_is_equal_by_value_is_the_same_request() {
    let first = json(r#"{"cents":1,"to":["ann",null,true],"at":{"x":19.99,"y":100}}"#);
    let same = [
        r#"{"to":["ann",null,true],"at":{"y":100,"x":19.99},"cents":1}"#,
        " {\n\t\"cents\" : 1 ,\r\n \"to\" : [ \"ann\" , null , true ] , \"at\":{\"x\":19.99,\"y\":100} } ",
        r#"{"cents":1.0,"to":["\u0061nn",null,true],"at":{"x":1999e-2,"y":1e2}}"#,
    ];
    let other = [
        r#"{"cents":2,"to":["ann",null,true],"at":{"x":19.99,"y":100}}"#,
        r#"{"cents":"1","to":["ann",null,true],"at":{"x":19.99,"y":100}}"#,
        r#"{"cents":1,"to":[null,"ann",true],"at":{"x":19.99,"y":100}}"#,
        r#"{"cents":1,"to":["Ann",null,true],"at":{"x":19.99,"y":100}}"#,
        r#"{"cents":1,"to":["ann",null,true],"at":{"x":19.990000000000001,"y":100}}"#,
        r#"{"cents":1,"to":["ann",null,true]}"#,
        "",
    ];
    assert_same("/value", first.clone(), all(same), all(other)).await;
    // By default the bytes count.
    assert_same("/bytes", first, vec![], all(same)).await;
}

#[tokio::test]
async fn json_is_known_by_its_media_type() {
    let (body, permuted) = (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#);
    for media_type in [
        "application/vnd.api+json",
        "Application/Problem+JSON; charset=utf-8",
        "application/json; charset=utf-8",
    ] {
        let same = vec![typed(media_type, permuted)];
        assert_same("/value", typed(media_type, body), same, vec![]).await;
    }
    for media_type in ["text/plain", "application/jsonp", "text/json", "application/x-json+xml"] {
        let other = vec![typed(media_type, permuted)];
        assert_same("/value", typed(media_type, body), vec![], other).await;
    }
    // The media type is a part of the request.
    let others = ["text/plain", "application/vnd.api+json"].map(|other| typed(other, body));
    assert_same("/value", json(body), vec![], others.into()).await;
}

#[tokio::test]
async fn json_without_a_form_that_keeps_its_value_counts_as_bytes() {
    // What RFC 8785 writes for both numbers is 12345678901234567000.
    let number = json(r#"{"id":12345678901234567890}"#);
    let others = [r#"{"id":12345678901234567891}"#, r#"{"id": 12345678901234567890}"#];
    assert_same("/value", number, vec![], all(others)).await;
    // Which of the two counts differs from parser to parser.
    let twice = json(r#"{"a":1,"a":2}"#);
    let others = [r#"{"a":2}"#, r#"{"a":1}"#, r#"{"a":2,"a":1}"#, r#"{"a":1, "a":2}"#];
    assert_same("/value", twice, vec![], all(others)).await;
    let others = [r#"{"\u0061":1,"a":2} "#, r#"{"a":2,"\u0061":1}"#];
    assert_same("/value", json(r#"{"\u0061":1,"a":2}"#), vec![], all(others)).await;
    // Not JSON at all.
    assert_same("/value", json("{"), vec![], all(["{ ", "{}"])).await;
    assert_same("/value", json(""), vec![], all([" ", "null"])).await;
}

#[tokio::test]
async fn query_and_path_count_beside_json_by_value() {
    let (app, _) = app(MemoryStore::new());
    let key = fresh_key();
    let send = async |path: &str| post(path).key(&key).json("{}").send(&app).await;
    assert_eq!(send("/value").await.text(), "run 1");
    assert_eq!(send("/value?dry=1").await.problem(), (422, "key_reused".to_owned()));
}

/// A form with a field and a file, as a client sends it under this boundary.
fn form(boundary: &str, file: &str) -> Content {
    let body = [
        &format!("--{boundary}"),
        "Content-Disposition: form-data; name=\"note\"",
        "",
        "rent",
        &format!("--{boundary}"),
        "Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"",
        "Content-Type: text/plain",
        "",
        file,
        &format!("--{boundary}--"),
        "",
    ];
    typed(&format!("multipart/form-data; boundary={boundary}"), &body.join("\r\n"))
}

/// Two boundaries of each: curl, Chromium, Firefox, requests (Python), undici, reqwest.
const BOUNDARIES: [[&str; 2]; 6] = [
    ["------------------------d74496d66958873e", "------------------------8f9a1c22b0e1d3a7"],
    ["----WebKitFormBoundary7MA4YWxkTrZu0gW0", "----WebKitFormBoundaryAbC0dEf1GhI2jKlM"],
    [
        "----geckoformboundary5f1c7f0d0e4c2b8a9d6e3f7a1b2c4d5e",
        "----geckoformboundary1b2c4d5e5f1c7f0d0e4c2b8a9d6e3f7a",
    ],
    ["0f3c9a2b7d1e4f56a8b9c0d1e2f3a4b5", "a8b9c0d1e2f3a4b50f3c9a2b7d1e4f56"],
    ["----formdata-undici-012345678901", "----formdata-undici-098765432109"],
    [
        "1f2e3d4c5b6a7988-8877665544332211-1122334455667788-99aabbccddeeff00",
        "0011223344556677-8899aabbccddeeff-0123456789abcdef-fedcba9876543210",
    ],
];

#[tokio::test]
async fn a_form_is_the_same_request_under_every_boundary() {
    let [first, rest @ ..] = BOUNDARIES.as_flattened() else { panic!("there are boundaries") };
    let forms = |file: &str| rest.iter().map(|boundary| form(boundary, file)).collect();
    assert_same("/bytes", form(first, "content"), forms("content"), forms("contenT")).await;
    assert_same("/bytes", form(first, "content"), vec![], vec![form(first, "contenT")]).await;
    // What is not JSON counts as it does without the option.
    assert_same("/value", form(first, "content"), forms("content"), forms("contenT")).await;
}

#[tokio::test]
async fn a_form_that_is_not_strict_counts_as_bytes() {
    let [first, second] = BOUNDARIES[0];
    let lenient: [fn(String) -> String; 4] = [
        |form| format!("preamble\r\n{form}"),
        |form| form + "epilogue",
        |form| form.replace("\r\n", "\n"),
        |form| form.replace("\r\n\r\nrent", "\r\nrent"),
    ];
    for change in lenient {
        let changed = |boundary| {
            let (content_type, body) = form(boundary, "content");
            (content_type, change(body))
        };
        let other = vec![changed(second), form(first, "content")];
        assert_same("/bytes", changed(first), vec![], other).await;
    }
}

#[idempotent(fingerprint = "request")]
async fn request(_body: Bytes) {}
#[idempotent(fingerprint = "json")]
async fn value(_body: Bytes) {}
#[idempotent(fingerprint = "path")]
async fn path(_body: Bytes) {}
#[idempotent(fingerprint = amount.to_string())]
async fn expression(Json(amount): Json<Value>) {}
#[idempotent(fingerprint = "none")]
async fn none(_body: Bytes) {}
#[idempotent(key = text["key"].as_str().map(str::to_owned), principal = "everyone")]
async fn derived(Json(text): Json<Value>) {
    drop(text);
}

/// Requests cannot be guessed from the fingerprints in a store without the key of each.
#[tokio::test]
async fn the_key_is_the_salt_of_a_stored_fingerprint() {
    let probe = Probe::on(Leased::default());
    let app = Router::new()
        .route("/request", any(request))
        .route("/json", any(value))
        .route("/path", any(path))
        .route("/expression", any(expression))
        .route("/none", any(none))
        .route("/derived", any(derived))
        .layer(Idempotency::new(probe.clone()));
    let claimed = async |ask: Ask| {
        assert_eq!(ask.send(&app).await.status, StatusCode::OK);
        probe.claims().last().expect("a claim").1
    };
    for path in ["/request", "/json", "/path", "/expression"] {
        let [one, two] = [fresh_key(), fresh_key()];
        let body = r#"{"cents":100}"#;
        let first = claimed(post(path).key(&one).json(body)).await;
        assert_ne!(claimed(post(path).key(&two).json(body)).await, first, "{path}");
        assert_eq!(claimed(post(path).key(&one).json(body)).await, first, "{path}");
    }
    let derived = ["a", "b"].map(|key| post("/derived").json(&format!("{{\"key\": \"{key}\"}}")));
    let [one, two] = derived;
    assert_ne!(claimed(one).await, claimed(two).await);
    // It contains nothing that could be found.
    let [one, two] = [(); 2].map(|()| post("/none").key(fresh_key()).body("any"));
    assert_eq!(claimed(one).await, claimed(two).await);
}
