//! A record opens where it was sealed for, with a key that the service has. Any other is refused,
//! and never treated as a miss, which would be a second run.

use std::{cell::RefCell, sync::Arc};

use idempotent_axum::{
    Idempotency, OnStoreError, OperationState, RunError, Sealing, StoredKind, idempotent,
};
use idempotent_test_support::{Events, Leased, post};
use tracing::Level;

use super::{OLD, new, old};
use crate::service::{Client, Seen, Service, service_on};

/// An instance on this store, which runs handlers even without it.
fn instance(store: &Leased, sealing: Option<Sealing>) -> Service<Leased> {
    service_on(store.clone(), |settings| {
        let settings = settings.on_store_error(OnStoreError::Execute);
        match sealing {
            Some(sealing) => settings.seal(sealing),
            None => settings,
        }
    })
}

/// The same client, at another instance.
fn at(instance: &Service<Leased>, client: &Client) -> Client {
    Client { router: instance.router.clone(), key: client.key.clone(), body: client.body }
}

fn unavailable() -> Seen {
    Seen::problem(503, "store_unavailable")
}

fn unknown() -> Seen {
    Seen::problem(409, "outcome_unknown")
}

#[tokio::test]
async fn what_one_instance_seals_another_with_its_key_replays() {
    let store = Leased::default();
    let sealing = instance(&store, Some(old()));
    let client = sealing.client();
    assert_eq!(client.send().await, Seen::run(0));
    for sealing in [old(), new().and_open("2026-10", *OLD)] {
        let opening = instance(&store, Some(sealing));
        assert_eq!(at(&opening, &client).send().await, Seen::replay(0));
        assert_eq!(opening.app.runs.get(), 0);
        assert_eq!(
            at(&opening, &Client { body: "other", ..at(&opening, &client) }).send().await,
            Seen::problem(422, "key_reused")
        );
    }
}

#[tokio::test]
async fn a_key_that_an_instance_does_not_have_is_503_and_an_error_once_in_a_while() {
    let (events, _guard) = Events::of_thread();
    let store = Leased::default();
    let sealing = instance(&store, Some(old()));
    let client = sealing.client();
    assert_eq!(client.send().await, Seen::run(0));
    // The second is the service before it sealed, which may still be running alongside.
    for other in [Some(new()), None] {
        let before = events.at(Level::ERROR).len();
        let other = instance(&store, other);
        for _ in 0..10 {
            assert_eq!(at(&other, &client).send().await, unavailable());
        }
        let with_other = Client { body: "other", ..at(&other, &client) };
        assert_eq!(with_other.send().await, unavailable(), "its fingerprint cannot be checked");
        assert_eq!(other.app.runs.get(), 0);
        let errors = events.at(Level::ERROR).split_off(before);
        let [error] = &errors[..] else { panic!("one line for all: {errors:?}") };
        assert!(error.contains("with a key that this service does not have"), "{error}");
    }
    let told = events.all().into_iter().filter(|event| event.level == Level::ERROR);
    assert!(told.flat_map(|event| event.fields).any(|field| field == "key_id=2026-10"));
    assert_eq!(client.send().await, Seen::replay(0));
}

#[tokio::test]
async fn a_record_that_is_not_sealed_is_503_unless_it_is_let() {
    let (events, _guard) = Events::of_thread();
    let store = Leased::default();
    let plain = instance(&store, None);
    let client = plain.client();
    assert_eq!(client.send().await, Seen::run(0));

    let lets = instance(&store, Some(new().and_open_unsealed()));
    assert_eq!(at(&lets, &client).send().await, Seen::replay(0));
    assert_eq!(events.at(Level::ERROR), [""; 0]);

    let strict = instance(&store, Some(new()));
    for _ in 0..3 {
        assert_eq!(at(&strict, &client).send().await, unavailable());
    }
    assert_eq!((lets.app.runs.get(), strict.app.runs.get()), (0, 0));
    let errors = events.at(Level::ERROR);
    let [error] = &errors[..] else { panic!("one line for all: {errors:?}") };
    assert!(error.contains("and_open_unsealed"), "{error}");
}

