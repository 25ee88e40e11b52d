//! Connecting, and the one clear error if that fails.

use std::{net::TcpListener, time::Duration};

use idempotent_runtime::{ConnectError, PostgresStore};
use idempotent_test_support::{PATIENCE, chain};
use test_servers::{Fault, PgBouncer, PoolMode, Proxy};
use tokio::time::timeout;

use super::SHARED;

/// An address that nobody listens on.
pub(super) fn closed_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// The error of `connect`, which must not take forever.
pub(super) async fn refusal(
    connect: impl Future<Output = Result<PostgresStore, ConnectError>>,
) -> ConnectError {
    let result = timeout(PATIENCE, connect).await.expect("`connect` ends by itself");
    result.expect_err("it cannot connect")
}

#[tokio::test]
async fn a_pooler_without_the_option_is_refused() {
    // One pooler refuses the session's settings, the other drops them.
    let ignore = ["ignore_startup_parameters = extra_float_digits, options"];
    for settings in [&[][..], &ignore[..]] {
        let pooler = PgBouncer::start_with(&SHARED, PoolMode::Transaction, settings);
        let error = PostgresStore::connect(&pooler.url()).await.expect_err("it is refused");
        let text = error.to_string();
        assert!(text.contains("transaction_pooler()"), "with {settings:?}: {}", chain(&error));
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_one_clear_error() {
    let address = closed_address();
    let url = format!("postgres://user:secret@{address}/postgres");
    let error = refusal(PostgresStore::connect(&url)).await;
    assert_eq!(
        error.to_string(),
        format!(
            "cannot connect to PostgreSQL at `{address}`: check the URL, and that the server is up"
        )
    );
    assert!(chain(&error).contains("Connection refused"), "{}", chain(&error));
    assert!(!format!("{error:?}{}", chain(&error)).contains("secret"));
}

#[tokio::test]
async fn a_server_that_is_silent_is_one_clear_error() {
    let proxy = Proxy::start(SHARED.address());
    proxy.set(Fault::Stall);
    let builder = PostgresStore::builder().connect_timeout(Duration::from_millis(200));
    let error = refusal(builder.connect(&SHARED.url_through(&proxy))).await;
    let silent = format!("at `{}`, no answer within 200ms", proxy.address());
    assert!(error.to_string().contains(&silent), "{error}");
}

#[tokio::test]
async fn a_url_that_is_none_is_one_clear_error() {
    for url in ["", "redis://localhost", "postgres://user:secret@host:port/"] {
        let error = refusal(PostgresStore::connect(url)).await;
        assert!(!format!("{error:?}{}", chain(&error)).contains("secret"), "{error:?}");
        assert!(error.to_string().contains("PostgreSQL"), "{url}: {error}");
    }
}
