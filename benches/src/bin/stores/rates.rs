//! Requests a second, from one client and from many.

use std::time::{Duration, Instant};

use axum::Router;
use benches::{
    request::{drive, key, order, request},
    table,
};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Of each figure.
const TIME: Duration = Duration::from_secs(3);
const MANY: usize = 64;
/// Of the keys that are replayed.
const STORED: usize = 1000;

pub(crate) fn head() {
    table::head(
        &format!("Requests a second, from one client and from {MANY}"),
        &["store", "first, 1", &format!("first, {MANY}"), "replay, 1", &format!("replay, {MANY}")],
    );
}

/// Prints the row of a store.
pub(crate) async fn print(name: &str, router: Router) {
    let stored: Vec<Uuid> = (0..STORED).map(|_| key()).collect();
    for &key in &stored {
        drive(&mut router.clone(), [request(Some(key), order(100))]).await;
    }
    let any = move || stored[fastrand::usize(..STORED)];
    let figures = [
        rate(&router, 1, key).await,
        rate(&router, MANY, key).await,
        rate(&router, 1, any.clone()).await,
        rate(&router, MANY, any).await,
    ];
    let figures = figures.map(|rate| format!("{rate:.0}"));
    table::row(std::iter::once(name.to_owned()).chain(figures));
}

/// How many requests a second so many clients send, each one after the other.
async fn rate(
    router: &Router,
    clients: usize,
    key: impl Fn() -> Uuid + Clone + Send + 'static,
) -> f64 {
    let since = Instant::now();
    let mut sending = JoinSet::new();
    for _ in 0..clients {
        let (mut router, key) = (router.clone(), key.clone());
        sending.spawn(async move {
            let mut sent = 0_u32;
            while since.elapsed() < TIME {
                drive(&mut router, [request(Some(key()), order(100))]).await;
                sent += 1;
            }
            sent
        });
    }
    let sent: u32 = sending.join_all().await.into_iter().sum();
    f64::from(sent) / since.elapsed().as_secs_f64()
}
