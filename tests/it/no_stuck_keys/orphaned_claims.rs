//! Claims that nobody will complete: a call that failed or was cut off may have made one, and a
//! release may have failed.

use std::time::Duration;

use idempotent_test_support::Fault;

use crate::service::{Client, SHORT, Seen, service};

#[tokio::test(start_paused = true)]
async fn after_a_claim_call_that_failed_its_token_is_released() {
    for faults in [vec![Fault::FailsAfter; 2], vec![Fault::Fails, Fault::HangsAfter]] {
        let service = service(|settings| settings.store_timeout(SHORT));
        let client = service.client();
        service.probe.claim.next(faults);
        service.probe.release.next([Fault::Fails]);
        assert_eq!(client.send().await, Seen::problem(503, "store_unavailable"));
        service.idempotency.drain().await;
        let releases = service.probe.release.begun.get();
        assert_eq!(releases, 4, "until it works, and again where the claim came after it");
        assert_eq!(client.send().await, Seen::run(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_caller_goes_away_mid_call_is_released() {
    let service = service(|settings| settings.store_timeout(Duration::from_secs(3600)));
    let client = service.client();
    service.probe.claim.next([Fault::HangsAfter]);
    let cut = client.send_to_gate("");
    service.probe.claim.begun.reaches(1).await;
    cut.abort();
    assert!(cut.await.unwrap_err().is_cancelled());
    service.idempotency.drain().await;
    assert_eq!(client.send().await, Seen::run(0));
}

#[tokio::test]
async fn a_release_that_fails_or_hangs_is_tried_again_in_the_background() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let service = service(|settings| settings.store_timeout(SHORT));
        let client = Client { body: "fails", ..service.client() };
        service.probe.release.next([fault, fault]);
        assert_eq!(client.send().await.status, 500);
        service.idempotency.drain().await;
        assert_eq!(service.probe.release.begun.get(), 3);
        assert_eq!(client.send().await.status, 500);
        assert_eq!(service.app.runs.get(), 2);
    }
}
