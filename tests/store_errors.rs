//! Stores that fail, hang, forget and lie: nothing runs twice, nobody is kept waiting, no key is
//! stuck.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use idempotent_axum::{Idempotency, MemoryStore, OnStoreError, Store, idempotent};
use idempotent_test_support::{
    Answer, Ask, Counter, Events, Fault, Gate, Leased, Probe, ask, fresh_key,
};
use tracing::Level;

/// Short, for a call that hangs: whoever waits for it waits that long.
const SHORT: Duration = Duration::from_millis(20);

#[derive(Clone, Default)]
struct App {
    runs: Counter,
    /// Where a request with the header `x-gate: a` or `b` stops: not part of its fingerprint.
    gates: [Gate; 2],
}

#[idempotent(wait = "1h")]
async fn pay(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    let run = app.runs.add();
    match headers.get("x-gate").map(axum::http::HeaderValue::as_bytes) {
        Some(b"a") => drop(app.gates[0].pass().await),
        Some(b"b") => drop(app.gates[1].pass().await),
        _ => {}
    }
    if body == "fails" {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    format!("run {run}").into_response()
}

/// A failure of 35 virtual seconds.
#[idempotent]
async fn slow(State(app): State<App>) {
    app.runs.add();
    tokio::time::sleep(Duration::from_secs(35)).await;
}

struct Service<S = std::sync::Arc<MemoryStore>> {
    app: App,
    probe: Probe<S>,
    idempotency: Idempotency,
    router: Router,
}

/// A service on a store in memory.
fn service(settings: impl FnOnce(Idempotency) -> Idempotency) -> Service {
    service_on(std::sync::Arc::default(), settings)
}

fn service_on<S: Store + Clone>(
    store: S,
    settings: impl FnOnce(Idempotency) -> Idempotency,
) -> Service<S> {
    let (app, probe) = (App::default(), Probe::on(store));
    let idempotency = settings(Idempotency::new(probe.clone()));
    let router = routes().layer(idempotency.clone()).with_state(app.clone());
    Service { app, probe, idempotency, router }
}

fn routes() -> Router<App> {
    Router::new().route("/pay", post(pay)).route("/slow", post(slow))
}

/// What a caller sees of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    replayed: bool,
    retry_after: bool,
    /// The body, or the code of a problem.
    text: String,
}

impl Seen {
    fn run(run: usize) -> Self {
        Self { status: 200, replayed: false, retry_after: false, text: format!("run {run}") }
    }

    fn replay(run: usize) -> Self {
        Self { replayed: true, ..Self::run(run) }
    }

    fn problem(status: u16, code: &str) -> Self {
        Self { status, replayed: false, retry_after: status == 503, text: code.to_owned() }
    }
}

impl From<Answer> for Seen {
    fn from(answer: Answer) -> Self {
        let is_problem = answer.header("content-type") == Some("application/problem+json");
        Self {
            status: answer.status.as_u16(),
            replayed: answer.is_replay(),
            retry_after: answer.header("retry-after").is_some(),
            text: if is_problem { answer.problem().1 } else { answer.text().to_owned() },
        }
    }
}

/// One client's request and its retries.
struct Client {
    router: Router,
    key: String,
    body: &'static str,
}

impl<S> Service<S> {
    fn client(&self) -> Client {
        let key = fresh_key();
        Client { router: self.router.clone(), key, body: "" }
    }
}

impl Client {
    fn request(&self, path: &str, gate: &str) -> Ask {
        ask(Method::POST, path).key(&self.key).header("x-gate", gate).body(self.body)
    }

    async fn send(&self) -> Seen {
        self.request("/pay", "").send(&self.router).await.into()
    }

    /// Sends in the background a request that stops at the gate.
    fn send_to_gate(&self, gate: &str) -> tokio::task::JoinHandle<Seen> {
        let (router, request) = (self.router.clone(), self.request("/pay", gate));
        tokio::spawn(async move { request.send(&router).await.into() })
    }
}

