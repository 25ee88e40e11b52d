//! Type parameters, const parameters, where clauses, associated functions of generic types.
#![deny(
    warnings,
    clippy::pedantic,
    clippy::nursery,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    single_use_lifetimes
)]
use std::fmt::Display;

use axum::{Json, Router, extract::State, response::IntoResponse, routing::post};
use idempotent_axum::idempotent;

trait Service: Clone + Send + Sync + 'static {
    fn call(&self) -> impl Future<Output = u64> + Send;
}

#[derive(Clone)]
struct Real;

impl Service for Real {
    async fn call(&self) -> u64 {
        1
    }
}

#[idempotent(principal = MAX)]
async fn generic<S, const MAX: usize>(
    State(service): State<S>,
    Json(mut list): Json<Vec<u64>>,
) -> impl IntoResponse
where
    S: Service,
{
    list.truncate(MAX);
    list.push(service.call().await);
    Json(list)
}

struct Handlers<S>(std::marker::PhantomData<S>);

impl<S: Service> Handlers<S> {
    const NAME: &'static str = "name";

    #[idempotent(principal = Self::NAME, fingerprint = (Self::NAME, &name))]
    async fn associated<T>(
        State(service): State<S>,
        name: String,
    ) -> Result<impl IntoResponse, String>
    where
        T: Default + Display + Send + Sync + 'static,
    {
        if name.is_empty() {
            return Err(Self::NAME.to_owned());
        }
        Ok(format!("{name}{}{}", T::default(), service.call().await))
    }
}

fn main() {
    let _: Router = Router::new()
        .route("/a", post(generic::<Real, 3>))
        .route("/b", post(Handlers::<Real>::associated::<u64>))
        .with_state(Real);
}
