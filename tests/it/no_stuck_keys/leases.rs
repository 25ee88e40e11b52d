//! Leases: renewed while the handler runs, so that a dead instance's key is free after one lease.

use std::time::Duration;

use idempotent_test_support::{Fault, Leased};

use crate::service::{SHORT, Seen, service, service_on};

/// The clock is virtual: seconds pass while everything sleeps.
#[tokio::test(start_paused = true)]
async fn a_running_claim_is_renewed_at_a_third_of_its_lease_until_it_ends() {
    let service = service_on(Leased::default(), |settings| settings.lease(Duration::from_secs(30)));
    let client = service.client();
    client.request("/slow", "").send(&service.router).await;
    assert_eq!(service.probe.renew.begun.get(), 3, "after 10, 20 and 30 of 35 seconds");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(service.probe.renew.begun.get(), 3, "a stored response needs no renewal");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_repeated_well_within_the_lease() {
    let service = service_on(Leased::default(), |settings| settings);
    let client = service.client();
    service.probe.renew.next([Fault::Fails, Fault::Fails]);
    client.request("/slow", "").send(&service.router).await;
    assert_eq!(service.probe.renew.begun.get(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_shortest_lease_is_not_renewed_without_a_pause() {
    let service = service_on(Leased::default(), |settings| settings.lease(Duration::from_nanos(1)));
    let client = service.client();
    client.request("/slow", "").send(&service.router).await;
    assert!(service.probe.renew.begun.get() <= 35_000, "at most one a millisecond");
}

#[tokio::test]
async fn a_claim_of_a_store_in_memory_needs_no_renewal() {
    let service = service(|settings| settings.lease(Duration::from_millis(3)));
    let client = service.client();
    let first = client.send_to_gate("a");
    service.app.gates[0].arrived.reaches(1).await;
    tokio::time::sleep(SHORT).await;
    service.app.gates[0].open(1);
    assert_eq!(first.await.unwrap(), Seen::run(0));
    assert_eq!(service.probe.renew.begun.get(), 0);
}
