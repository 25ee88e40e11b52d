//! First responses and replays: their bytes and headers (`replays`), that on the wire they look as
//! without the attribute (`wire`), and what is captured of them (`capture`), of bodies that may
//! never end (`streams`), and of connections that become tunnels (`tunnels`).

mod capture;
mod replays;
mod streams;
mod tunnels;
mod wire;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{any, get},
};
use idempotent_axum::{Idempotency, MemoryStore, Store, idempotent};
use idempotent_test_support::{Answer, Server};

/// The responses that the handlers will return. One run too many finds none, and panics.
#[derive(Clone)]
struct Script(Arc<Mutex<VecDeque<Response>>>);

impl Script {
    fn next(&self) -> Response {
        let next = self.0.lock().expect("no panic under the lock").pop_front();
        next.expect("the handler runs as often as the test says")
    }

    fn left(&self) -> usize {
        self.0.lock().expect("no panic under the lock").len()
    }
}

#[idempotent]
async fn protected(State(script): State<Script>) -> Response {
    script.next()
}

#[idempotent(replay = "all")]
async fn everything(State(script): State<Script>) -> Response {
    script.next()
}

async fn bare(State(script): State<Script>) -> Response {
    script.next()
}

const MAX_BYTES: usize = 1000;

/// A service whose handlers return these responses, one after the other.
fn app<const N: usize>(responses: [Response; N]) -> (Router, Script) {
    app_on(MemoryStore::new(), responses)
}

fn app_on<const N: usize>(store: impl Store, responses: [Response; N]) -> (Router, Script) {
    configured(Idempotency::new(store), responses)
}

fn configured<const N: usize>(
    idempotency: Idempotency,
    responses: [Response; N],
) -> (Router, Script) {
    let script = Script(Arc::new(Mutex::new(responses.into())));
    let app = Router::new()
        .route("/", any(protected))
        .route("/everything", any(everything))
        .route("/bare", any(bare))
        .route("/get", get(protected))
        .route("/bare-get", get(bare))
        .layer(idempotency.max_response_bytes(MAX_BYTES))
        .with_state(script.clone());
    (app, script)
}

fn all(answer: &Answer, name: &str) -> Vec<Vec<u8>> {
    let values = answer.headers.get_all(name).iter();
    values.map(|value| value.as_bytes().to_owned()).collect()
}

/// Sends a request without a body over its own connection.
async fn exchange(server: &Server, method: &str, path: &str, key: &str) -> Answer {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: h\r\nIdempotency-Key: {key}\r\nConnection: close\r\n\r\n"
    );
    server.exchange(request).await
}
