//! Who listens, and what a listener may do.

use std::sync::Arc;

use idempotent_axum::{Idempotency, MemoryStore};
use idempotent_test_support::{Events, post};
use tracing::Level;

use super::{App, By, Heard, routes, service_with};

#[tokio::test]
async fn each_listener_is_told_and_one_that_panics_harms_nobody() {
    let (events, _guard) = Events::of_thread();
    let other = Heard::default();
    let service = service_with(By::Attribute, MemoryStore::new(), |it| {
        other.listens_to(it.on_event(|_| panic!("a bug")))
    });
    assert_eq!(service.tells("/answer/1", "201").await, [("stored", Some(201))]);
    assert_eq!(other.words(), [("stored", Some(201))]);
    let errors = events.at(Level::ERROR);
    assert_eq!(errors, ["a listener for idempotency events panicked"]);
}

#[tokio::test]
async fn a_listener_hears_its_own_service_alone() {
    let heard = Heard::default();
    let listened_to = heard.listens_to(Idempotency::new(MemoryStore::new()));
    for (idempotency, count) in [(Idempotency::new(MemoryStore::new()), 0), (listened_to, 1)] {
        let router = routes().layer(idempotency).with_state(App::default());
        post("/answer/1").body("200").send(&router).await;
        assert_eq!(heard.take().len(), count);
    }
}

#[tokio::test]
async fn a_name_is_shared_by_all_requests_of_an_operation() {
    // `drain` and stores get the same allocation each time.
    let names = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&names);
    let service = service_with(By::Attribute, MemoryStore::new(), |it| {
        it.on_event(move |event| {
            noted.lock().unwrap().push(event.operation().as_ptr() as usize);
        })
    });
    for _ in 0..3 {
        service.ask("/answer/1", "500").send(&service.router).await;
    }
    let names = names.lock().unwrap();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| *name == names[0]));
}
