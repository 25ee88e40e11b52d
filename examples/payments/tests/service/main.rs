//! Tests of the real program, on a real database: each starts it on a free port and speaks HTTP to
//! it over TCP.

#![cfg(unix)]

mod api;
mod outbox;
#[allow(dead_code, reason = "the test of crashes uses the rest")]
#[path = "../crashes/process.rs"]
mod process;
mod readme;
mod start;

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use test_servers::Postgres;

use crate::process::Service;

/// The service with these settings.
fn payments(database: &str, further: &[(&'static str, &str)]) -> Service {
    let own = [("DATABASE_URL", database), ("PAYMENTS_ADDR", "127.0.0.1:0")];
    let variables = own.iter().chain(further);
    let variables = variables.map(|(name, value)| (*name, (*value).to_owned())).collect();
    Service::start(env!("CARGO_BIN_EXE_payments"), variables)
}

/// The service downstream.
fn ledger() -> Service {
    let anywhere = vec![("LEDGER_ADDR", "127.0.0.1:0".to_owned())];
    Service::start(env!("CARGO_BIN_EXE_ledger"), anywhere)
}

/// A payment of 42 euros by the client `acme`.
fn pay(service: &Service, path: &str, key: &str) -> RequestBuilder {
    let url = format!("http://{}{path}", service.address());
    let request = client().post(url).bearer_auth("acme").header("idempotency-key", key);
    request.json(&json!({"account": "rent", "amount": 4200, "currency": "EUR"}))
}

fn client() -> Client {
    Client::builder().no_proxy().build().expect("it has no settings")
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("the service answers")
}

async fn sent(request: RequestBuilder) -> (u16, Value) {
    let response = send(request).await;
    (response.status().as_u16(), response.json().await.expect("an answer is JSON"))
}

fn count(postgres: &Postgres, table: &str) -> usize {
    let count = postgres.execute(&format!("SELECT count(*) FROM {table}"));
    count.parse().expect("it is a number")
}

fn fresh_key() -> String {
    uuid::Uuid::new_v4().to_string()
}
