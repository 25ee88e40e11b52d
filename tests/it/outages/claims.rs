//! Claim calls that fail, hang or lose their answer: one more try, then 503, or a run without
//! protection if `OnStoreError::Execute` says so.

use idempotent_axum::OnStoreError;
use idempotent_test_support::Fault;

use crate::service::{SHORT, Seen, service};

#[tokio::test]
async fn a_claim_that_fails_once_is_tried_again() {
    let service = service(|settings| settings);
    service.probe.claim.next([Fault::Fails]);
    assert_eq!(service.client().send().await, Seen::run(0));
    assert_eq!(service.probe.claim.begun.get(), 2);
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_is_tried_again_with_its_token() {
    let service = service(|settings| settings);
    let client = service.client();
    service.probe.claim.next([Fault::FailsAfter]);
    assert_eq!(client.send().await, Seen::run(0));
    assert_eq!(client.send().await, Seen::replay(0));
}

#[tokio::test]
async fn a_claim_that_fails_for_good_is_503_and_runs_nothing() {
    let service = service(|settings| settings);
    let client = service.client();
    service.probe.claim.next([Fault::Fails, Fault::Fails]);
    assert_eq!(client.send().await, Seen::problem(503, "store_unavailable"));
    assert_eq!(service.app.runs.get(), 0);
    assert_eq!(client.send().await, Seen::run(0), "the key is usable");
}

#[tokio::test]
async fn a_claim_that_hangs_is_503_after_store_timeout() {
    let service = service(|settings| settings.store_timeout(SHORT));
    let client = service.client();
    service.probe.claim.next([Fault::Hangs]);
    assert_eq!(client.send().await, Seen::problem(503, "store_unavailable"));
    assert_eq!(service.app.runs.get(), 0);
}

#[tokio::test]
async fn execute_runs_unprotected_where_the_first_claim_failed() {
    let service = service(|settings| settings.on_store_error(OnStoreError::Execute));
    let client = service.client();
    service.probe.claim.always(Fault::Fails);
    assert_eq!(client.send().await, Seen::run(0));
    assert_eq!(client.send().await, Seen::run(1));
    assert_eq!(service.probe.complete.begun.get(), 0);
}

#[tokio::test]
async fn execute_never_runs_a_duplicate_that_has_seen_a_running_claim() {
    let service = service(|settings| settings.on_store_error(OnStoreError::Execute));
    let client = service.client();
    let first = client.send_to_gate("a");
    service.app.gates[0].arrived.reaches(1).await;
    let duplicate = client.send_to_gate("");
    service.probe.wait.begun.reaches(1).await;
    service.probe.claim.always(Fault::Fails);
    service.app.gates[0].open(1);
    assert_eq!(first.await.unwrap(), Seen::run(0));
    assert_eq!(duplicate.await.unwrap(), Seen::problem(503, "store_unavailable"));
    assert_eq!(service.app.runs.get(), 1);
}
