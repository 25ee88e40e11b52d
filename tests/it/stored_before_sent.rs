//! Guarantee *The answer comes after the record*: a response is sent once it is stored. Where storing
//! fails, the caller gets the real response, and storing goes on in the background for at least one
//! lease.

use std::time::Duration;

use idempotent_axum::Store;
use idempotent_test_support::{Events, Fault};
use tracing::Level;

use crate::service::{SHORT, Seen, service};

#[tokio::test]
async fn a_response_that_cannot_be_stored_at_once_is_sent_and_stored_in_the_background() {
    for fault in [Fault::Fails, Fault::FailsAfter, Fault::Hangs, Fault::HangsAfter] {
        let service = service(|settings| settings.store_timeout(SHORT));
        let client = service.client();
        service.probe.complete.next([fault; 3]);
        assert_eq!(client.send().await, Seen::run(0));
        service.idempotency.drain().await;
        assert_eq!(service.probe.complete.begun.get(), 4);
        assert_eq!(client.send().await, Seen::replay(0), "{fault:?}");
    }
}

#[tokio::test]
async fn duplicates_wait_while_a_response_is_being_stored_in_the_background() {
    let service = service(|settings| settings);
    let client = service.client();
    service.probe.complete.always(Fault::Fails);
    assert_eq!(client.send().await, Seen::run(0));
    let duplicate = client.send_to_gate("");
    service.probe.wait.begun.reaches(1).await;
    service.probe.complete.always(Fault::Works);
    assert_eq!(duplicate.await.unwrap(), Seen::replay(0));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_can_never_be_stored_frees_the_key_after_a_lease_and_is_logged() {
    let (events, _guard) = Events::of_thread();
    let service = service(|settings| settings);
    let client = service.client();
    service.probe.complete.always(Fault::Fails);
    let start = tokio::time::Instant::now();
    assert_eq!(client.send().await, Seen::run(0));
    service.idempotency.drain().await;
    assert!(start.elapsed() >= Duration::from_secs(30), "tried for at least one lease");
    let errors = events.at(Level::ERROR);
    assert!(errors.iter().any(|error| error.contains("could not be stored")), "{errors:?}");
    assert_eq!(client.send().await, Seen::run(1));
}
