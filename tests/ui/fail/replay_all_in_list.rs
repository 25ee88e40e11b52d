//! `all` together with other statuses.
use idempotent_axum::idempotent;

#[idempotent(replay = ["2xx", "all"])]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
