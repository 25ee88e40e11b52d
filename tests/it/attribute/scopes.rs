//! The option `scope`, and what names the operation without it.

use axum::{Router, extract::State, routing::any as any_method};
use idempotent_axum::idempotent;
use idempotent_test_support::{Runs, ask, fresh_key};

use crate::service::on_own_store;

#[tokio::test]
async fn scope_names_the_operation_and_two_handlers_with_one_scope_share_keys() {
    #[idempotent(scope = "pay", fingerprint = "none")]
    async fn one(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(scope = "pay", fingerprint = "none")]
    async fn two(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(scope = "refund", fingerprint = "none")]
    async fn other(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(fingerprint = "none")]
    async fn unnamed(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let (app, runs) = on_own_store(
        Router::new()
            .route("/one", any_method(one))
            .route("/two", any_method(two))
            .route("/other", any_method(other))
            .route("/pay", any_method(unnamed)),
    );
    let key = fresh_key();
    let send = async |method: &str, path: &str| {
        let method = method.parse().expect("a method");
        ask(method, path).key(&key).send(&app).await.text().to_owned()
    };
    assert_eq!(send("POST", "/one").await, "run 1");
    assert_eq!(send("POST", "/two").await, "run 1");
    assert_eq!(send("PUT", "/two").await, "run 1");
    assert_eq!(send("POST", "/other").await, "run 2");
    // Without a scope: method and route.
    assert_eq!(send("POST", "/pay").await, "run 3");
    assert_eq!(send("PUT", "/pay").await, "run 4");
    assert_eq!(runs.count(), 4);
}

#[tokio::test]
async fn scope_defaults_to_method_and_route_template() {
    #[idempotent(fingerprint = "none")]
    async fn handler(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let inner = Router::new().route("/{id}", any_method(handler));
    let (app, _) = on_own_store(
        Router::new().nest("/users", inner.clone()).nest("/orders", inner.clone()).merge(inner),
    );
    let key = fresh_key();
    let send = async |method: &str, path: &str| {
        let method = method.parse().expect("a method");
        ask(method, path).key(&key).send(&app).await.text().to_owned()
    };
    for _ in 0..2 {
        assert_eq!(send("POST", "/users/1").await, "run 1");
        assert_eq!(send("POST", "/orders/1").await, "run 2");
        assert_eq!(send("PATCH", "/users/1").await, "run 3");
        assert_eq!(send("POST", "/1").await, "run 4");
    }
    // One template, so one operation: only the fingerprint tells the ids apart.
    assert_eq!(send("POST", "/users/2").await, "run 1");
}
