//! Errors in the options and in the item below them.
use axum::{Json, Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent(ttl = 60, principle = name, format = "any")]
const unsafe fn handler(id: u64, Json(_): Json<u64>, Path(name): Path<&str>) -> String {
    format!("{id}{name}")
}

fn main() {
    let _: Router = Router::new().route("/{name}", post(handler));
}
