//! What can never collide: principals, scopes, routes, and keys crafted to look like another
//! request's fields. Every handler here ignores everything in the request but its key, so nothing
//! else keeps two requests apart.

use axum::{
    Router,
    extract::{Path, State},
    http::HeaderMap,
    routing::{any, get, post as route},
};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Answer, Ask, Runs, ask, fresh_key, post};

use crate::service::on_own_store;

type Probe = idempotent_test_support::Probe<MemoryStore>;

#[idempotent(fingerprint = "none")]
async fn unscoped(State(runs): State<Runs>) -> String {
    runs.next()
}

#[idempotent(
    format = "any",
    fingerprint = "none",
    scope = "crafted",
    principal = headers.get("x-user").map(|user| String::from_utf8_lossy(user.as_bytes()))
)]
async fn of_user(State(runs): State<Runs>, headers: HeaderMap) -> String {
    drop(headers);
    runs.next()
}

#[idempotent(key = key, principal = None::<&str>, fingerprint = "none", scope = "crafted")]
async fn of_path(State(runs): State<Runs>, Path((user, key)): Path<(String, String)>) -> String {
    drop((user, key));
    runs.next()
}

fn user(request: Ask, user: Option<&str>) -> Ask {
    match user {
        Some(user) => request.header("x-user", user),
        None => request,
    }
}

/// Asserts that no two of the requests are the same operation, and that each is the same as itself.
async fn assert_apart<const N: usize>(app: &Router, requests: impl Fn() -> [Ask; N]) {
    let mut first = Vec::new();
    for request in requests() {
        let answer: Answer = request.send(app).await;
        assert_eq!((answer.status.as_u16(), answer.is_replay()), (200, false), "{answer:?}");
        first.push(answer.body);
    }
    for (request, first) in requests().into_iter().zip(first) {
        let again = request.send(app).await;
        assert!(again.is_replay());
        assert_eq!(again.body, first);
    }
}

#[tokio::test]
async fn two_principals_never_meet() {
    let (app, runs) = on_own_store(Router::new().route("/", route(of_user)));
    let key = fresh_key();
    assert_apart(&app, || ["ann", "Ann", "bob"].map(|name| user(post("/").key(&key), Some(name))))
        .await;
    assert_eq!(runs.count(), 3);
}

#[tokio::test]
async fn no_principal_and_an_empty_one_are_two() {
    let (app, runs) = on_own_store(Router::new().route("/", route(of_user)));
    let key = fresh_key();
    let principals = [None, Some(""), Some("None")];
    assert_apart(&app, || principals.map(|name| user(post("/").key(&key), name))).await;
    assert_eq!(runs.count(), 3);
}

#[tokio::test]
async fn no_byte_moves_between_principal_and_key() {
    let (app, runs) = on_own_store(Router::new().route("/", route(of_user)));
    let crafted = [
        (None, "annbob"),
        (Some(""), "annbob"),
        (Some("a"), "nnbob"),
        (Some("ann"), "bob"),
        (Some("annbo"), "b"),
        (Some("ann:"), "bob"),
        (Some("ann"), ":bob"),
        (Some("ann/"), "bob"),
        (Some("ann"), "/bob"),
        (Some("ann,bob"), "key"),
        (Some("ann"), "bob,key"),
    ];
    assert_apart(&app, || crafted.map(|(name, key)| user(post("/").key(key), name))).await;
    assert_eq!(runs.count(), crafted.len());
}

