//! The page at `/`: a form, what networks and people do to it, and what became of each request.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, header},
    response::{Html, IntoResponse, Sse, sse::KeepAlive},
    routing::{MethodRouter, get, post},
};

use crate::{app::App, entities, live::Live};

/// How long the downstream call takes at least for what the page sends: time to click twice, and to
/// cut a connection.
const LATENCY: Duration = Duration::from_millis(1500);

/// The page takes nothing from elsewhere, and nobody frames it.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn router(app: &App) -> Router {
    // The API's own handler and entities. Only the call to the other system differs.
    let downstream = app.downstream.clone().at_least(LATENCY).told_to(&app.live);
    let invite = post(entities::invite).with_state(App { downstream, ..app.clone() });
    Router::new()
        .route("/", get(([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(INDEX))))
        .route("/page/icon.svg", file("image/svg+xml", include_str!("page/icon.svg")))
        .route("/page/live.js", file("text/javascript", include_str!("page/live.js")))
        .route("/page/script.js", file("text/javascript", include_str!("page/script.js")))
        .route("/page/style.css", file("text/css", include_str!("page/style.css")))
        .route("/page/events", get(events).with_state(app.live.clone()))
        .route("/page/invite", invite)
}

const INDEX: &str = include_str!("page/index.html");

fn file(content_type: &'static str, text: &'static str) -> MethodRouter {
    get(([(header::CONTENT_TYPE, content_type)], text))
}

/// What happens, as it happens. A service of yours shows this to its operators alone.
async fn events(State(live): State<Live>, headers: HeaderMap) -> impl IntoResponse {
    // A browser that lost the stream says so by itself.
    let since = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    Sse::new(live.events(since)).keep_alive(KeepAlive::default())
}
