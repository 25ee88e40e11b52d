//! axum-login: a user is the principal of its keys. The layer builds on tower-sessions, and looks
//! up the user before each replay.

use std::convert::Infallible;

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::post as route,
};
use axum_login::{
    AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend, UserId, login_required,
};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Ask, Gate, Runs, fresh_key, post};
use tower_sessions::SessionManagerLayer;

use crate::{
    Place::{self, Inside, Outside},
    leave, put,
};

const PLACES: [Place; 2] = [Inside, Outside];

#[derive(Debug, Clone)]
struct User(u64);

impl AuthUser for User {
    type Id = u64;

    fn id(&self) -> u64 {
        self.0
    }

    fn session_auth_hash(&self) -> &[u8] {
        b"unchanged"
    }
}

/// Knows everybody.
#[derive(Debug, Clone)]
struct Users;

impl AuthnBackend for Users {
    type User = User;
    type Credentials = u64;
    type Error = Infallible;

    async fn authenticate(&self, id: u64) -> Result<Option<User>, Infallible> {
        Ok(Some(User(id)))
    }

    async fn get_user(&self, id: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(Some(User(*id)))
    }
}

type Auth = AuthSession<Users>;

#[derive(Clone, Default)]
struct App {
    runs: Runs,
    gate: Gate,
}

async fn log_in(Path(id): Path<u64>, mut auth: Auth) {
    let user = auth.authenticate(id).await.expect("no error").expect("everybody is known");
    auth.login(&user).await.expect("a session");
}

async fn log_out(mut auth: Auth) {
    auth.logout().await.expect("a session");
}

/// Notes in the session how often its user has paid.
#[idempotent(principal = auth.user.as_ref().map(AuthUser::id))]
async fn pay(State(app): State<App>, auth: Auth, body: String) -> (StatusCode, String) {
    let count: u32 = auth.session.get("payments").await.expect("a session").unwrap_or(0) + 1;
    auth.session.insert("payments", count).await.expect("it is only saved later");
    if body == "waits" {
        app.gate.pass().await;
    }
    (StatusCode::CREATED, format!("{}, payment {count} of its user", app.runs.next()))
}

struct Shop {
    app: App,
    idempotency: Idempotency,
    router: Router,
}

fn open(place: Place) -> Shop {
    let sessions = SessionManagerLayer::new(tower_sessions::MemoryStore::default());
    let layer = AuthManagerLayerBuilder::new(Users, sessions).build();
    let handlers = Router::new()
        .route("/pay", route(pay))
        .route_layer(login_required!(Users))
        .route("/login/{id}", route(log_in))
        .route("/logout", route(log_out));
    let (app, idempotency) = (App::default(), Idempotency::new(MemoryStore::new()));
    let router = put!(layer, place, handlers).layer(idempotency.clone()).with_state(app.clone());
    Shop { app, idempotency, router }
}

impl Shop {
    async fn log_in(&self, id: u64) -> String {
        let answer = post(&format!("/login/{id}")).send(&self.router).await;
        let line = answer.header("set-cookie").expect("a session");
        line.split(';').next().expect("a part").to_owned()
    }

    async fn send(&self, ask: Ask) -> (u16, String, bool) {
        let answer = ask.send(&self.router).await;
        (answer.status.as_u16(), answer.text().to_owned(), answer.is_replay())
    }
}

fn paid(text: &str, is_replay: bool) -> (u16, String, bool) {
    (201, text.to_owned(), is_replay)
}

#[tokio::test]
async fn each_user_has_keys_of_its_own_in_either_place() {
    for place in PLACES {
        let shop = open(place);
        let (ada, bob, key) = (shop.log_in(1).await, shop.log_in(2).await, fresh_key());
        for is_replay in [false, true] {
            for (session, text) in
                [(&ada, "run 1, payment 1 of its user"), (&bob, "run 2, payment 1 of its user")]
            {
                let pay = post("/pay").key(&key).header("cookie", session);
                assert_eq!(shop.send(pay).await, paid(text, is_replay), "{place:?}");
            }
        }
        // The sessions were saved.
        let pay = post("/pay").header("cookie", &ada);
        assert_eq!(shop.send(pay).await, paid("run 3, payment 2 of its user", false));
    }
}

#[tokio::test]
async fn nobody_gets_a_replay_after_logging_out_in_either_place() {
    for place in PLACES {
        let shop = open(place);
        let (session, key) = (shop.log_in(1).await, fresh_key());
        let pay = || post("/pay").key(&key).header("cookie", &session);
        assert_eq!(shop.send(pay()).await, paid("run 1, payment 1 of its user", false));
        post("/logout").header("cookie", &session).send(&shop.router).await;
        let (status, text, is_replay) = shop.send(pay()).await;
        assert_eq!((status, text.as_str(), is_replay), (401, "", false), "{place:?}");
        assert_eq!(shop.send(post("/pay").key(&key)).await.0, 401);
        assert_eq!(shop.app.runs.count(), 1);
    }
}

#[tokio::test]
async fn what_a_caller_that_leaves_has_in_its_session_is_saved_inside_alone() {
    for place in PLACES {
        let shop = open(place);
        let (session, key) = (shop.log_in(1).await, fresh_key());
        let pay = || post("/pay").key(&key).header("cookie", &session).body("waits");
        leave(pay(), &shop.router, &shop.app.gate, &shop.idempotency).await;
        assert_eq!(shop.send(pay()).await, paid("run 1, payment 1 of its user", true));
        let next = post("/pay").key(fresh_key()).header("cookie", &session);
        let text = match place {
            Inside => "run 2, payment 2 of its user",
            // The session does not know about the first payment.
            Outside => "run 2, payment 1 of its user",
        };
        assert_eq!(shop.send(next).await, paid(text, false), "{place:?}");
    }
}

#[tokio::test]
async fn without_a_key_a_caller_that_leaves_leaves_nothing_in_its_session() {
    for place in PLACES {
        let shop = open(place);
        let session = shop.log_in(1).await;
        let pay = || post("/pay").header("cookie", &session);
        leave(pay().body("waits"), &shop.router, &shop.app.gate, &shop.idempotency).await;
        assert_eq!(
            shop.send(pay()).await,
            paid("run 1, payment 1 of its user", false),
            "{place:?}"
        );
    }
}
