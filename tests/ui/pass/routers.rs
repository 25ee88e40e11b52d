//! Everywhere a handler can go: method routers, layers, closures, fallbacks, state.
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
    Router,
    extract::{FromRef, State},
    handler::Handler,
    response::IntoResponse,
    routing::{any, post},
};
use idempotent_axum::{Idempotency, Outcome, idempotent};

#[derive(Clone, Default)]
struct App(u64);

impl FromRef<App> for u64 {
    fn from_ref(app: &App) -> Self {
        app.0
    }
}

#[idempotent]
async fn of_state(State(_app): State<App>, State(number): State<u64>) -> (Outcome, String) {
    (Outcome::Final, number.to_string())
}

#[idempotent(wait = "0s")]
async fn stateless(body: String) -> Result<impl IntoResponse, impl IntoResponse> {
    if body.is_empty() { Err((Outcome::Retryable, ())) } else { Ok(body) }
}

fn main() {
    let around = async |state: State<App>| of_state(state, State(1).into()).await;
    let _ = around;
    let _: Router = Router::new()
        .route("/a", post(of_state).layer(Idempotency::default()))
        .route("/b", any(Handler::<_, App>::layer(stateless, Idempotency::default())))
        .route("/c", post(async |body: String| stateless(body.into()).await))
        .route("/d", axum::routing::post_service(of_state.with_state(App::default())))
        .fallback(stateless)
        .with_state(App::default());
}
