//! What became of a request is reported once, by the attribute and by a boundary alike.

use axum::http::Method;
use idempotent_axum::{Decision, MemoryStore, OnStoreError, ProblemCode, Replayed, Store};
use idempotent_test_support::{Fault, Leased, Probe, ask, fresh_key, post};

use super::{App, By, Heard, Service, Told, service, service_with};

/// Tests each of these with the attribute alone and with a boundary, in memory and on a shared store.
macro_rules! by_each {
    ($($test:ident)*) => {
        mod by_the_attribute {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::By::Attribute, super::MemoryStore::new()).await;
                super::$test(super::By::Attribute, super::Leased::default()).await;
            })*
        }

        mod by_a_boundary {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::By::Boundary, super::MemoryStore::new()).await;
                super::$test(super::By::Boundary, super::Leased::default()).await;
            })*
        }
    };
}

by_each! {
    what_a_run_leaves_is_told
    a_waiting_duplicate_and_its_first_are_told
    a_panic_is_told_without_a_status
    a_run_whose_caller_leaves_is_told
}

async fn what_a_run_leaves_is_told(by: By, store: impl Store) {
    let mut service = service(by, store);
    for (body, word) in [
        ("201", ("stored", Some(201))),
        ("402 final", ("stored", Some(402))),
        ("500", ("released", Some(500))),
        ("200 unknown", ("unknown", Some(200))),
        ("200 large", ("not_storable", Some(200))),
        ("200 event-stream", ("released", Some(200))),
    ] {
        service.key = fresh_key();
        assert_eq!(service.tells("/answer/1", body).await, [word], "{body}");
        let retry = match word {
            ("stored", status) => ("replayed", status),
            ("unknown", _) => ("outcome_unknown", None),
            ("not_storable", _) => ("response_not_stored", None),
            released => released,
        };
        assert_eq!(service.tells("/answer/1", body).await, [retry], "a retry of {body}");
        if retry != word {
            let other = service.tells("/answer/2", "other").await;
            assert_eq!(other, [("key_reused", None)], "after {body}");
        }
    }
}

async fn a_waiting_duplicate_and_its_first_are_told(by: By, store: impl Store) {
    let service = service(by, Probe::on(store));
    let first = service.ask("/held", "").spawn(&service.router);
    service.app.gate.arrived.reaches(1).await;
    let duplicate = service.ask("/held", "").spawn(&service.router);
    waits(&service).await;
    service.app.gate.open(1);
    assert_eq!(first.await.unwrap().status, 201);
    assert!(duplicate.await.unwrap().is_replay());
    let [stored, replayed] = &service.heard.take()[..] else { panic!("two decisions") };
    assert_eq!(stored.decision, Decision::Stored);
    assert!(stored.has_run && !stored.has_waited);
    assert!(matches!(replayed.decision, Decision::Replayed(_)));
    assert!(!replayed.has_run && replayed.has_waited);
    assert_eq!((stored.key, &*stored.operation), (replayed.key, "POST /held"));
    assert!(stored.key.is_some());
}

/// Lets the duplicate get as far as it can: everything up to its wait is ready at once.
async fn waits(service: &Service) {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(service.heard.take().is_empty(), "nothing is decided yet");
}

async fn a_panic_is_told_without_a_status(by: By, store: impl Store) {
    let service = service(by, store);
    let request = service.ask("/answer/1", "200 panics");
    let router = service.router.clone();
    let panic = tokio::spawn(async move { request.send(&router).await });
    assert!(panic.await.unwrap_err().is_panic());
    assert_eq!(service.heard.words(), [("released", None)]);
}

