//! A last parameter that is not an extractor, as `debug_handler` above shows it.
use axum::extract::Path;
use idempotent_axum::idempotent;

struct Invite {}

#[axum::debug_handler]
#[idempotent]
async fn handler(Path(_): Path<String>, _invite: Invite) {}

fn main() {
    let _ = handler;
}
