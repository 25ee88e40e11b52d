//! Every option that takes a string, with something else.
use idempotent_axum::idempotent;

#[idempotent(header = 1, format = uuid, replay = 2xx, wait = 10, scope = 'a', ttl = b"1h")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
