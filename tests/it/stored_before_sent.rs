//! Guarantee *The answer comes after the record*: a response is sent once it is stored. If storing
//! fails, the caller gets the real response, and storing continues in the background for at least
//! one lease.

use std::{pin::pin, time::Duration};

use idempotent_test_support::{Events, Fault, Server, fresh_key, is_pending};
use tokio::task::yield_now;
use tracing::Level;

use crate::service::{SHORT, Seen, service};

/// How often a response that must not come yet is looked for; everything else continues in between.
const LOOKS: usize = 100;

#[tokio::test]
async fn a_response_is_not_sent_before_the_store_has_it() {
    let service = service(|settings| settings.store_timeout(Duration::from_secs(3600)));
    let (client, complete) = (service.client(), service.probe.complete.hold());
    let mut first = pin!(client.request("/pay", "").begin(&client.router));
    tokio::select! {
        biased;
        _ = first.as_mut() => panic!("sent before the store was asked"),
        () = complete.arrived.reaches(1) => {}
    }
    let duplicate = client.send_to_gate("");
    service.probe.wait.begun.reaches(1).await;
    for _ in 0..LOOKS {
        assert!(is_pending(first.as_mut()).await, "sent while it is being stored");
        assert!(!duplicate.is_finished());
        yield_now().await;
    }
    complete.open(1);
    let response = first.await;
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("idempotent-replayed"));
    assert_eq!(duplicate.await.unwrap(), Seen::replay(0));
    assert_eq!(service.app.runs.get(), 1);
}

#[tokio::test]
async fn not_a_byte_is_on_the_wire_before_the_store_has_the_response() {
    let service = service(|settings| settings.store_timeout(Duration::from_secs(3600)));
    let complete = service.probe.complete.hold();
    let server = Server::start(service.router.clone()).await;
    let mut caller = server.open("/pay", &fresh_key(), "rent").await;
    complete.arrived.reaches(1).await;
    {
        let mut head = pin!(caller.read_until("HTTP/1.1"));
        for _ in 0..LOOKS {
            assert!(is_pending(head.as_mut()).await, "sent while it is being stored");
            yield_now().await;
        }
    }
    complete.open(1);
    assert_eq!(Seen::from(caller.reply().await.unwrap()), Seen::run(0));
}

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
