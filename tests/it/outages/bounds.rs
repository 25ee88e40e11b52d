//! What an outage leaves behind is bounded: tasks in the background, lines in the log, and the time
//! that `drain` takes.

use std::time::Duration;

use idempotent_test_support::{Events, Fault, Leased, alone};
use tokio::time::{Instant, advance};
use tracing::Level;

use crate::service::{Seen, Service, service_on};

const LEASE: Duration = Duration::from_secs(30);
/// The resolution of the clock.
const TICK: Duration = Duration::from_millis(10);

fn leased() -> Service<Leased> {
    service_on(Leased::default(), |settings| settings.lease(LEASE))
}

fn unavailable() -> Seen {
    Seen::problem(503, "store_unavailable")
}

async fn send_in_vain(service: &Service<Leased>, requests: usize) {
    for _ in 0..requests {
        assert_eq!(service.client().send().await, unavailable());
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// In its own process: the cap is per process.
#[test]
fn claims_that_were_given_up_on_leave_no_more_than_768_tasks() {
    alone(async || {
        tokio::time::pause();
        let (events, _guard) = Events::of_thread();
        let service = leased();
        service.probe.claim.always(Fault::Fails);
        service.probe.release.always(Fault::Fails);
        send_in_vain(&service, 2000).await;
        assert!((700..=768).contains(&tasks()), "{} tasks", tasks());
        let warnings = events.at(Level::WARN);
        let warnings = warnings.iter().filter(|line| line.contains("too much background work"));
        assert!((1..=12).contains(&warnings.count()), "few lines for 1232 claims");

        // One deadline for all rounds of all of them.
        let begun = Instant::now();
        service.idempotency.drain().await;
        assert!(begun.elapsed() <= LEASE + TICK, "{:?}", begun.elapsed());
        assert_eq!(tasks(), 0);
    });
}

/// Nothing has to be released, since nothing can have been claimed.
#[tokio::test(start_paused = true)]
async fn calls_that_were_not_sent_leave_nothing_behind() {
    let service = leased();
    service.probe.claim.always(Fault::NotSent);
    send_in_vain(&service, 100).await;
    assert_eq!((tasks(), service.probe.release.begun.get()), (0, 0));
    // But if the first of the two calls may have arrived, its claim is released.
    service.probe.claim.next([Fault::FailsAfter, Fault::NotSent]);
    send_in_vain(&service, 1).await;
    service.idempotency.drain().await;
    assert!(service.probe.release.begun.get() > 0);
}

#[tokio::test(start_paused = true)]
async fn drain_ends_within_one_lease_and_drain_for_says_what_is_left() {
    let service = leased();
    service.probe.complete.always(Fault::Hangs);
    assert_eq!(service.client().send().await, Seen::run(0));
    let running = service.client().send_to_gate("a");
    service.app.gates[0].arrived.reaches(1).await;

    let left = service.idempotency.drain_for(Duration::from_secs(1)).await;
    assert_eq!((left.runs, left.background), (1, 1));
    service.app.gates[0].open(1);
    assert_eq!(running.await.expect("no panic"), Seen::run(1));
    let begun = Instant::now();
    service.idempotency.drain().await;
    assert!(begun.elapsed() <= LEASE + TICK, "{:?}", begun.elapsed());
    let left = service.idempotency.drain_for(Duration::ZERO).await;
    assert_eq!((left.runs, left.background), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_an_outage_once_at_its_begin_and_once_at_its_end() {
    let (events, _guard) = Events::of_thread();
    let service = leased();
    let stored = service.client();
    assert_eq!(stored.send().await, Seen::run(0));
    for verb in [&service.probe.claim, &service.probe.release] {
        verb.always(Fault::Fails);
    }
    send_in_vain(&service, 50).await;
    assert_eq!(events.at(Level::ERROR), ["idempotency store unavailable"]);
    for verb in [&service.probe.claim, &service.probe.release] {
        verb.always(Fault::Works);
    }
    // A store that fails now and then is not back.
    assert_eq!(service.client().send().await, Seen::run(1));
    assert!(events.at(Level::INFO).is_empty());
    advance(Duration::from_secs(2)).await;
    for run in 2..5 {
        assert_eq!(service.client().send().await, Seen::run(run));
    }
    assert_eq!(events.at(Level::INFO), ["idempotency store available again"]);
    assert_eq!(events.at(Level::ERROR).len(), 1);
}