#[tokio::test]
async fn a_claim_that_fails_once_is_tried_again() {
    let service = service(|settings| settings);
    service.probe.claim.next([Fault::Fails]);
    assert_eq!(service.client().send().await, Seen::run(0));
    assert_eq!(service.probe.claim.begun.get(), 2);
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_is_tried_again_with_its_token() {
    let service = service(|settings| settings);
    let client = service.client();
    service.probe.claim.next([Fault::FailsAfter]);
    assert_eq!(client.send().await, Seen::run(0));
    assert_eq!(client.send().await, Seen::replay(0));
}

#[tokio::test]
async fn a_claim_that_fails_for_good_is_503_and_runs_nothing() {
    let service = service(|settings| settings);
    let client = service.client();
    service.probe.claim.next([Fault::Fails, Fault::Fails]);
    assert_eq!(client.send().await, Seen::problem(503, "store_unavailable"));
    assert_eq!(service.app.runs.get(), 0);
    assert_eq!(client.send().await, Seen::run(0), "the key is usable");
}

#[tokio::test]
async fn a_claim_that_hangs_is_503_after_store_timeout() {
    let service = service(|settings| settings.store_timeout(SHORT));
    let client = service.client();
    service.probe.claim.next([Fault::Hangs]);
    assert_eq!(client.send().await, Seen::problem(503, "store_unavailable"));
    assert_eq!(service.app.runs.get(), 0);
}

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
    let service = service(|settings| settings.store_timeout(Duration::from_hours(1)));
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
async fn execute_runs_unprotected_where_the_first_claim_failed() {
    let service = service(|settings| settings.on_store_error(OnStoreError::Execute));
    let client = service.client();
    service.probe.claim.always(Fault::Fails);
    assert_eq!(client.send().await, Seen::run(0));
    assert_eq!(client.send().await, Seen::run(1));
    assert_eq!(service.probe.complete.begun.get(), 0);
}

#[tokio::test]
async fn execute_never_runs_a_duplicate_that_has_seen_a_running_claim() {
    let service = service(|settings| settings.on_store_error(OnStoreError::Execute));
    let client = service.client();
    let first = client.send_to_gate("a");
    service.app.gates[0].arrived.reaches(1).await;
    let duplicate = client.send_to_gate("");
    service.probe.wait.begun.reaches(1).await;
    service.probe.claim.always(Fault::Fails);
    service.app.gates[0].open(1);
    assert_eq!(first.await.unwrap(), Seen::run(0));
    assert_eq!(duplicate.await.unwrap(), Seen::problem(503, "store_unavailable"));
    assert_eq!(service.app.runs.get(), 1);
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

/// A request at gate `a` whose claim has lapsed.
async fn with_a_lost_claim() -> (Service<Leased>, Client, tokio::task::JoinHandle<Seen>) {
    let service = service_on(Leased::default(), |settings| settings);
    let client = service.client();
    let loser = client.send_to_gate("a");
    service.app.gates[0].arrived.reaches(1).await;
    service.probe.store.lapse();
    (service, client, loser)
}

#[tokio::test]
async fn a_lost_claim_replays_what_another_has_stored() {
    let (service, client, loser) = with_a_lost_claim().await;
    assert_eq!(client.send().await, Seen::run(1));
    service.app.gates[0].open(1);
    assert_eq!(loser.await.unwrap(), Seen::replay(1));
    assert_eq!(client.send().await, Seen::replay(1));
}

#[tokio::test]
async fn a_lost_claim_waits_for_the_one_that_runs() {
    let (service, client, loser) = with_a_lost_claim().await;
    let winner = client.send_to_gate("b");
    service.app.gates[1].arrived.reaches(1).await;
    service.app.gates[0].open(1);
    service.probe.wait.begun.reaches(1).await;
    service.app.gates[1].open(1);
    assert_eq!(winner.await.unwrap(), Seen::run(1));
    assert_eq!(loser.await.unwrap(), Seen::replay(1));
}

#[tokio::test]
async fn a_lost_claim_on_a_free_key_stores_its_own_response() {
    let (service, client, loser) = with_a_lost_claim().await;
    service.app.gates[0].open(1);
    assert_eq!(loser.await.unwrap(), Seen::run(0));
    assert_eq!(client.send().await, Seen::replay(0));
    assert_eq!(service.app.runs.get(), 1);
}

#[tokio::test]
async fn a_lost_claim_stores_its_own_response_where_the_one_that_ran_failed() {
    let (service, client, loser) = with_a_lost_claim().await;
    let other = client.send_to_gate("b");
    service.app.gates[1].arrived.reaches(1).await;
    service.app.gates[0].open(1);
    service.probe.wait.begun.reaches(1).await;
    // The second run ends without a response, as if its instance had died.
    other.abort();
    service.probe.store.lapse();
    assert_eq!(loser.await.unwrap(), Seen::run(0));
    assert_eq!(client.send().await, Seen::replay(0));
    assert_eq!(service.app.runs.get(), 2);
}

#[tokio::test]
async fn a_lost_claim_with_the_store_out_of_reach_gives_its_own_response() {
    let (service, _, loser) = with_a_lost_claim().await;
    service.probe.claim.always(Fault::Fails);
    service.app.gates[0].open(1);
    assert_eq!(loser.await.unwrap(), Seen::run(0));
}

#[tokio::test]
async fn a_claim_that_lapses_while_its_response_cannot_be_stored_is_made_again() {
    let service = service_on(Leased::default(), |settings| settings);
    let client = service.client();
    service.probe.complete.always(Fault::Fails);
    assert_eq!(client.send().await, Seen::run(0));
    service.probe.store.lapse();
    service.probe.complete.always(Fault::Works);
    service.idempotency.drain().await;
    assert_eq!(client.send().await, Seen::replay(0));
    assert_eq!(service.app.runs.get(), 1);
}

/// The clock is virtual: seconds pass when everybody sleeps.
#[tokio::test(start_paused = true)]
async fn a_running_claim_is_renewed_at_a_third_of_its_lease_until_it_ends() {
    let service = service_on(Leased::default(), |settings| settings.lease(Duration::from_secs(30)));
    let client = service.client();
    client.request("/slow", "").send(&service.router).await;
    assert_eq!(service.probe.renew.begun.get(), 3, "after 10, 20 and 30 of 35 seconds");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(service.probe.renew.begun.get(), 3, "a stored response needs no renewal");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_repeated_well_within_the_lease() {
    let service = service_on(Leased::default(), |settings| settings);
    let client = service.client();
    service.probe.renew.next([Fault::Fails, Fault::Fails]);
    client.request("/slow", "").send(&service.router).await;
    assert_eq!(service.probe.renew.begun.get(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_shortest_lease_is_not_renewed_without_a_pause() {
    let service = service_on(Leased::default(), |settings| settings.lease(Duration::from_nanos(1)));
    let client = service.client();
    client.request("/slow", "").send(&service.router).await;
    assert!(service.probe.renew.begun.get() <= 35_000, "at most one a millisecond");
}

#[test]
#[should_panic(expected = "`lease` must be longer than zero")]
fn a_lease_of_zero_is_refused() {
    let _ = Idempotency::new(Leased::default()).lease(Duration::ZERO);
}

#[test]
fn a_lease_under_three_timeouts_is_warned_of_once() {
    let warnings = |lease, timeout, layers| {
        let (events, _guard) = Events::of_thread();
        let settings = Idempotency::new(Leased::default()).lease(Duration::from_secs(lease));
        let settings = settings.store_timeout(Duration::from_secs(timeout));
        for _ in 0..layers {
            // A layer is applied to every route.
            let _: Router<App> = routes().layer(settings.clone());
        }
        events.at(Level::WARN)
    };
    assert_eq!(warnings(6, 2, 2), [""; 0]);
    let [warning] = &warnings(5, 2, 2)[..] else { panic!("one warning, however many routes") };
    assert!(warning.contains("`lease`") && warning.contains("three times `store_timeout`"));
    assert_eq!(warnings(5, 2, 0), [""; 0], "the order of the settings does not matter");
}

#[tokio::test]
async fn a_claim_of_a_store_in_memory_needs_no_renewal() {
    let service = service(|settings| settings.lease(Duration::from_millis(3)));
    let client = service.client();
    let first = client.send_to_gate("a");
    service.app.gates[0].arrived.reaches(1).await;
    tokio::time::sleep(SHORT).await;
    service.app.gates[0].open(1);
    assert_eq!(first.await.unwrap(), Seen::run(0));
    assert_eq!(service.probe.renew.begun.get(), 0);
}

#[tokio::test]
async fn a_record_of_an_unknown_version_is_503_and_runs_nothing() {
    let service = service_on(Leased::default(), |settings| settings);
    let client = service.client();
    client.send().await;
    service.probe.store.rewrite(|record| record[2] += 1);
    assert_eq!(client.send().await, Seen::problem(503, "store_unavailable"));
    assert_eq!(service.app.runs.get(), 1);
}

#[tokio::test]
async fn a_corrupt_record_is_409_and_an_error_in_the_log() {
    let (events, _guard) = Events::of_thread();
    let service = service_on(Leased::default(), |settings| settings);
    let client = service.client();
    client.send().await;
    service.probe.store.rewrite(|record| *record.last_mut().unwrap() ^= 1);
    assert_eq!(client.send().await, Seen::problem(409, "outcome_unknown"));
    assert_eq!(service.app.runs.get(), 1);
    assert_eq!(events.at(Level::ERROR), ["a stored response is damaged"]);
}

#[tokio::test]
async fn of_nested_layers_the_innermost_wins() {
    let [outer, inner]: [Probe<MemoryStore>; 2] = Default::default();
    let router = Router::new()
        .nest("/inner", routes().layer(Idempotency::new(inner.clone())))
        .merge(routes())
        .layer(Idempotency::new(outer.clone()))
        .with_state(App::default());
    let key = fresh_key();
    let send = async |path| Seen::from(ask(Method::POST, path).key(&key).send(&router).await);
    assert_eq!(send("/inner/pay").await, Seen::run(0));
    assert_eq!((inner.claim.begun.get(), outer.claim.begun.get()), (1, 0));
    assert_eq!(send("/pay").await, Seen::run(1));
    assert_eq!((inner.claim.begun.get(), outer.claim.begun.get()), (1, 1));
}

#[tokio::test]
async fn the_default_is_the_handle_of_the_store_that_handlers_without_a_layer_use() {
    let app = App::default();
    let key = fresh_key();
    let bare = routes().with_state(app.clone());
    let layered = routes().layer(Idempotency::default()).with_state(app);
    let [first, retry] =
        [bare, layered].map(|router| Client { router, key: key.clone(), body: "" });
    assert_eq!(first.send().await, Seen::run(0));
    assert_eq!(retry.send().await, Seen::replay(0));
}
