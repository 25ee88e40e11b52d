//! A stored response that cannot be read is never a miss, which would be a second run.

use idempotent_test_support::{Events, Leased};
use tracing::Level;

use crate::service::{Seen, service_on};

#[tokio::test]
async fn a_record_of_an_unknown_version_is_503_and_runs_nothing() {
    let service = service_on(Leased::default(), |settings| settings);
    let client = service.client();
    client.send().await;
    service.probe.store.rewrite(|record| record[2] += 1);
    assert_eq!(client.send().await, Seen::problem(503, "store_unavailable"));
    assert_eq!(service.app.runs.get(), 1);
}

#[tokio::test]
async fn a_corrupt_record_is_409_and_an_error_in_the_log() {
    let (events, _guard) = Events::of_thread();
    let service = service_on(Leased::default(), |settings| settings);
    let client = service.client();
    client.send().await;
    service.probe.store.rewrite(|record| *record.last_mut().unwrap() ^= 1);
    assert_eq!(client.send().await, Seen::problem(409, "outcome_unknown"));
    assert_eq!(service.app.runs.get(), 1);
    assert_eq!(events.at(Level::ERROR), ["a stored response is corrupt"]);
}