#[tokio::test]
async fn no_byte_moves_between_scope_and_principal_and_key() {
    #[idempotent(format = "any", fingerprint = "none", scope = "pay", principal = "ann")]
    async fn one(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(format = "any", fingerprint = "none", scope = "payann", principal = "")]
    async fn two(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(format = "any", fingerprint = "none", scope = "p", principal = "ayann")]
    async fn three(State(runs): State<Runs>) -> String {
        runs.next()
    }
    // What a route's scope is made of, spelled out as a name.
    #[idempotent(format = "any", fingerprint = "none", scope = "POST/four", principal = "ann")]
    async fn four(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(format = "any", fingerprint = "none", principal = "ann")]
    async fn five(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let (app, runs) = on_own_store(
        Router::new()
            .route("/one", route(one))
            .route("/two", route(two))
            .route("/three", route(three))
            .route("/five", route(four))
            .route("/four", route(five)),
    );
    let paths = ["/one", "/two", "/three", "/five", "/four"];
    assert_apart(&app, || paths.map(|path| post(path).key("key"))).await;
    assert_eq!(runs.count(), paths.len());
}

#[tokio::test]
async fn a_derived_key_with_any_byte_in_it_crosses_no_boundary() {
    let (app, runs) = on_own_store(Router::new().route("/{user}/{key}", route(of_path)));
    let paths =
        ["/u/a", "/u/a%00", "/u/%00a", "/u/a%0a", "/u/a%2Fb", "/u/%C3%A9", "/u/%01%00%00%00"];
    assert_apart(&app, || paths.map(post)).await;
    assert_eq!(runs.count(), paths.len());
}

#[tokio::test]
async fn the_same_key_and_body_on_another_route_is_another_operation() {
    let app = Router::new()
        .route("/pay", any(unscoped))
        .route("/refund", any(unscoped))
        .route("/pay/", any(unscoped))
        .route("/users/{id}", any(unscoped))
        .route("/users/{id}/pay", any(unscoped));
    let (app, runs) = on_own_store(app);
    let key = fresh_key();
    let paths = ["/pay", "/refund", "/pay/", "/users/1", "/users/1/pay"];
    assert_apart(&app, || paths.map(|path| post(path).key(&key))).await;
    assert_eq!(runs.count(), paths.len());
}

#[tokio::test]
async fn methods_of_one_route_are_operations_of_their_own() {
    let (app, runs) = on_own_store(Router::new().route("/", any(unscoped)));
    let key = fresh_key();
    assert_apart(&app, || {
        ["POST", "PUT", "PATCH", "DELETE", "GET", "PURGE"]
            .map(|method| ask(method.parse().expect("a method"), "/").key(&key))
    })
    .await;
    assert_eq!(runs.count(), 6);
}

#[tokio::test]
async fn head_and_get_of_one_route_are_operations_of_their_own() {
    let (app, runs) = on_own_store(Router::new().route("/", get(unscoped)));
    let key = fresh_key();
    let send =
        async |method: &str| ask(method.parse().expect("a method"), "/").key(&key).send(&app).await;
    let head = send("HEAD").await;
    assert_eq!((head.text(), head.is_replay()), ("", false));
    let get = send("GET").await;
    assert_eq!((get.text(), get.is_replay()), ("run 2", false));
    assert!(send("HEAD").await.is_replay());
    assert_eq!(send("GET").await.text(), "run 2");
    assert_eq!(runs.count(), 2);
}

#[tokio::test]
async fn one_router_nested_under_two_prefixes_is_two_operations() {
    let inner = Router::new().route("/pay/{id}", route(unscoped));
    let deep = Router::new().nest("/v1", inner.clone());
    let app = Router::new().nest("/a", inner.clone()).nest("/b", inner.clone()).nest("/a/x", deep);
    let (app, runs) = on_own_store(app);
    let key = fresh_key();
    let paths = ["/a/pay/1", "/b/pay/1", "/a/x/v1/pay/1"];
    assert_apart(&app, || paths.map(|path| post(path).key(&key))).await;
    assert_eq!(runs.count(), paths.len());
}

#[tokio::test]
async fn without_a_route_template_the_full_path_names_the_operation() {
    let nested = Router::new().fallback(unscoped);
    let app = Router::new()
        .nest("/a", nested.clone())
        .nest("/b", nested)
        .nest_service("/service", any(unscoped).with_state::<()>(Runs::default()))
        .route("/{any}", route(unscoped))
        .fallback(unscoped);
    let (app, _) = on_own_store(app);
    let key = fresh_key();
    let paths =
        ["/a/x", "/b/x", "/a/y", "/x", "/c/x", "/c/y", "/a/{any}", "/service/x", "/service/y"];
    assert_apart(&app, || paths.map(|path| post(path).key(&key))).await;
}

#[tokio::test]
async fn a_path_that_spells_a_template_is_not_that_route() {
    // Two services on one store; the path in one is, byte for byte, the template in the other.
    let probe = Probe::default();
    let on =
        |app: Router<Runs>| app.layer(Idempotency::new(probe.clone())).with_state(Runs::default());
    let with_template = on(Router::new().route("/items/{id}", route(unscoped)));
    let without = on(Router::new().fallback(unscoped));
    let key = fresh_key();
    for app in [with_template, without] {
        assert!(!post("/items/{id}").key(&key).send(&app).await.is_replay());
    }
    let claims = probe.claims();
    assert_ne!(claims[0].0, claims[1].0);
}