async fn a_run_whose_caller_leaves_is_told(by: By, store: impl Store) {
    let service = service(by, store);
    let first = service.ask("/held", "").spawn(&service.router);
    service.app.gate.arrived.reaches(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert!(service.heard.take().is_empty());
    service.app.gate.open(1);
    service.idempotency.drain().await;
    assert_eq!(service.heard.words(), [("stored", Some(201))]);
}

#[tokio::test]
async fn what_needs_no_key_and_what_is_refused_before_the_store_is_asked_is_told() {
    let service = service(By::Attribute, MemoryStore::new());
    let told = async |ask: idempotent_test_support::Ask| {
        ask.send(&service.router).await;
        let told = service.heard.take();
        let [Told { operation, decision, key: None, .. }] = &told[..] else {
            panic!("one decision without a key: {told:?}")
        };
        (operation.clone(), *decision)
    };
    let refused = |operation: &str, code| (operation.to_owned(), Decision::Refused(code));
    let answer = "POST /answer/{id}";
    assert_eq!(
        told(post("/answer/1").body("200")).await,
        (answer.to_owned(), Decision::WithoutKey)
    );
    assert_eq!(told(post("/answer/1").key("?")).await, refused(answer, ProblemCode::InvalidKey));
    let two = post("/answer/1").key(fresh_key()).header("x-idempotency-key", fresh_key());
    assert_eq!(told(two).await, refused(answer, ProblemCode::ConflictingKeys));
    assert_eq!(told(post("/required")).await, refused("POST /required", ProblemCode::MissingKey));
    assert_eq!(
        told(post("/keyed").body("no key")).await,
        ("pay by name".to_owned(), Decision::WithoutKey)
    );
    assert_eq!(
        told(post("/keyed").body("key ")).await,
        refused("pay by name", ProblemCode::InvalidKey)
    );
}

#[tokio::test]
async fn a_key_that_comes_from_the_body_is_told_by_its_digest() {
    let service = service(By::Attribute, MemoryStore::new());
    for word in ["stored", "replayed"] {
        post("/keyed").body("key 1").send(&service.router).await;
        let told = service.heard.take();
        assert_eq!((told.len(), told[0].decision.as_str()), (1, word));
        assert!(told[0].key.is_some() && told[0].operation == "pay by name");
    }
}

#[tokio::test]
async fn a_replay_says_where_it_came_from() {
    let memory = service(By::Attribute, MemoryStore::new());
    let shared = service(By::Attribute, Leased::default());
    // An expression that uses the last parameter: it has to be extracted.
    for (service, path, from) in [
        (&memory, "/answer/1", Replayed::Look),
        (&memory, "/keyed", Replayed::Memory),
        (&shared, "/answer/1", Replayed::Store),
    ] {
        let body = if path == "/keyed" { "key 1" } else { "200" };
        for _ in 0..2 {
            service.ask(path, body).send(&service.router).await;
        }
        let told = service.heard.take();
        assert_eq!((told.len(), told[1].decision), (2, Decision::Replayed(from)));
    }
}

#[tokio::test]
async fn a_request_without_a_template_or_with_a_made_up_method_has_a_bounded_name() {
    let heard = Heard::default();
    let idempotency = heard.listens_to(idempotent_axum::Idempotency::new(MemoryStore::new()));
    let any = || axum::routing::any(super::answer);
    let router = axum::Router::new()
        .route("/any/{id}", any())
        .fallback_service(any().with_state::<()>(App::default()))
        .layer(idempotency)
        .with_state(App::default());
    let purge = Method::from_bytes(b"PURGE").expect("a method");
    for (method, path) in [(Method::POST, "/acme/secret"), (purge, "/any/secret")] {
        ask(method, path).key(fresh_key()).body("200").send(&router).await;
    }
    let told = heard.take();
    let operations: Vec<_> = told.iter().map(|told| &*told.operation).collect();
    assert_eq!(operations, ["other", "OTHER /any/{id}"]);
}

#[tokio::test]
async fn an_outage_is_told_by_what_becomes_of_each_request() {
    for (on_error, word) in
        [(OnStoreError::Reject, "store_unavailable"), (OnStoreError::Execute, "unprotected")]
    {
        for by in [By::Attribute, By::Boundary] {
            let down = Probe::on(Leased::default()).always(Fault::NotSent);
            let service = service_with(by, down, |it| it.on_store_error(on_error));
            assert_eq!(service.tells("/answer/1", "200").await, [(word, None)]);
        }
    }
}

#[tokio::test]
async fn a_request_that_would_be_one_run_too_many_is_told() {
    let service = service_with(By::Attribute, MemoryStore::new(), |it| it.max_detached_runs(1));
    let first = service.ask("/held", "").spawn(&service.router);
    service.app.gate.arrived.reaches(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    post("/answer/1").key(fresh_key()).send(&service.router).await;
    assert_eq!(service.heard.words(), [("too_many_runs", None)]);
    service.app.gate.open(1);
    service.idempotency.drain().await;
    assert_eq!(service.heard.words(), [("stored", Some(201))]);
}
