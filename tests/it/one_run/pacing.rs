//! A store may say too early that a run may have ended: a waiting duplicate asks at its own pace,
//! and still takes over promptly.
//!
//! The clock is virtual: it advances while everything sleeps.

use std::time::Duration;

use idempotent_test_support::{Fault, Leased};
use tokio::time::{Instant, sleep};

use crate::service::{Client, Seen, service_on};

/// Between two looks of a duplicate that has waited for a while.
const PACE: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn a_store_whose_wait_returns_at_once_is_asked_twenty_times_a_second_at_most() {
    const SECONDS: usize = 30;
    const DUPLICATES: usize = 3;
    let service = service_on(Leased::default(), |settings| settings);
    service.probe.wait.always(Fault::Fails);
    let client = service.client();
    let first = client.send_to_gate("a");
    service.app.gates[0].arrived.reaches(1).await;
    let duplicates = [(); DUPLICATES].map(|()| client.send_to_gate("b"));
    service.probe.wait.begun.reaches(DUPLICATES).await;
    sleep(Duration::from_secs(1)).await;
    let in_a_second = service.probe.claim.begun.get();
    assert!(in_a_second <= 20 * DUPLICATES, "{in_a_second} claims in the first second");
    sleep(Duration::from_secs(SECONDS as u64)).await;
    let later = service.probe.claim.begun.get() - in_a_second;
    assert!(later <= 20 * DUPLICATES * SECONDS, "{later} claims in {SECONDS} s");
    assert!(later >= DUPLICATES * SECONDS, "it goes on asking");

    let ended = Instant::now();
    service.app.gates[0].open(1);
    assert_eq!(first.await.unwrap(), Seen::run(0));
    for duplicate in duplicates {
        assert_eq!(duplicate.await.unwrap(), Seen::replay(0));
    }
    assert!(ended.elapsed() <= PACE, "{:?}", ended.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_takeover_is_prompt_although_the_store_says_nothing() {
    // Wherever in its pace the duplicate is.
    for offset in 0..20 {
        let service = service_on(Leased::default(), |settings| settings);
        service.probe.wait.always(Fault::Fails);
        let client = Client { body: "fails", ..service.client() };
        let first = client.send_to_gate("a");
        service.app.gates[0].arrived.reaches(1).await;
        let duplicate = client.send_to_gate("b");
        service.probe.wait.begun.reaches(1).await;
        // For long enough that it has slowed down.
        sleep(Duration::from_secs(30) + offset * PACE / 4).await;
        let ended = Instant::now();
        service.app.gates[0].open(1);
        assert_eq!(first.await.unwrap().status, 500);
        service.app.gates[1].arrived.reaches(1).await;
        assert!(ended.elapsed() <= PACE, "{:?}", ended.elapsed());
        service.app.gates[1].open(1);
        assert_eq!(duplicate.await.unwrap().status, 500);
        assert_eq!(service.app.runs.get(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_returns_a_little_later_is_asked_no_more_often() {
    for early in [1, 2, 5] {
        let claims = claims_in_ten_seconds(Duration::from_millis(early)).await;
        assert!(claims <= 10 * 20 + 1, "{claims} claims in 10 s, after waits of {early} ms");
    }
}

async fn claims_in_ten_seconds(early: Duration) -> usize {
    let service = service_on(Leased::waking_after(early), |settings| settings);
    let client = service.client();
    let first = client.send_to_gate("a");
    service.app.gates[0].arrived.reaches(1).await;
    let duplicate = client.send_to_gate("b");
    sleep(Duration::from_secs(10)).await;
    let claims = service.probe.claim.begun.get();
    service.app.gates[0].open(1);
    assert_eq!(first.await.unwrap(), Seen::run(0));
    assert_eq!(duplicate.await.unwrap(), Seen::replay(0));
    claims
}
