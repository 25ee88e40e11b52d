//! The span of a guarded request, and one line in the log for each decision.

use idempotent_axum::{Idempotency, MemoryStore};
use idempotent_test_support::{Events, Fault, Leased, Logged, Probe, fresh_key, post};
use tracing::Level;

use super::{App, By, service, service_with};

const TARGET: &str = "idempotent_axum";

/// The line with this message.
fn line(events: &Events, message: &str) -> Logged {
    let mut lines = events.all().into_iter().filter(|event| event.message.starts_with(message));
    let (Some(line), None) = (lines.next(), lines.next()) else {
        panic!("one line of {message:?}: {:?}", events.all())
    };
    assert_eq!(line.target, TARGET);
    line
}

#[tokio::test]
async fn a_guarded_request_has_one_span_with_its_operation_key_and_outcome() {
    for by in [By::Attribute, By::Boundary] {
        let (events, _guard) = Events::of_thread();
        let service = service(by, MemoryStore::new());
        service.tells("/answer/7", "201").await;
        let key = service.ask("/answer/7", "201");
        key.send(&service.router).await;
        let digest = service.heard.take()[0].key.expect("it has a key");
        let spans = events.spans();
        let [first, second] = &spans[..] else { panic!("two spans: {spans:?}") };
        for (span, outcome) in [(first, "stored"), (second, "replayed")] {
            assert_eq!((span.name, span.target, span.level), ("idempotency", TARGET, Level::INFO));
            let fields = [
                "operation=\"POST /answer/{id}\"".to_owned(),
                format!("key={digest}"),
                format!("outcome=\"{outcome}\""),
            ];
            assert_eq!(span.fields, fields);
        }
        let stored = line(&events, "response stored");
        assert_eq!((stored.level, &stored.spans[..]), (Level::DEBUG, &["idempotency"][..]));
        assert!(stored.fields.contains(&"status=201".to_owned()), "{stored:?}");
        assert!(stored.fields.iter().any(|field| field.starts_with("run=")), "{stored:?}");
    }
}

#[tokio::test]
async fn a_key_from_the_body_is_recorded_when_it_is_known() {
    let (events, _guard) = Events::of_thread();
    let service = service(By::Attribute, MemoryStore::new());
    post("/keyed").body("key 1").send(&service.router).await;
    let digest = service.heard.take()[0].key.expect("it has a key");
    let span = &events.spans()[0];
    let fields = ["operation=\"pay by name\"", &format!("key={digest}"), "outcome=\"stored\""];
    assert_eq!(span.fields, fields);
}

#[tokio::test]
async fn a_request_without_a_key_has_no_span_and_no_line() {
    let (events, _guard) = Events::of_thread();
    let service = service(By::Attribute, MemoryStore::new());
    post("/answer/7").body("201").send(&service.router).await;
    assert_eq!((events.spans().len(), events.all().len()), (0, 0));
}

#[tokio::test]
async fn a_run_that_outlives_its_caller_settles_in_its_span() {
    for by in [By::Attribute, By::Boundary] {
        let (events, _guard) = Events::of_thread();
        let service = service(by, MemoryStore::new());
        let first = service.ask("/held", "").spawn(&service.router);
        service.app.gate.arrived.reaches(1).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        service.app.gate.open(1);
        service.idempotency.drain().await;
        assert_eq!(line(&events, "response stored").spans, ["idempotency"]);
        assert!(events.spans()[0].fields.contains(&"outcome=\"stored\"".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_level_says_what_to_do_about_it() {
    let (events, _guard) = Events::of_thread();
    let probe = Probe::on(Leased::default());
    let service = service(By::Attribute, probe.clone());
    service.tells("/answer/1", "500").await;
    assert_eq!(line(&events, "key released").level, Level::DEBUG);
    service.tells("/answer/1", "200 large").await;
    assert_eq!(line(&events, "a response cannot be stored").level, Level::WARN);
    service.tells("/answer/1", "200 large").await;
    let refused = line(&events, "idempotent request refused");
    assert_eq!(refused.level, Level::DEBUG);
    assert!(refused.fields.contains(&"code=\"response_not_stored\"".to_owned()), "{refused:?}");

    let held = service_with(By::Attribute, probe.clone(), |it| it);
    let first = held.ask("/held", "").spawn(&held.router);
    held.app.gate.arrived.reaches(1).await;
    probe.store.lapse();
    held.app.gate.open(1);
    first.await.unwrap();
    assert_eq!(line(&events, "an idempotency claim was lost").level, Level::WARN);

    probe.complete.always(Fault::Fails);
    post("/answer/1").key(fresh_key()).body("201").send(&service.router).await;
    service.idempotency.drain().await;
    assert_eq!(line(&events, "a response could not be stored").level, Level::ERROR);
    assert!(events.all().iter().all(|event| event.target == TARGET));
}

#[tokio::test]
async fn drain_says_which_operations_it_waits_for_on_memory_as_well() {
    let (events, _guard) = Events::of_thread();
    let (app, idempotency) = (App::default(), Idempotency::new(MemoryStore::new()));
    let router = super::routes().layer(idempotency.clone()).with_state(app.clone());
    for number in 1..=2 {
        let first = post("/held").key(fresh_key()).spawn(&router);
        app.gate.arrived.reaches(number).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
    }
    idempotency.drain_for(std::time::Duration::ZERO).await;
    let waits = line(&events, "waiting for idempotent handlers");
    assert!(waits.fields.contains(&"detached=\"POST /held: 2\"".to_owned()), "{waits:?}");
    app.gate.open(2);
    idempotency.drain().await;
}
