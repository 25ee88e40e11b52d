//! The futures of a request with a key stay within the sizes that glibc caches per thread: beyond,
//! every request pays for the common heap.

use std::{mem::size_of_val, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{FromRequest as _, FromRequestParts, Path, Request, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use idempotent_axum::{
    __private::{Known, Policy},
    Idempotent, idempotent,
};
use idempotent_test_support::fresh_key;
use serde::Deserialize;

/// The largest allocation of glibc's thread cache (`tcache`), in bytes.
const CACHED: usize = 1032;
/// What Axum adds to a handler's future: what it was extracted from, and its parts.
const AXUM: usize = 400;

#[derive(Clone, Default)]
struct App {
    _pool: Arc<()>,
    _config: Arc<()>,
}

struct User {
    id: u64,
    name: String,
}

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = StatusCode;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        Ok(Self { id: 7, name: "ann".to_owned() })
    }
}

#[derive(Deserialize)]
struct Invite {
    email: String,
    role: String,
}

#[idempotent(ttl = "1d", principal = user.id)]
async fn invite(
    State(app): State<App>,
    Path((tenant, team)): Path<(u64, String)>,
    user: User,
    headers: HeaderMap,
    Json(invite): Json<Invite>,
) -> Result<(StatusCode, String), StatusCode> {
    tokio::task::yield_now().await;
    drop((app, headers));
    Ok((
        StatusCode::CREATED,
        format!("{tenant} {team} {} {} {}", user.name, invite.email, invite.role),
    ))
}

#[idempotent]
async fn echo(body: String) -> String {
    body
}

fn request() -> Request {
    let request = Request::post("/").header("content-type", "application/json");
    request
        .header("idempotency-key", fresh_key())
        .body(Body::from(r#"{"email": "a@example.com", "role": "admin"}"#))
        .expect("a valid request")
}

/// What Axum gives a handler as its last parameter.
async fn last<E, M>() -> Idempotent<E>
where
    Idempotent<E>: axum::extract::FromRequest<App, M, Rejection = std::convert::Infallible>,
{
    Idempotent::from_request(request(), &App::default())
        .await
        .unwrap_or_else(|never| match never {})
}

#[tokio::test]
async fn the_future_of_a_handler_is_small() {
    let user = User { id: 7, name: "ann".to_owned() };
    let path = Path((1, "core".to_owned()));
    let app = State(App::default());
    let future = invite(app, path, user, HeaderMap::new(), last().await);
    let size = size_of_val(&future);
    assert!(size + AXUM <= CACHED, "{size}");
    assert_eq!(future.await.status(), StatusCode::CREATED);

    let future = echo(last().await);
    let size = size_of_val(&future);
    assert!(size + AXUM <= CACHED, "{size}");
    assert_eq!(future.await.status(), StatusCode::OK);
}

/// What the attribute's expansion calls, with as much in its closures as a handler has.
#[tokio::test]
async fn the_future_of_a_guarded_request_is_small() {
    static POLICY: Policy = Policy::DEFAULT;
    fn respond(value: (StatusCode, String)) -> Response {
        value.into_response()
    }
    let app = App::default();
    let user = User { id: 7, name: "ann".to_owned() };
    let (tenant, team, headers) = (1_u64, "core".to_owned(), HeaderMap::new());
    let guarded = last::<Json<Invite>, _>().await.run(&POLICY, Known::Json, respond, move |_| {
        move |Json(invite): Json<Invite>, _| async move {
            tokio::task::yield_now().await;
            let _ = (app, headers, tenant, user.id, user.name);
            (StatusCode::CREATED, team + &invite.email + &invite.role)
        }
    });
    let size = size_of_val(&*guarded);
    assert!(size <= CACHED, "{size}");
    assert_eq!(guarded.await.status(), StatusCode::CREATED);
}
