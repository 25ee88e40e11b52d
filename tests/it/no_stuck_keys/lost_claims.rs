//! An instance that hung for longer than its lease and lost its claim: it overwrites nothing, and
//! its caller gets what the store now holds.

use idempotent_test_support::{Fault, Leased};

use crate::service::{Client, Seen, Service, service_on};

/// A request at gate `a` whose claim has lapsed.
async fn with_a_lost_claim() -> (Service<Leased>, Client, tokio::task::JoinHandle<Seen>) {
    let service = service_on(Leased::default(), |settings| settings);
    let client = service.client();
    let loser = client.send_to_gate("a");
    service.app.gates[0].arrived.reaches(1).await;
    service.probe.store.lapse();
    (service, client, loser)
}

#[tokio::test]
async fn a_lost_claim_replays_what_another_has_stored() {
    let (service, client, loser) = with_a_lost_claim().await;
    assert_eq!(client.send().await, Seen::run(1));
    service.app.gates[0].open(1);
    assert_eq!(loser.await.unwrap(), Seen::replay(1));
    assert_eq!(client.send().await, Seen::replay(1));
}

#[tokio::test]
async fn a_lost_claim_waits_for_the_one_that_runs() {
    let (service, client, loser) = with_a_lost_claim().await;
    let winner = client.send_to_gate("b");
    service.app.gates[1].arrived.reaches(1).await;
    service.app.gates[0].open(1);
    service.probe.wait.begun.reaches(1).await;
    service.app.gates[1].open(1);
    assert_eq!(winner.await.unwrap(), Seen::run(1));
    assert_eq!(loser.await.unwrap(), Seen::replay(1));
}

#[tokio::test]
async fn a_lost_claim_on_a_free_key_stores_its_own_response() {
    let (service, client, loser) = with_a_lost_claim().await;
    service.app.gates[0].open(1);
    assert_eq!(loser.await.unwrap(), Seen::run(0));
    assert_eq!(client.send().await, Seen::replay(0));
    assert_eq!(service.app.runs.get(), 1);
}

#[tokio::test]
async fn a_lost_claim_stores_its_own_response_where_the_one_that_ran_failed() {
    let (service, client, loser) = with_a_lost_claim().await;
    let other = client.send_to_gate("b");
    service.app.gates[1].arrived.reaches(1).await;
    service.app.gates[0].open(1);
    service.probe.wait.begun.reaches(1).await;
    // The second run ends without a response, as if its instance had died.
    other.abort();
    service.probe.store.lapse();
    assert_eq!(loser.await.unwrap(), Seen::run(0));
    assert_eq!(client.send().await, Seen::replay(0));
    assert_eq!(service.app.runs.get(), 2);
}

#[tokio::test]
async fn a_lost_claim_with_the_store_out_of_reach_gives_its_own_response() {
    let (service, _, loser) = with_a_lost_claim().await;
    service.probe.claim.always(Fault::Fails);
    service.app.gates[0].open(1);
    assert_eq!(loser.await.unwrap(), Seen::run(0));
}

#[tokio::test]
async fn a_claim_that_lapses_while_its_response_cannot_be_stored_is_made_again() {
    let service = service_on(Leased::default(), |settings| settings);
    let client = service.client();
    service.probe.complete.always(Fault::Fails);
    assert_eq!(client.send().await, Seen::run(0));
    service.probe.store.lapse();
    service.probe.complete.always(Fault::Works);
    service.idempotency.drain().await;
    assert_eq!(client.send().await, Seen::replay(0));
    assert_eq!(service.app.runs.get(), 1);
}
