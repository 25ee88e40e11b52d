//! What is copied: whatever the store has said it holds, if it can be replayed; to whom it is
//! replayed, and how many bytes it takes.

#[cfg(feature = "seal")]
use idempotent_axum::Sealing;
use idempotent_axum::{
    Decision, Forgotten, Idempotency, MemoryStore, OnStoreError, Replayed, RunBoundary, RunError,
    StoreVerb,
};
use idempotent_test_support::{Fault, Leased, Probe, fresh_key, post};

use super::{App, Instance, MAX_BYTES, from_store, near, two};

#[tokio::test]
async fn what_was_stored_or_once_replayed_is_replayed_without_the_store() {
    for path in ["/pay", "/extracted"] {
        let (store, one, other, app) = two();
        let key = fresh_key();
        assert_eq!(one.send(path, &key, "").await.text(), "run 1");
        assert_eq!(one.calls(), [StoreVerb::Claim, StoreVerb::Complete]);
        assert_eq!(other.replay(path, &key, "").await, from_store("run 1"));
        assert_eq!(other.calls(), [StoreVerb::Claim]);
        let store = store.always(Fault::Fails);
        for instance in [&one, &other] {
            for _ in 0..3 {
                assert_eq!(instance.replay(path, &key, "").await, near("run 1"));
            }
            assert_eq!(instance.calls(), []);
        }
        let unknown = one.send(path, &fresh_key(), "").await;
        assert_eq!(unknown.problem(), (503, "store_unavailable".to_owned()));
        assert_eq!((app.runs.count(), store.complete.begun.get()), (1, 1));
    }
}

#[tokio::test]
async fn under_execute_a_known_key_is_replayed_and_not_run_unprotected() {
    let (store, app) = (Probe::on(Leased::default()), App::default());
    let settings = Idempotency::new(store.clone()).on_store_error(OnStoreError::Execute);
    let instance = Instance::with(settings.near_cache(MAX_BYTES), &app);
    let key = fresh_key();
    instance.send("/pay", &key, "").await;
    let _store = store.always(Fault::NotSent);
    assert_eq!(instance.replay("/pay", &key, "").await, near("run 1"));
    assert_eq!(instance.send("/pay", &fresh_key(), "").await.text(), "run 2");
}

#[tokio::test]
async fn another_request_with_the_key_is_refused_without_the_store() {
    let (_, one, _, _) = two();
    let key = fresh_key();
    one.send("/pay", &key, "rent").await;
    one.calls();
    let refused = one.send("/pay", &key, "food").await;
    assert_eq!(refused.problem(), (422, "key_reused".to_owned()));
    // A job of the same name.
    let done = one.key(&key).run(|_| async { Ok::<_, ()>(7) }).await;
    assert!(matches!(done, Err(RunError::OtherValue(_))), "{done:?}");
    assert_eq!(one.calls(), []);
}

/// The store's records are sealed, the copies are not, and neither is taken for the other.
#[cfg(feature = "seal")]
#[tokio::test]
async fn what_is_sealed_in_the_store_is_copied_as_well() {
    let (store, app) = (Probe::on(Leased::default()), App::default());
    let instance = || {
        let settings = Idempotency::new(store.clone()).seal(Sealing::new("2026-11", [7; 32]));
        Instance::with(settings.near_cache(MAX_BYTES), &app)
    };
    let (one, other, key) = (instance(), instance(), fresh_key());
    assert_eq!(one.send("/pay", &key, "").await.text(), "run 1");
    store.store.rewrite(|record| {
        assert!(!record.windows(5).any(|bytes| bytes == b"run 1"), "it is sealed");
    });
    assert_eq!(other.replay("/pay", &key, "").await, from_store("run 1"));
    let _store = store.clone().always(Fault::Fails);
    for instance in [&one, &other] {
        assert_eq!(instance.replay("/pay", &key, "").await, near("run 1"));
    }
}

