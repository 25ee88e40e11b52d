//! Every error is reported.
use idempotent_axum::idempotent;

#[idempotent(tll = "1h", wait = "soon", header = "a b", replay = ["6xx", "abc"])]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
