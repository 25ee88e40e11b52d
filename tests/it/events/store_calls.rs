//! Each call to a shared store is reported with its result and its duration.

use std::time::Duration;

use idempotent_axum::{MemoryStore, StoreResult, StoreVerb};
use idempotent_test_support::{Fault, Leased, Probe};

use super::{By, Heard, service, service_with};

fn calls(heard: &Heard) -> Vec<(StoreVerb, StoreResult)> {
    heard.calls().into_iter().map(|call| (call.verb, call.result)).collect()
}

#[tokio::test]
async fn the_calls_of_a_request_are_told_and_memory_is_not_called() {
    let service = service(By::Attribute, Leased::default());
    service.tells("/answer/1", "201").await;
    let (claim, complete) = (StoreVerb::Claim, StoreVerb::Complete);
    let expected = [(claim, StoreResult::Ok), (complete, StoreResult::Ok)];
    assert_eq!(calls(&service.heard), expected);

    let service = super::service(By::Attribute, MemoryStore::new());
    service.tells("/answer/1", "201").await;
    assert_eq!(calls(&service.heard), []);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_or_never_answers_is_told_as_such() {
    let probe = Probe::on(Leased::default());
    let limit = Duration::from_secs(3);
    let service = service_with(By::Attribute, probe.clone(), |it| it.store_timeout(limit));
    probe.claim.next([Fault::Fails]);
    probe.release.next([Fault::Hangs]);
    service.tells("/answer/1", "500").await;
    service.idempotency.drain().await;
    let expected = [
        (StoreVerb::Claim, StoreResult::Error),
        (StoreVerb::Claim, StoreResult::Ok),
        (StoreVerb::Release, StoreResult::Unanswered),
        (StoreVerb::Release, StoreResult::Ok),
    ];
    assert_eq!(calls(&service.heard), expected);
    assert_eq!(service.heard.calls()[2].time, limit);
}

#[tokio::test(start_paused = true)]
async fn renewals_are_told() {
    let probe = Probe::on(Leased::default());
    let service = service(By::Attribute, probe.clone());
    let first = service.ask("/held", "").spawn(&service.router);
    probe.renew.ended.reaches(1).await;
    service.app.gate.open(1);
    first.await.unwrap();
    assert!(calls(&service.heard).contains(&(StoreVerb::Renew, StoreResult::Ok)));
}
