//! What happens to a claim is reported once, in addition to what becomes of its request.

use std::time::Duration;

use idempotent_test_support::{Fault, Leased, Probe};

use super::{By, Service, service, service_with};

const BOTH: [By; 2] = [By::Attribute, By::Boundary];

fn leased(by: By) -> (Service, Probe<Leased>) {
    let probe = Probe::on(Leased::default());
    (service(by, probe.clone()), probe)
}

/// The clock is virtual: it advances while everything waits.
#[tokio::test(start_paused = true)]
async fn a_response_that_is_stored_late_or_never_is_told() {
    for by in BOTH {
        let (service, probe) = leased(by);
        probe.complete.next([Fault::Fails; 2]);
        assert_eq!(service.tells("/answer/1", "201").await[0], ("unstored", Some(201)));
        service.idempotency.drain().await;
        assert_eq!(service.heard.words(), [("stored_late", None)]);

        let (service, probe) = leased(by);
        probe.complete.always(Fault::Fails);
        assert_eq!(service.tells("/answer/1", "201").await, [("unstored", Some(201))]);
        service.idempotency.drain().await;
        assert_eq!(service.heard.words(), [("given_up", None)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_key_somebody_else_has_by_then_is_told_as_lost() {
    for by in BOTH {
        let (service, probe) = leased(by);
        probe.complete.always(Fault::Fails);
        assert_eq!(service.tells("/answer/1", "201").await, [("unstored", Some(201))]);
        probe.store.lapse();
        let held = probe.complete.hold();
        let other = service.ask("/answer/1", "201").spawn(&service.router);
        // The task of the first, and the other request.
        held.arrived.reaches(2).await;
        probe.complete.always(Fault::Works);
        held.open_for_good();
        assert_eq!(other.await.unwrap().status, 201);
        service.idempotency.drain().await;
        let mut words = service.heard.words();
        words.sort_unstable();
        assert_eq!(words, [("claim_lost", None), ("stored", Some(201))]);
    }
}

#[tokio::test]
async fn a_claim_that_is_found_lost_when_its_response_is_stored_is_told_once() {
    for by in BOTH {
        let (service, probe) = leased(by);
        let first = service.ask("/held", "").spawn(&service.router);
        service.app.gate.arrived.reaches(1).await;
        probe.store.lapse();
        service.app.gate.open(1);
        assert_eq!(first.await.unwrap().status, 201);
        assert_eq!(service.heard.words(), [("claim_lost", Some(201)), ("stored", Some(201))]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_its_renewal_finds_lost_is_told_once() {
    for by in BOTH {
        let (service, probe) = leased(by);
        let first = service.ask("/held", "").spawn(&service.router);
        service.app.gate.arrived.reaches(1).await;
        probe.store.lapse();
        probe.renew.ended.reaches(1).await;
        service.app.gate.open(1);
        assert_eq!(first.await.unwrap().status, 201);
        assert_eq!(service.heard.words(), [("claim_lost", None), ("stored", Some(201))]);
    }
}

#[tokio::test]
async fn a_caller_whose_claim_was_lost_is_told_as_the_duplicate_that_it_is() {
    for by in BOTH {
        let (service, probe) = leased(by);
        let loser = service.ask("/held", "").spawn(&service.router);
        service.app.gate.arrived.reaches(1).await;
        probe.store.lapse();
        let winner = service.ask("/held", "").spawn(&service.router);
        service.app.gate.arrived.reaches(2).await;
        service.app.gate.open(1);
        // The first has passed, found its claim lost, and waits for the second.
        probe.wait.begun.reaches(1).await;
        assert_eq!(service.heard.words(), [("claim_lost", Some(201))]);
        service.app.gate.open(1);
        assert_eq!(winner.await.unwrap().status, 201);
        assert!(loser.await.unwrap().is_replay());
        let told = service.heard.take();
        assert_eq!((told.len(), told[1].decision.as_str()), (2, "replayed"));
        assert_eq!(told[1].status, Some(201));
        assert!(told[1].has_run && told[1].has_waited && !told[0].has_waited);
    }
}

#[tokio::test]
async fn a_caller_whose_claim_was_lost_with_the_store_out_of_reach_is_told_as_not_stored() {
    for by in BOTH {
        let probe = Probe::on(Leased::default());
        let service =
            service_with(by, probe.clone(), |it| it.store_timeout(Duration::from_secs(3600)));
        let loser = service.ask("/held", "").spawn(&service.router);
        service.app.gate.arrived.reaches(1).await;
        probe.store.lapse();
        probe.claim.always(Fault::NotSent);
        service.app.gate.open(1);
        assert_eq!(loser.await.unwrap().status, 201);
        let words = [("claim_lost", Some(201)), ("unstored", Some(201)), ("given_up", None)];
        assert_eq!(service.heard.words(), words);
    }
}
