//! Requests, and how they are sent.

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tower_service::Service as _;
use uuid::{Builder, Uuid};

use crate::handler::Order;

/// A fresh key, from the thread's generator of random numbers.
#[must_use]
pub fn key() -> Uuid {
    Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid()
}

/// An order of that many bytes of JSON.
#[must_use]
pub fn order(bytes: usize) -> Bytes {
    let json = |note: usize| {
        let order = Order { id: 1 << 48, note: "n".repeat(note) };
        serde_json::to_vec(&order).expect("an order is JSON")
    };
    json(bytes - json(0).len()).into()
}

/// A `POST /orders` with the headers that an HTTP client sends.
#[must_use]
pub fn request(key: Option<Uuid>, body: Bytes) -> Request {
    let mut request = Request::post("/orders")
        .header(header::HOST, "shop.example")
        .header(header::USER_AGENT, "bench/1.0")
        .header(header::ACCEPT, "*/*")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, body.len());
    if let Some(key) = key {
        request = request.header("idempotency-key", key.to_string());
    }
    request.body(Body::from(body)).expect("all parts of the request are valid")
}

/// The response to one request.
pub async fn respond(router: &mut Router, request: Request) -> Response {
    let Ok(response) = router.call(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    response
}

/// Sends one request after the other, and reads the responses to their end.
pub async fn drive(router: &mut Router, requests: impl IntoIterator<Item = Request>) {
    for request in requests {
        let mut body = respond(router, request).await.into_body();
        while let Some(frame) = body.frame().await {
            std::hint::black_box(frame.expect("the body is whole"));
        }
    }
}
