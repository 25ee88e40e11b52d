//! tower-sessions: the layer saves the session after the handler, unless the status is 5xx, and
//! answers with 500 if it cannot.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use axum::{
    Router,
    extract::State,
    http::{Method, StatusCode},
    routing::{get, post as route},
};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Answer, Ask, Gate, ask, fresh_key, post};
use tower_sessions::{
    Session, SessionManagerLayer, SessionStore,
    session::{Id, Record},
    session_store,
};

use crate::{
    Place::{self, Inside, Outside},
    leave, put,
};

const PLACES: [Place; 2] = [Inside, Outside];

/// Sessions in memory, which cannot be saved while the test says so.
#[derive(Debug, Clone, Default)]
struct Sessions {
    store: tower_sessions::MemoryStore,
    is_broken: Arc<AtomicBool>,
}

impl Sessions {
    fn check(&self) -> session_store::Result<()> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(session_store::Error::Backend("broken".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl SessionStore for Sessions {
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        self.check()?;
        self.store.create(record).await
    }

    async fn save(&self, record: &Record) -> session_store::Result<()> {
        self.check()?;
        self.store.save(record).await
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
        self.store.load(id).await
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        self.store.delete(id).await
    }
}

#[idempotent]
async fn add(State(gate): State<Gate>, session: Session, body: String) -> (StatusCode, String) {
    let count = count(&session).await + 1;
    session.insert("cart", count).await.expect("it is only saved later");
    if body == "waits" {
        gate.pass().await;
    }
    (StatusCode::CREATED, format!("{count} in the cart"))
}

async fn look(session: Session) -> String {
    count(&session).await.to_string()
}

async fn count(session: &Session) -> u32 {
    session.get("cart").await.expect("a session").unwrap_or(0)
}

struct Shop {
    sessions: Sessions,
    gate: Gate,
    idempotency: Idempotency,
    router: Router,
}

impl Shop {
    fn open(place: Place) -> Self {
        Self::open_with(place, |layer| layer)
    }

    fn open_with(
        place: Place,
        set: impl FnOnce(SessionManagerLayer<Sessions>) -> SessionManagerLayer<Sessions>,
    ) -> Self {
        let sessions = Sessions::default();
        let layer = set(SessionManagerLayer::new(sessions.clone()));
        let (gate, idempotency) = (Gate::default(), Idempotency::new(MemoryStore::new()));
        let handlers = Router::new().route("/add", route(add)).route("/cart", get(look));
        let router =
            put!(layer, place, handlers).layer(idempotency.clone()).with_state(gate.clone());
        Self { sessions, gate, idempotency, router }
    }

    /// The cookie of a session that has one thing in its cart.
    async fn session(&self) -> String {
        let answer = post("/add").key(fresh_key()).send(&self.router).await;
        assert_eq!(answer.text(), "1 in the cart");
        cookie(&answer).expect("a new session")
    }

    async fn cart(&self, cookie: &str) -> String {
        let look = ask(Method::GET, "/cart").header("cookie", cookie);
        look.send(&self.router).await.text().to_owned()
    }

    async fn send(&self, ask: Ask) -> (String, bool) {
        let answer = ask.send(&self.router).await;
        (answer.text().to_owned(), answer.is_replay())
    }
}

/// What a client sends back of a `Set-Cookie`.
fn cookie(answer: &Answer) -> Option<String> {
    let line = answer.header("set-cookie")?;
    Some(line.split(';').next().expect("a part").to_owned())
}

#[tokio::test]
async fn a_session_is_saved_once_in_either_place() {
    for place in PLACES {
        let shop = Shop::open(place);
        let (session, key) = (shop.session().await, fresh_key());
        for is_replay in [false, true] {
            let add = post("/add").key(&key).header("cookie", &session);
            assert_eq!(shop.send(add).await, ("2 in the cart".to_owned(), is_replay));
        }
        assert_eq!(shop.cart(&session).await, "2", "{place:?}");
        let add = post("/add").header("cookie", &session);
        assert_eq!(shop.send(add).await, ("3 in the cart".to_owned(), false));
        assert_eq!(shop.cart(&session).await, "3");
    }
}

#[tokio::test]
async fn the_session_of_a_caller_that_leaves_is_saved_inside_alone() {
    for place in PLACES {
        let shop = Shop::open(place);
        let (session, key) = (shop.session().await, fresh_key());
        let add = || post("/add").key(&key).header("cookie", &session).body("waits");
        leave(add(), &shop.router, &shop.gate, &shop.idempotency).await;
        assert_eq!(shop.send(add()).await, ("2 in the cart".to_owned(), true));
        // Outside, the replay says something untrue.
        let in_cart = if place == Inside { "2" } else { "1" };
        assert_eq!(shop.cart(&session).await, in_cart, "{place:?}");
    }
}

#[tokio::test]
async fn the_session_of_a_caller_that_leaves_without_a_key_is_not_saved() {
    for place in PLACES {
        let shop = Shop::open(place);
        let session = shop.session().await;
        let add = post("/add").header("cookie", &session).body("waits");
        leave(add, &shop.router, &shop.gate, &shop.idempotency).await;
        assert_eq!(shop.cart(&session).await, "1", "{place:?}");
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_saved_is_stored_as_saved_outside_alone() {
    for place in PLACES {
        let shop = Shop::open(place);
        let (session, key) = (shop.session().await, fresh_key());
        let add =
            async || post("/add").key(&key).header("cookie", &session).send(&shop.router).await;
        shop.sessions.is_broken.store(true, Ordering::Relaxed);
        assert_eq!(add().await.status, 500);
        shop.sessions.is_broken.store(false, Ordering::Relaxed);
        let retry = add().await;
        assert_eq!((retry.text(), retry.is_replay()), ("2 in the cart", place == Outside));
        let in_cart = if place == Inside { "2" } else { "1" };
        assert_eq!(shop.cart(&session).await, in_cart, "{place:?}");
    }
}

/// `Set-Cookie` is never stored: it belongs to one request.
#[tokio::test]
async fn a_replay_has_the_cookie_of_its_own_request_in_either_place() {
    for place in PLACES {
        let shop = Shop::open_with(place, |layer| layer.with_always_save(true));
        let (session, key) = (shop.session().await, fresh_key());
        for is_replay in [false, true] {
            let add = post("/add").key(&key).header("cookie", &session);
            let answer = add.send(&shop.router).await;
            assert_eq!(answer.is_replay(), is_replay);
            assert_eq!(cookie(&answer).as_ref(), Some(&session), "{place:?}");
        }
    }
}

/// A session that the run began is only known from a cookie in the response that was lost.
#[tokio::test]
async fn a_session_that_a_lost_response_has_begun_is_lost_in_either_place() {
    for place in PLACES {
        let shop = Shop::open(place);
        let key = fresh_key();
        let add = || post("/add").key(&key).body("waits");
        leave(add(), &shop.router, &shop.gate, &shop.idempotency).await;
        let retry = add().send(&shop.router).await;
        assert_eq!((retry.text(), retry.is_replay()), ("1 in the cart", true));
        assert_eq!(cookie(&retry), None, "{place:?}");
    }
}
