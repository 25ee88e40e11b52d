//! Which header lines give the key, that they are read before the body, and that no error echoes
//! them.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::Method,
    routing::post as route,
};
use http_body::Frame;
use http_body_util::BodyExt as _;
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Answer, Fault, Probe, Runs, Server, ask, frames, fresh_key, post};

use super::{UUID, UUID_DETAIL, app, required, uuid};

#[tokio::test]
async fn two_lines_of_one_header_are_invalid_even_if_equal() {
    let (app, runs) = app();
    for path in ["/uuid", "/uuid-v4", "/any"] {
        for name in ["idempotency-key", "x-idempotency-key"] {
            for second in [UUID, "cfdb7cba-9e61-4d29-b9b9-b3aad9dd4a2f", ""] {
                let answer = post(path).header(name, UUID).header(name, second).send(&app).await;
                assert_eq!(answer.problem(), (400, "invalid_key".to_owned()), "{name}: {second}");
            }
        }
    }
    assert_eq!(runs.count(), 0);
}

#[tokio::test]
async fn two_header_lines_are_invalid_on_the_wire() {
    let (app, runs) = app();
    let server = Server::start(app).await;
    let answer = server
        .exchange(format!(
            "POST /uuid HTTP/1.1\r\nHost: h\r\nIdempotency-Key: {UUID}\r\n\
             idempotency-key: {UUID}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ))
        .await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("invalid_key"));
    assert_eq!(runs.count(), 0);
}

#[tokio::test]
async fn either_header_name_gives_the_key() {
    let (app, runs) = app();
    let first = post("/uuid").header("idempotency-key", UUID).send(&app).await;
    let second = post("/uuid").header("x-idempotency-key", UUID).send(&app).await;
    assert!(!first.is_replay() && second.is_replay());
    assert_eq!((second.text(), runs.count()), (first.text(), 1));
}

#[tokio::test]
async fn two_names_with_one_key_after_normalising_are_one_key() {
    let (app, runs) = app();
    let quoted = format!(" \"{}\";a=1", UUID.to_uppercase());
    for (one, other) in [(UUID, UUID), (UUID, &quoted), (&quoted, UUID)] {
        let ask = post("/uuid").header("idempotency-key", one).header("x-idempotency-key", other);
        assert_eq!(ask.send(&app).await.text(), "run 1");
    }
    let alone = post("/uuid").key(UUID).send(&app).await;
    assert!(alone.is_replay());
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn two_names_with_different_keys_conflict() {
    let (app, runs) = app();
    for (one, other) in [(fresh_key(), fresh_key()), (format!("\"{UUID}\""), fresh_key())] {
        let ask = post("/uuid").header("idempotency-key", one).header("x-idempotency-key", other);
        assert_eq!(ask.send(&app).await.problem(), (400, "conflicting_keys".to_owned()));
    }
    // If a key may be any text, its case matters.
    let ask = post("/any").header("idempotency-key", "a").header("x-idempotency-key", "A");
    assert_eq!(ask.send(&app).await.problem(), (400, "conflicting_keys".to_owned()));
    assert_eq!(runs.count(), 0);
}

#[tokio::test]
async fn an_invalid_key_beside_a_valid_one_is_invalid() {
    let (app, runs) = app();
    for invalid in ["", "x", "\"", "\u{e9}"] {
        for (one, other) in [(UUID, invalid), (invalid, UUID)] {
            let ask =
                post("/uuid").header("idempotency-key", one).header("x-idempotency-key", other);
            assert_eq!(ask.send(&app).await.problem(), (400, "invalid_key".to_owned()));
        }
    }
    assert_eq!(runs.count(), 0);
}

#[tokio::test]
async fn every_configured_name_is_read_and_no_other() {
    let (app, runs) = app();
    for name in ["x-first", "x-second", "x-third"] {
        assert_eq!(post("/three").header(name, "k").send(&app).await.text(), "run 1");
    }
    let ask = post("/three").header("x-first", "k").header("x-third", "other");
    assert_eq!(ask.send(&app).await.problem(), (400, "conflicting_keys".to_owned()));
    let ask = post("/three").header("x-first", "k").header("x-third", "k");
    assert_eq!(ask.send(&app).await.text(), "run 1");
    // Not configured here, so not even an invalid value is looked at.
    let unprotected = post("/three").key("\"").send(&app).await;
    assert_eq!((unprotected.text(), unprotected.is_replay()), ("run 2", false));
    assert_eq!(runs.count(), 2);
}

#[tokio::test]
async fn the_detail_of_an_invalid_uuid_is_exact() {
    let (app, _) = app();
    let detail = |answer: Answer| answer.json()["detail"].as_str().map(ToOwned::to_owned);
    for path in ["/uuid", "/uuid-v4"] {
        for name in ["idempotency-key", "x-idempotency-key"] {
            for value in ["", "invalid", "\"invalid\""] {
                let answer = post(path).header(name, value).send(&app).await;
                assert_eq!(detail(answer).as_deref(), Some(UUID_DETAIL));
            }
        }
        let two_lines = post(path).key(UUID).key(UUID).send(&app).await;
        assert_eq!(detail(two_lines).as_deref(), Some(UUID_DETAIL));
    }
}

#[tokio::test]
async fn errors_never_echo_the_key() {
    const SECRET: &str = "sk_live_9f8e7d6c";
    let (app, _) = app();
    let long = SECRET.repeat(20);
    let requests = [
        post("/uuid").key(SECRET),
        post("/any").key(&long),
        post("/any").key(format!("\"{SECRET}")),
        post("/any").key(SECRET).key(SECRET),
        post("/any").header("idempotency-key", SECRET).header("x-idempotency-key", "other"),
        post("/any").key(SECRET).body("other body"),
    ];
    assert_eq!(post("/any").key(SECRET).send(&app).await.status, 200);
    for request in requests {
        let answer = request.send(&app).await;
        assert!(answer.status.is_client_error(), "{answer:?}");
        assert!(!format!("{answer:?}").contains(SECRET), "{answer:?}");
    }
}

/// A body that must not be read.
struct Untouchable;

impl http_body::Body for Untouchable {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        panic!("the body is read before the key is validated")
    }
}

#[tokio::test]
async fn the_key_is_validated_before_the_body_is_read() {
    let (app, _) = app();
    let untouchable = || Body::new(Untouchable);
    let invalid = post("/uuid").key("x").body(untouchable()).send(&app).await;
    assert_eq!(invalid.problem(), (400, "invalid_key".to_owned()));
    let conflicting = post("/any")
        .header("idempotency-key", "a")
        .header("x-idempotency-key", "b")
        .body(untouchable());
    assert_eq!(conflicting.send(&app).await.problem(), (400, "conflicting_keys".to_owned()));
    let required = Router::new().route("/required", route(required));
    let missing = ask(Method::POST, "/required").body(untouchable()).send(&required).await;
    assert_eq!(missing.problem(), (400, "missing_key".to_owned()));
}

#[tokio::test]
async fn a_bad_key_is_refused_without_asking_for_the_body_a_client_holds_back() {
    let (app, runs) = app();
    let server = Server::start(app).await;
    let head = |key: &str| {
        format!(
            "POST /uuid HTTP/1.1\r\nHost: h\r\nIdempotency-Key: {key}\r\nContent-Length: 5\r\n\
             Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )
    };
    // The body is never sent: the answer comes instead of `100 Continue`.
    let mut wire = server.connect().await;
    wire.send(head("bad")).await;
    let refused = wire.reply().await.expect("a response");
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains(UUID_DETAIL));
    assert_eq!(runs.count(), 0);

    let mut wire = server.connect().await;
    wire.send(head(UUID)).await;
    let interim = wire.read_until("\r\n\r\n").await;
    assert!(interim.starts_with(b"HTTP/1.1 100 Continue"));
    wire.send("hello").await;
    wire.read_until("run 1").await;
}

#[tokio::test]
async fn without_a_key_the_handler_runs_as_if_the_attribute_were_absent() {
    let runs = Runs::default();
    // A store that can only fail shows that it is not called.
    let app = Router::new()
        .route("/uuid", route(uuid))
        .route("/stream", route(first_frame))
        .layer(Idempotency::new(Probe::<MemoryStore>::default().always(Fault::Fails)))
        .with_state(runs.clone());
    for run in ["run 1", "run 2"] {
        let answer = post("/uuid").send(&app).await;
        assert_eq!((answer.text(), answer.is_replay()), (run, false));
    }
    // Not buffered: the handler answers while the rest of the body is still to come.
    let (sender, body) = frames();
    sender.data("first");
    let answer = post("/stream").body(body).send(&app).await;
    assert_eq!(answer.text(), "first");
    drop(sender);
    // The same request with a key does need the store.
    assert_eq!(post("/uuid").key(UUID).send(&app).await.status, 503);
}

#[idempotent]
async fn first_frame(State(_): State<Runs>, mut body: Body) -> Bytes {
    let frame = body.frame().await.expect("a frame").expect("no error");
    frame.into_data().expect("data")
}
