//! Third-party layers, inside and outside of a `RunBoundary`: each with a key and without, with a
//! caller that leaves, and with a retry. What they show is the table of the guide page "What
//! belongs to a run".

#[cfg(test)]
mod logins;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod transactions;

/// `layer` on one side of the boundary around `routes`.
#[cfg(test)]
macro_rules! put {
    ($layer:expr, $place:expr, $routes:expr) => {
        match $place {
            crate::Place::Inside => {
                $routes.layer($layer).layer(idempotent_axum::RunBoundary::new())
            }
            crate::Place::Outside => {
                $routes.layer(idempotent_axum::RunBoundary::new()).layer($layer)
            }
        }
    };
}

#[cfg(test)]
use put;

/// On which side of the boundary a layer is.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Inside,
    Outside,
}

/// A caller that leaves while the handler is at `gate`, which then continues.
#[cfg(test)]
async fn leave(
    ask: idempotent_test_support::Ask,
    app: &axum::Router,
    gate: &idempotent_test_support::Gate,
    idempotency: &idempotent_axum::Idempotency,
) {
    let arrived = gate.arrived.get();
    let caller = ask.spawn(app);
    gate.arrived.reaches(arrived + 1).await;
    caller.abort();
    assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    // Without a key the handler has ended with its caller, and takes no pass.
    gate.open(1);
    idempotency.drain().await;
    gate.close();
}