#[tokio::test]
async fn values_of_jobs_are_copied() {
    let (store, one, other, _) = two();
    let id = fresh_key();
    let run = async |instance: &Instance| {
        let job = instance.key(&id).fingerprint("EUR 10");
        let done = job.run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
        (done.value, done.replayed)
    };
    assert_eq!(run(&one).await, (7, false));
    assert_eq!(run(&other).await, (7, true));
    let _store = store.always(Fault::Hangs);
    for instance in [&one, &other] {
        instance.calls();
        assert_eq!(run(instance).await, (7, true));
        let other = instance.key(&id).fingerprint("EUR 11").run(|_| async { Ok::<_, ()>(8) }).await;
        assert!(matches!(other, Err(RunError::KeyReused)), "{other:?}");
        // A request with that key.
        let refused = instance.send("/pay", &id, "").await;
        assert_eq!(refused.problem(), (422, "key_reused".to_owned()));
        assert_eq!(instance.calls(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_copied_that_the_store_has_not_said_to_hold() {
    for fault in [Fault::Fails, Fault::FailsAfter, Fault::Hangs, Fault::HangsAfter] {
        let (store, one, _, _) = two();
        let key = fresh_key();
        store.complete.always(fault);
        assert_eq!(one.send("/pay", &key, "").await.text(), "run 1");
        one.idempotency.drain().await;
        assert!(one.told.lock().unwrap().contains(&Decision::GivenUp));
        store.complete.always(Fault::Works);
        one.calls();
        let is_stored = matches!(fault, Fault::FailsAfter | Fault::HangsAfter);
        if is_stored {
            assert_eq!(one.replay("/pay", &key, "").await, from_store("run 1"));
        } else {
            assert_eq!(one.send("/pay", &key, "").await.text(), "run 2");
        }
        assert!(one.calls().contains(&StoreVerb::Claim), "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_stored_in_the_background_is_copied() {
    let (store, one, _, _) = two();
    let key = fresh_key();
    store.complete.next([Fault::Fails; 3]);
    assert_eq!(one.send("/pay", &key, "").await.text(), "run 1");
    one.idempotency.drain().await;
    assert!(one.told.lock().unwrap().contains(&Decision::StoredLate));
    assert_eq!(one.replay("/pay", &key, "").await, near("run 1"));
}

#[tokio::test]
async fn a_response_stored_after_its_claim_was_lost_is_copied_and_so_is_that_of_another() {
    let (store, one, other, app) = two();
    // The key is free again when it ends.
    let key = fresh_key();
    let held = post("/pay").key(&key).body("held").spawn(&one.router);
    app.gate.arrived.reaches(1).await;
    store.store.lapse();
    app.gate.open(1);
    assert_eq!(held.await.unwrap().text(), "run 1");
    assert_eq!(one.replay("/pay", &key, "held").await, near("run 1"));
    // Another instance has stored a response meanwhile.
    let key = fresh_key();
    let held = post("/pay").key(&key).body("held").spawn(&one.router);
    app.gate.arrived.reaches(2).await;
    store.store.lapse();
    let second = post("/pay").key(&key).body("held").spawn(&other.router);
    app.gate.arrived.reaches(3).await;
    let complete = store.complete.hold();
    app.gate.open(2);
    complete.arrived.reaches(2).await;
    complete.open_for_good();
    let answers = [held.await.unwrap(), second.await.unwrap()];
    assert_eq!(answers[0].body, answers[1].body);
    assert_eq!(answers.iter().filter(|answer| answer.is_replay()).count(), 1);
    for instance in [&one, &other] {
        assert_eq!(instance.replay("/pay", &key, "held").await, near(answers[0].text()));
    }
}

#[tokio::test]
async fn for_a_note_the_store_is_asked_every_time() {
    let (_, one, other, _) = two();
    for (body, code) in [("unknown", "outcome_unknown"), ("too large", "response_not_stored")] {
        let key = fresh_key();
        one.send("/pay", &key, body).await;
        for instance in [&one, &other, &one, &other] {
            instance.calls();
            let refused = instance.send("/pay", &key, body).await;
            assert_eq!(refused.problem(), (409, code.to_owned()));
            assert_eq!(instance.calls(), [StoreVerb::Claim]);
        }
        // So that people who have looked into it can free it for all instances at once.
        assert_eq!(one.key(&key).forget().await.unwrap(), Forgotten::Freed);
        assert!(!other.send("/pay", &key, "").await.is_replay());
    }
}

#[tokio::test]
async fn those_that_wait_in_this_process_ask_the_store_once_each() {
    const DUPLICATES: usize = 10;
    let (store, one, _, app) = two();
    let key = fresh_key();
    let mut asked = Vec::new();
    for number in 0..=DUPLICATES {
        asked.push(post("/pay").key(&key).body("held").spawn(&one.router));
        // The first runs.
        if number == 0 {
            app.gate.arrived.reaches(1).await;
        }
    }
    store.wait.begun.reaches(DUPLICATES).await;
    app.gate.open(1);
    for asked in asked {
        assert_eq!(asked.await.unwrap().text(), "run 1");
    }
    assert_eq!(store.claim.begun.get(), 1 + DUPLICATES);
    let from = |from| Decision::Replayed(from);
    let told = one.told.lock().unwrap();
    let count = |decision| told.iter().filter(|told| **told == decision).count();
    assert_eq!((count(from(Replayed::Near)), count(from(Replayed::Store))), (DUPLICATES, 0));
}

#[tokio::test]
async fn layers_inside_a_boundary_see_the_replay_of_a_copy() {
    let (store, app) = (Probe::on(Leased::default()), App::default());
    let mut instance = Instance::on(store, &app);
    let header = axum::http::HeaderName::from_static("x-request-id");
    let value = axum::http::HeaderValue::from_static("of this request");
    instance.router = axum::Router::new()
        .route("/pay", axum::routing::post(super::pay))
        .layer(axum::middleware::map_response(move |mut response: axum::response::Response| {
            response.headers_mut().insert(header.clone(), value.clone());
            std::future::ready(response)
        }))
        .layer(RunBoundary::new())
        .layer(instance.idempotency.clone())
        .with_state(app);
    let key = fresh_key();
    instance.send("/pay", &key, "").await;
    assert_eq!(instance.replay("/pay", &key, "").await, near("run 1"));
    let replay = instance.send("/pay", &key, "").await;
    assert_eq!(replay.header("x-request-id"), Some("of this request"));
    assert_eq!(instance.calls(), [StoreVerb::Claim, StoreVerb::Complete]);
}

#[tokio::test]
async fn copies_take_no_more_than_they_may() {
    let (store, app) = (Leased::default(), App::default());
    // Room for one large response, and some small ones.
    let idempotency = Idempotency::new(store).near_cache(6 << 10);
    let instance = Instance::with(idempotency, &app);
    let keys: Vec<_> = (0..50).map(|_| fresh_key()).collect();
    for key in &keys {
        instance.send("/pay", key, "large").await;
    }
    let mut copied = 0;
    for key in &keys {
        instance.told.lock().unwrap().clear();
        instance.send("/pay", key, "large").await;
        let near = Decision::Replayed(Replayed::Near);
        copied += usize::from(instance.told.lock().unwrap().contains(&near));
    }
    assert!(copied <= 1, "{copied} responses of 3 KiB in 6 KiB");
    assert_eq!(app.runs.count(), keys.len(), "what is not copied is replayed from the store");
}

#[tokio::test]
async fn none_are_kept_without_room_or_of_a_memory_store() {
    let app = App::default();
    let none = Instance::with(Idempotency::new(Leased::default()).near_cache(0), &app);
    let memory = Instance::with(Idempotency::new(MemoryStore::new()).near_cache(MAX_BYTES), &app);
    for (instance, path, from) in [
        (&none, "/pay", Replayed::Store),
        (&memory, "/pay", Replayed::Look),
        (&memory, "/extracted", Replayed::Memory),
    ] {
        let key = fresh_key();
        instance.send(path, &key, "").await;
        assert_eq!(instance.replay(path, &key, "").await.0, from);
        assert!(format!("{:?}", instance.idempotency).contains("near_cache: None"));
    }
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn replays_of_copies_are_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let instance = Instance::on(Leased::default(), &App::default());
    let counted = |count: usize| {
        let scraped = recorder.handle().render();
        let line = format!("idempotency_near_replays_total {count}");
        assert!(scraped.lines().any(|it| it == line), "{line}: {scraped}");
        assert!(scraped.contains("# HELP idempotency_near_replays_total "));
    };
    counted(0);
    let key = fresh_key();
    for _ in 0..3 {
        instance.send("/pay", &key, "").await;
    }
    counted(2);
}
