//! Expressions see the parameters as the body does, and take nothing away from it.
#![deny(
    warnings,
    clippy::pedantic,
    clippy::nursery,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    single_use_lifetimes
)]
use axum::{
    Json, Router,
    extract::{Path, State},
    http::HeaderMap,
    routing::post,
};
use idempotent_axum::idempotent;

#[derive(Clone, serde::Deserialize, Hash)]
struct User {
    id: String,
    tenant: Option<String>,
    balance: Option<u64>,
}

#[idempotent(principal = user.id, fingerprint = user)]
async fn field(Json(user): Json<User>) -> String {
    user.id
}

#[idempotent(principal = user.tenant, fingerprint = (user.id, user.tenant, (user.balance, 1)))]
async fn option(State(mut user): State<User>, Json(body): Json<User>) -> String {
    user.id.push_str(&body.id);
    user.id
}

#[idempotent(key = user.tenant.as_ref(), principal = user.tenant.as_deref().unwrap_or("none"))]
async fn method(Json(mut user): Json<User>) -> String {
    user.id.clear();

    user.id
}

#[idempotent(format = "any", principal = format!("{}:{}", headers.len(), id), fingerprint = { let parity = id % 2; parity == 0 })]
async fn macros(headers: HeaderMap, Path(mut id): Path<i64>) -> String {
    id += 1;
    format!("{}{id}", headers.len())
}

#[idempotent(principal = if *admin { "admin" } else { "user" }, key = match name.as_str() { "" => None, name => Some(name) })]
async fn branches(Path((admin, name)): Path<(Box<bool>, String)>) -> String {
    format!("{admin}{name}")
}

#[idempotent(format = "any", principal = "everyone", fingerprint = [a, b])]
async fn array(Path((a, b)): Path<(String, String)>) -> String {
    a + &b
}

#[idempotent(principal = &user.tenant, fingerprint = *id)]
async fn references(Path(id): Path<Box<str>>, Json(user): Json<User>) -> String {
    format!("{id}{}", user.id)
}

#[idempotent(principal = format!("{body}!"), fingerprint = { let size = body.len(); (size, size > 1) })]
async fn formatted_last(headers: HeaderMap, mut body: String) -> String {
    body.push('!');
    format!("{body}{}", headers.len())
}

#[idempotent(principal = user.id, fingerprint = (user.tenant.as_deref().map(str::len), id))]
async fn moved(
    State(mut user): State<User>,
    Path(id): Path<u64>,
    body: String,
) -> Result<String, String> {
    let first: u64 = body.parse().map_err(|_| user.id.clone())?;
    user.id.push('!');
    tokio::task::spawn(async move { (user, body) }).await.map_err(|_| String::new())?;
    Ok(format!("{id}{first}"))
}

fn main() {
    let user = User { id: String::new(), tenant: None, balance: None };
    let _: Router = Router::new()
        .route("/a", post(field).put(option).patch(method).get(macros))
        .route("/b", post(branches).put(array).patch(references))
        .route("/c/{id}", post(formatted_last).put(moved))
        .with_state(user);
}
