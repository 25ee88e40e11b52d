//! A type parameter whose future may be tied to a thread.
use axum::extract::State;
use idempotent_axum::idempotent;

trait Service: Send + Sync + 'static {
    fn call(&self) -> impl Future<Output = ()>;
}

#[idempotent]
async fn handler<S: Service>(State(service): State<S>) {
    service.call().await;
}

fn main() {}
