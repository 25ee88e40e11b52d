//! `IdempotencyKey`: the key as a handler's body sees it, and the keys derived from it.

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{Extensions, HeaderMap, StatusCode},
    routing::post as route,
};
use http_body_util::BodyExt as _;
use idempotent_axum::{Idempotency, IdempotencyKey, MemoryStore, idempotent};
use idempotent_test_support::{Runs, fresh_key, post};
use tower::ServiceExt as _;
use uuid::{Uuid, Variant};

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
        // Normalized: unquoted, in lower case.
        assert!(answer.text().starts_with(&format!("Some({key:?}) ")), "{}", answer.text());
        // Never rejects.
        assert!(post("/").send(&app).await.text().starts_with("None "));
    }
}

#[tokio::test]
async fn idempotency_key_new_is_the_key_that_a_unit_test_pretends() {
    // Verbatim, unlike a header.
    for text in ["order-7", "\"A\"", " ", "2C5EA4C0-4067-41FE-8BAD-9B1DEB4D3B7D", "\u{e9}"] {
        let key = IdempotencyKey::new(text);
        assert_eq!(key.get(), Some(text));
        // What a handler derives from it is known in advance.
        assert_eq!(key.derive("stripe"), IdempotencyKey::new(text).derive("stripe"));
        assert_ne!(key.derive("stripe"), key.derive("mail"));
        assert_ne!(key.derive("stripe"), IdempotencyKey::new("other").derive("stripe"));
        assert_eq!(key.clone().derive("mail"), key.derive("mail"));
        let response = key_last(State(Runs::default()), key.clone().into()).await;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, format!("{:?} {}", Some(text), key.derive("stripe")));
        let response = key_first(key.clone(), State(Runs::default()), Bytes::new().into()).await;
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
    let none = IdempotencyKey::default();
    assert_eq!(none.get(), None);
    assert_ne!(none.derive("stripe"), none.derive("stripe"), "random where there is no key");
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

/// A handler may serve the parts of a batch as separate requests, with its own extensions.
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

/// If an upgrade changed the derived UUIDs, the downstream call would be made twice. The values
/// were computed by another program.
#[tokio::test]
async fn derive_is_stable_across_processes_and_releases() {
    let uuids = derived("/one", "ann", Some("2c5ea4c0-4067-41fe-8bad-9b1deb4d3b7d")).await;
    let expected = [
        "a6cde811-a3ed-8d65-89ec-eebfcc25ea1c",
        "53e30e52-53ea-8bad-9f58-b7b614a34894",
        "3be2a847-054d-8336-b8b7-ba34bd7bfca8",
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