#[tokio::test]
async fn records_that_were_exchanged_do_not_open() {
    let (events, _guard) = Events::of_thread();
    let store = Leased::default();
    let service = instance(&store, Some(old()));
    let clients = [service.client(), service.client()];
    for (run, client) in clients.iter().enumerate() {
        assert_eq!(client.send().await, Seen::run(run));
    }
    let records = RefCell::new(Vec::new());
    let exchange = || {
        store.rewrite(|record| records.borrow_mut().push(record.clone()));
        store.rewrite(|record| *record = records.borrow_mut().pop().unwrap());
    };
    exchange();
    for client in &clients {
        assert_eq!(client.send().await, unknown());
    }
    assert_eq!(service.app.runs.get(), 2);
    let errors = events.at(Level::ERROR);
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().all(|error| error.contains("does not open")), "{errors:?}");
    exchange();
    for (run, client) in clients.iter().enumerate() {
        assert_eq!(client.send().await, Seen::replay(run), "each where it was");
    }

    // Without sealing nobody notices.
    let store = Leased::default();
    let plain = instance(&store, None);
    let clients = [plain.client(), plain.client()];
    for client in &clients {
        client.send().await;
    }
    store.rewrite(|record| records.borrow_mut().push(record.clone()));
    store.rewrite(|record| *record = records.borrow_mut().pop().unwrap());
    assert_eq!(clients[0].send().await, Seen::replay(1));
}

/// By somebody who can compute a checksum: the kind, which holds nothing secret, and the last byte.
#[tokio::test]
async fn a_record_that_was_changed_does_not_open() {
    for at in [3, usize::MAX] {
        let store = Leased::default();
        let service = instance(&store, Some(old()));
        let client = service.client();
        assert_eq!(client.send().await, Seen::run(0));
        let change = |record: &mut Vec<u8>| {
            let at = at.min(record.len() - 1);
            record[at] ^= 1;
        };
        store.rewrite(change);
        assert_eq!(client.send().await, unknown(), "damaged");
        store.rewrite(|record| {
            let checksum = crc32fast::hash(&[&record[..5], &record[9..]].concat());
            record[5..9].copy_from_slice(&checksum.to_le_bytes());
        });
        assert_eq!(client.send().await, unknown(), "forged");
        assert_eq!(service.app.runs.get(), 1);
    }
}

#[tokio::test]
async fn notes_are_sealed_as_well() {
    #[idempotent(scope = "unknown")]
    async fn unknown() -> (idempotent_axum::Outcome, &'static str) {
        (idempotent_axum::Outcome::Unknown, "who knows")
    }
    #[idempotent(scope = "large")]
    async fn large() -> String {
        "x".repeat(2000)
    }
    for (path, code) in [("/unknown", "outcome_unknown"), ("/large", "response_not_stored")] {
        let store = Leased::default();
        let router = |sealing| {
            axum::Router::new()
                .route("/unknown", axum::routing::post(unknown))
                .route("/large", axum::routing::post(large))
                .layer(Idempotency::new(store.clone()).max_response_bytes(1000).seal(sealing))
        };
        let key = idempotent_test_support::fresh_key();
        let send = async |sealing| post(path).key(&key).send(&router(sealing)).await;
        assert_eq!(send(old()).await.status, 200);
        assert_eq!(send(old()).await.problem(), (409, code.to_owned()));
        assert_eq!(send(new()).await.problem(), (503, "store_unavailable".to_owned()));
    }
}

#[tokio::test]
async fn values_of_jobs_are_sealed_and_states_are_told_by_who_has_the_key() {
    let store = Leased::default();
    let key = |sealing| {
        let idempotency = Idempotency::new(store.clone()).seal(sealing);
        idempotency.operation("charge").principal("ann").key("message-1")
    };
    let run = async |sealing, value: &'static str| {
        key(sealing).run(async move |_| Ok::<_, ()>(value.to_owned())).await
    };
    assert!(!run(old(), "first").await.unwrap().replayed);
    let done = run(old(), "second").await.unwrap();
    assert_eq!((done.value.as_str(), done.replayed), ("first", true));
    assert!(matches!(run(new(), "third").await, Err(RunError::StoreUnavailable)));

    let kind = async |sealing| match key(sealing).state().await.unwrap() {
        OperationState::Stored { kind, .. } => kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(old()).await, StoredKind::Value);
    assert_eq!(kind(new()).await, StoredKind::Unreadable);
    assert_eq!(kind(new().and_open("2026-10", *OLD)).await, StoredKind::Value);
}

/// It is in the process that has the keys anyway.
#[tokio::test]
async fn memory_is_not_sealed() {
    let store = Arc::new(idempotent_axum::MemoryStore::new());
    let router = |settings: Idempotency| {
        let app = crate::service::App::default();
        crate::service::routes().layer(settings).with_state(app)
    };
    let key = idempotent_test_support::fresh_key();
    let sealing = router(Idempotency::new(store.clone()).seal(old()));
    assert_eq!(Seen::from(post("/pay").key(&key).send(&sealing).await), Seen::run(0));
    let plain = router(Idempotency::new(store));
    assert_eq!(Seen::from(post("/pay").key(&key).send(&plain).await), Seen::replay(0));
}
