//! For the people who run the service: what a customer's key holds, and freeing it.
//!
//! ```text
//! POST /admin/keys/state    {"operation", "principal", "key"}
//! POST /admin/keys/forget   the same, and "evenIfRunning": true to take it from a run
//! ```
//!
//! Keys and principals come in the body, because URLs are logged. Without `ONBOARDING_ADMIN_TOKEN`
//! the routes are not there.

use std::time::Duration;

use axum::{
    Router,
    extract::{FromRequestParts, State},
    http::{header, request::Parts},
    routing::post,
};
use idempotent_axum::{Forgotten, Idempotency, OperationKey, OperationState, StoredKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use crate::{error::Error, json::Json};

#[derive(Clone)]
struct Admin {
    token: String,
    idempotency: Idempotency,
}

pub(crate) fn router(token: String, idempotency: Idempotency) -> Router {
    Router::new()
        .route("/admin/keys/state", post(state))
        .route("/admin/keys/forget", post(forget))
        .with_state(Admin { token, idempotency })
}

/// Somebody who knows the token.
struct Operator;

impl FromRequestParts<Admin> for Operator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Error> {
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let token = match authorization.and_then(|value| value.split_once(' ')) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(Error::Unauthorized),
        };
        // How long it takes says nothing but the token's length.
        if bool::from(token.as_bytes().ct_eq(admin.token.as_bytes())) {
            Ok(Self)
        } else {
            Err(Error::Unauthorized)
        }
    }
}

/// Which key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Named {
    /// As a log calls it, such as `POST /v1/members`.
    operation: String,
    /// `null`, or left out: the operation has none.
    principal: Option<String>,
    key: String,
    /// Whether the key is meant character for character: an upper-case UUID is one of its own where
    /// the API takes any key.
    #[serde(default)]
    exact: bool,
    #[serde(default)]
    even_if_running: bool,
}

impl Named {
    fn find(self, idempotency: &Idempotency) -> OperationKey {
        let operation = idempotency.operation(self.operation).principal(self.principal);
        if self.exact { operation.key_exact(self.key) } else { operation.key(self.key) }
    }
}

/// What a key holds.
#[derive(Serialize)]
struct Report {
    /// What logs and the store call the key.
    digest: String,
    #[serde(flatten)]
    state: Value,
}

async fn state(
    _: Operator,
    State(admin): State<Admin>,
    Json(named): Json<Named>,
) -> Result<Json<Report>, Error> {
    let key = named.find(&admin.idempotency);
    let state = match key.state().await? {
        OperationState::Absent => json!({"state": "absent"}),
        OperationState::Running { lease_left } => {
            json!({"state": "running", "leaseLeftSeconds": seconds(lease_left)})
        }
        OperationState::Stored { kind, expires_at } => {
            let expires_at = humantime::format_rfc3339_seconds(expires_at).to_string();
            let (kind, status) = match kind {
                StoredKind::Response { status } => ("response", Some(status)),
                StoredKind::Value => ("value", None),
                StoredKind::NotStored => ("not_stored", None),
                StoredKind::Unknown => ("unknown", None),
                _ => ("unreadable", None),
            };
            json!({"state": "stored", "kind": kind, "status": status, "expiresAt": expires_at})
        }
        other => json!({"state": format!("{other:?}")}),
    };
    Ok(Json(Report { digest: key.digest().to_string(), state }))
}

async fn forget(
    _: Operator,
    State(admin): State<Admin>,
    Json(named): Json<Named>,
) -> Result<Json<Report>, Error> {
    let even_if_running = named.even_if_running;
    let key = named.find(&admin.idempotency);
    let forget = key.forget();
    let forgotten = if even_if_running { forget.even_if_running() } else { forget };
    let state = match forgotten.await? {
        Forgotten::Freed => json!({"state": "absent", "freed": true}),
        Forgotten::Absent => json!({"state": "absent", "freed": false}),
        Forgotten::StillRunning { lease_left } => {
            return Err(Error::StillRunning { lease_left_seconds: seconds(lease_left) });
        }
        other => json!({"state": format!("{other:?}")}),
    };
    Ok(Json(Report { digest: key.digest().to_string(), state }))
}

fn seconds(left: Option<Duration>) -> Option<u64> {
    left.map(|left| left.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
}
