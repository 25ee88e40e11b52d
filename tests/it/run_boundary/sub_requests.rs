//! Requests that a handler inside a boundary makes with a copy of its own request's extensions:
//! they settle on their own, and are the same operations as requests from outside.

use std::sync::{Arc, Mutex, OnceLock};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Extensions, request::Parts},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::post as route,
};
use idempotent_axum::{Idempotency, MemoryStore, RunBoundary, idempotent};
use idempotent_test_support::{Answer, Events, Runs, fresh_key, post};
use tower::ServiceExt as _;
use tracing::Level;

use super::number;

#[derive(Clone, Default)]
struct App {
    payments: Runs,
    batches: Runs,
    /// The router that serves all of this.
    router: Arc<OnceLock<Router>>,
}

impl App {
    /// Sends a request with another request's extensions.
    async fn send(&self, extensions: &Extensions, path: &str, key: &str) -> String {
        let mut request = Request::post(path).header("idempotency-key", key);
        *request.extensions_mut().expect("a valid request") = extensions.clone();
        let request = request.body(Body::empty()).expect("a valid request");
        let router = self.router.get().expect("it serves").clone();
        let Ok(response) = router.oneshot(request).await;
        let body = axum::body::to_bytes(response.into_body(), 1 << 10).await.expect("a short body");
        String::from_utf8(body.to_vec()).expect("text")
    }

    /// Sends a request for each line, `in turn` or at once; returns the answers.
    async fn send_all(&self, parts: &Parts, lines: &str) -> String {
        let (mode, lines) = lines.split_once('\n').expect("a mode");
        let sends = lines.lines().map(|line| {
            let (path, key) = line.split_once(' ').expect("a path and a key");
            self.send(&parts.extensions, path, key)
        });
        let answers = match mode {
            "in turn" => {
                let mut answers = Vec::new();
                for send in sends {
                    answers.push(send.await);
                }
                answers
            }
            _ => futures_of(sends).await,
        };
        format!("{}: {}", self.batches.next(), answers.join(", "))
    }
}

/// Drives all of them at once, in this task.
async fn futures_of(sends: impl Iterator<Item = impl Future<Output = String>>) -> Vec<String> {
    let mut sends: Vec<_> = sends.map(|send| (Box::pin(send), None)).collect();
    std::future::poll_fn(|cx| {
        for (send, answer) in &mut sends {
            if answer.is_none()
                && let std::task::Poll::Ready(text) = send.as_mut().poll(cx)
            {
                *answer = Some(text);
            }
        }
        if sends.iter().all(|(_, answer)| answer.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    sends.into_iter().filter_map(|(_, answer)| answer).collect()
}

#[idempotent]
async fn batch(State(app): State<App>, parts: Parts, lines: String) -> String {
    app.send_all(&parts, &lines).await
}

async fn plain_batch(State(app): State<App>, parts: Parts, lines: String) -> String {
    app.send_all(&parts, &lines).await
}

#[idempotent]
async fn pay(State(app): State<App>) -> String {
    tokio::task::yield_now().await;
    app.payments.next()
}

fn app() -> (Router, App) {
    let app = App::default();
    let router = Router::new()
        .route("/batch", route(batch))
        .route("/plain", route(plain_batch))
        .route("/{tenant}/batch", route(batch))
        .route("/pay", route(pay))
        .route("/users/{id}/pay", route(pay))
        .layer(from_fn_with_state(Runs::default(), number))
        .layer(RunBoundary::new())
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(app.clone());
    assert!(app.router.set(router.clone()).is_ok());
    (router, app)
}

const MODES: [&str; 2] = ["in turn", "at once"];

/// A batch that pays under each key.
fn lines(mode: &str, keys: &[&str]) -> String {
    let lines: Vec<_> = keys.iter().map(|key| format!("/pay {key}")).collect();
    format!("{mode}\n{}", lines.join("\n"))
}

async fn pay_directly(router: &Router, key: &str) -> Answer {
    post("/pay").key(key).send(router).await
}

#[tokio::test]
async fn the_requests_of_a_batch_with_a_key_settle_by_themselves() {
    for mode in MODES {
        let (router, app) = app();
        let (key, one, two) = (fresh_key(), fresh_key(), fresh_key());
        let send =
            async || post("/batch").key(&key).body(lines(mode, &[&one, &two])).send(&router).await;
        let batch = send().await;
        assert_eq!((batch.text(), batch.is_replay()), ("run 1: run 1, run 2", false), "{mode}");
        // The batch is stored as it passed, with the layer's header.
        let again = send().await;
        assert_eq!((again.text(), again.is_replay()), ("run 1: run 1, run 2", true));
        assert_eq!(again.header("x-layer"), batch.header("x-layer"));
        // Each payment is stored under its own key.
        for (key, text) in [(one, "run 1"), (two, "run 2")] {
            let direct = pay_directly(&router, &key).await;
            assert_eq!((direct.text(), direct.is_replay()), (text, true), "{mode}");
        }
        assert_eq!((app.batches.count(), app.payments.count()), (1, 2));
    }
}

#[tokio::test]
async fn the_requests_of_a_batch_without_a_key_settle_by_themselves() {
    for (path, mode) in
        MODES.map(|mode| ("/batch", mode)).into_iter().chain(MODES.map(|mode| ("/plain", mode)))
    {
        let (router, app) = app();
        let (one, two, three) = (fresh_key(), fresh_key(), fresh_key());
        let send = async |keys: &[&str]| {
            let answer = post(path).body(lines(mode, keys)).send(&router).await;
            assert!(!answer.is_replay());
            answer.text().to_owned()
        };
        assert_eq!(send(&[&one, &two]).await, "run 1: run 1, run 2", "{path}, {mode}");
        // A later batch with the same payments is another batch, and has its own answer.
        assert_eq!(send(&[&one, &three]).await, "run 2: run 1, run 3", "{path}, {mode}");
        for (key, text) in [(one, "run 1"), (two, "run 2"), (three, "run 3")] {
            let direct = pay_directly(&router, &key).await;
            assert_eq!((direct.text(), direct.is_replay()), (text, true), "{path}, {mode}");
        }
        assert_eq!(app.payments.count(), 3);
    }
}

#[tokio::test]
async fn a_batch_finds_what_was_paid_directly() {
    let (router, app) = app();
    let (one, two) = (fresh_key(), fresh_key());
    assert_eq!(pay_directly(&router, &one).await.text(), "run 1");
    let batch = post("/batch").body(lines("in turn", &[&one, &two, &one])).send(&router).await;
    assert_eq!(batch.text(), "run 1: run 1, run 2, run 1");
    assert_eq!(app.payments.count(), 2);
}

#[tokio::test]
async fn a_request_of_a_batch_has_its_own_path_and_template() {
    let (router, app) = app();
    let key = fresh_key();
    for path in ["/batch", "/acme/batch"] {
        // One operation, one key, two paths: the second is another request.
        let lines = format!("in turn\n/users/1/pay {key}\n/users/2/pay {key}\n/users/1/pay {key}");
        let batch = post(path).body(lines).send(&router).await;
        let answers: Vec<_> = batch.text().splitn(2, ": ").collect();
        assert!(
            answers[1].starts_with("run 1, {") && answers[1].ends_with("}, run 1"),
            "{answers:?}"
        );
        assert!(answers[1].contains("key_reused"));
    }
    let direct = post("/users/1/pay").key(&key).send(&router).await;
    assert_eq!((direct.text(), direct.is_replay()), ("run 1", true));
    assert_eq!(post("/users/2/pay").key(&key).send(&router).await.status, 422);
    assert_eq!(app.payments.count(), 1);
}

#[tokio::test]
async fn without_a_boundary_the_requests_of_a_batch_are_the_same_operations_too() {
    let app = App::default();
    let router = Router::new()
        .route("/batch", route(batch))
        .route("/pay", route(pay))
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(app.clone());
    assert!(app.router.set(router.clone()).is_ok());
    let key = fresh_key();
    let batch = post("/batch").body(lines("in turn", &[&key])).send(&router).await;
    assert_eq!(batch.text(), "run 1: run 1");
    let direct = pay_directly(&router, &key).await;
    assert_eq!((direct.text(), direct.is_replay()), ("run 1", true));
}

#[tokio::test]
async fn only_a_request_that_may_be_the_boundarys_own_is_warned_of() {
    let (events, _guard) = Events::of_thread();
    let app = App::default();
    let routes = || {
        let routes =
            Router::new().route("/batch", route(batch)).route("/plain", route(plain_batch));
        routes.route("/pay", route(pay)).with_state(app.clone())
    };
    let settings = Idempotency::new(MemoryStore::new());
    let bounded = routes().layer(RunBoundary::new()).layer(settings);
    let pays = || lines("at once", &[&fresh_key(), &fresh_key()]);
    // They reach no boundary of their own, but come after a handler of the batch's.
    assert!(app.router.set(routes()).is_ok());
    for ask in [post("/batch"), post("/batch").key(fresh_key())] {
        let batch = ask.body(pays()).send(&bounded).await;
        assert!(batch.text().contains(": run "), "{}", batch.text());
    }
    assert_eq!(events.at(Level::WARN), [""; 0]);
    // Nothing distinguishes these from the request that has passed the boundary, changed by a layer.
    for _ in 0..2 {
        post("/plain").body(pays()).send(&bounded).await;
    }
    let [warning] = &events.at(Level::WARN)[..] else { panic!("one warning") };
    assert!(warning.contains("ends with the handler"), "{warning}");
    assert_eq!(app.payments.count(), 8);

    // These reach their own boundary.
    let (everywhere, _) = self::app();
    post("/plain").body(pays()).send(&everywhere).await;
    assert_eq!(events.at(Level::WARN).len(), 1);
}

#[tokio::test]
async fn what_comes_after_the_boundary_has_answered_settles_by_itself() {
    let kept = Arc::<Mutex<Option<Extensions>>>::default();
    let copies = Arc::clone(&kept);
    // Inside the boundary, before the handler: the copy has the boundary's slot.
    let keep = from_fn(move |request: Request, next: Next| {
        *copies.lock().expect("no panic") = Some(request.extensions().clone());
        next.run(request)
    });
    let app = App::default();
    let inner = Router::new().route("/pay", route(pay)).with_state(app.clone());
    let settings = Idempotency::new(MemoryStore::new());
    let router = inner.clone().layer(keep).layer(RunBoundary::new()).layer(settings);
    assert!(app.router.set(inner).is_ok());

    assert_eq!(pay_directly(&router, &fresh_key()).await.text(), "run 1");
    let extensions = kept.lock().unwrap().take().unwrap();
    let key = fresh_key();
    for _ in 0..2 {
        assert_eq!(app.send(&extensions, "/pay", &key).await, "run 2");
    }
    // The key is not held by a run that nobody settles.
    assert_eq!(app.payments.count(), 2);
}

#[tokio::test]
async fn a_layer_that_makes_requests_of_its_own_before_the_handler_leaves_the_boundary_to_it() {
    async fn audit(State(app): State<App>, request: Request, next: Next) -> Response {
        if request.uri().path() == "/pay" {
            let audit = app.send(request.extensions(), "/users/7/pay", &fresh_key()).await;
            assert!(audit.starts_with("run"));
        }
        next.run(request).await
    }

    let app = App::default();
    let router = Router::new()
        .route("/pay", route(pay))
        .route("/users/{id}/pay", route(pay))
        .layer(from_fn_with_state(app.clone(), audit))
        .layer(from_fn_with_state(Runs::default(), number))
        .layer(RunBoundary::new())
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(app.clone());
    assert!(app.router.set(router.clone()).is_ok());
    let key = fresh_key();
    let (first, second) = (pay_directly(&router, &key).await, pay_directly(&router, &key).await);
    assert_eq!((first.text(), second.text()), ("run 2", "run 2"));
    assert_eq!((first.is_replay(), second.is_replay()), (false, true));
    assert_eq!(first.header("x-layer"), second.header("x-layer"));
}
