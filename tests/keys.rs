//! Section "Reading the key" of the contract: which header values are a key, which of them are the
//! same key, and what a client is told about all others.

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

const UUID: &str = "2c5ea4c0-4067-41fe-8bad-9b1deb4d3b7d";
const UUID_DETAIL: &str =
    "Invalid idempotency key format. The idempotency-key must be a valid UUID";

#[idempotent]
async fn uuid(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
}

#[idempotent(format = "uuid-v4")]
async fn uuid_v4(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
}

#[idempotent(format = "any", principal = "everyone")]
async fn any(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
}

#[idempotent(format = "any", principal = "everyone", header = ["x-first", "x-second", "x-third"])]
async fn three_names(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
}

/// Every format on a route of its own, on a store of its own.
fn app() -> (Router, Runs) {
    let runs = Runs::default();
    let app = Router::new()
        .route("/uuid", route(uuid))
        .route("/uuid-v4", route(uuid_v4))
        .route("/any", route(any))
        .route("/three", route(three_names))
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(runs.clone());
    (app, runs)
}

/// Asserts that each of `values` is a valid key on `path`, and that all of them are the same one.
async fn assert_same_key<V: AsRef<[u8]>>(path: &str, values: &[V]) {
    let (app, runs) = app();
    for (index, value) in values.iter().enumerate() {
        let answer = post(path).key(value).send(&app).await;
        let shown = String::from_utf8_lossy(value.as_ref());
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "run 1"), "{shown:?}");
        assert_eq!(answer.is_replay(), index > 0, "{shown:?}");
    }
    assert_eq!(runs.count(), 1);
}

/// Asserts that each of `values` is a valid key on `path`, and that none is the same as another.
async fn assert_different_keys<V: AsRef<[u8]>>(path: &str, values: &[V]) {
    let (app, runs) = app();
    for value in values {
        let answer = post(path).key(value).send(&app).await;
        let shown = String::from_utf8_lossy(value.as_ref());
        assert_eq!((answer.status.as_u16(), answer.is_replay()), (200, false), "{shown:?}");
    }
    assert_eq!(runs.count(), values.len());
}

/// Asserts that each of `values` is refused on `path` as invalid, and that nothing runs.
async fn assert_invalid<V: AsRef<[u8]>>(path: &str, values: &[V]) {
    let (app, runs) = app();
    for value in values {
        let answer = post(path).key(value).send(&app).await;
        let shown = String::from_utf8_lossy(value.as_ref());
        assert_eq!(answer.problem(), (400, "invalid_key".to_owned()), "{shown:?}");
    }
    assert_eq!(runs.count(), 0);
}

#[tokio::test]
async fn a_uuid_is_the_same_key_in_every_case() {
    assert_same_key("/uuid", &[UUID, &UUID.to_uppercase(), "2C5EA4C0-4067-41fe-8bad-9B1DEB4D3B7D"])
        .await;
}

#[tokio::test]
async fn a_uuid_of_any_version_and_variant_is_a_key() {
    assert_different_keys(
        "/uuid",
        &[
            "c232ab00-9414-11ec-b3c8-9f6bdeced846",
            "5df41881-3aed-3515-88a7-2f4a814cf09e",
            "919108f7-52d1-4320-9bac-f847db4148a8",
            "2ed6657d-e927-568b-95e1-2665a8aea6a2",
            "1ec9414c-232a-6b00-b3c8-9f6bdeced846",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "2489e9ad-2ee2-8e00-8ec9-32d5f69181c0",
            "00000000-0000-0000-0000-000000000001",
            "ffffffff-ffff-ffff-ffff-fffffffffffe",
        ],
    )
    .await;
}

#[tokio::test]
async fn nil_and_max_are_no_uuid_keys() {
    let nil = "00000000-0000-0000-0000-000000000000";
    let max = "ffffffff-ffff-ffff-ffff-ffffffffffff";
    assert_invalid("/uuid", &[nil, max, &max.to_uppercase()]).await;
    assert_invalid("/uuid-v4", &[nil, max]).await;
}

#[tokio::test]
async fn only_the_hyphenated_form_of_a_uuid_is_a_key() {
    let simple = UUID.replace('-', "");
    let values = [
        simple.clone(),
        format!("{{{UUID}}}"),
        format!("urn:uuid:{UUID}"),
        format!("{simple}----"),
        format!("{}-", &UUID[..35]),
        UUID[..35].to_owned(),
        format!("{UUID}0"),
        UUID.replace('2', "g"),
        UUID.replace('-', " "),
        UUID.replace('-', "_"),
        format!("{UUID},{UUID}"),
        format!("{UUID}, {UUID}"),
        "not-a-uuid".to_owned(),
        "null".to_owned(),
    ];
    assert_invalid("/uuid", &values).await;
}

#[tokio::test]
async fn uuid_v4_also_asks_for_version_and_variant() {
    assert_same_key("/uuid-v4", &[UUID, &UUID.to_uppercase(), &format!("\"{UUID}\"")]).await;
    let invalid = [
        "c232ab00-9414-11ec-b3c8-9f6bdeced846",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        "2489e9ad-2ee2-8e00-8ec9-32d5f69181c0",
        // Version 4 with each of the other variants.
        "2c5ea4c0-4067-41fe-0bad-9b1deb4d3b7d",
        "2c5ea4c0-4067-41fe-cbad-9b1deb4d3b7d",
        "2c5ea4c0-4067-41fe-ebad-9b1deb4d3b7d",
    ];
    assert_invalid("/uuid-v4", &invalid).await;
}

#[tokio::test]
async fn spaces_and_tabs_around_a_key_are_trimmed() {
    let values = [UUID.to_owned(), format!("  {UUID} "), format!("\t{UUID}\t \t")];
    assert_same_key("/uuid", &values).await;
    let quoted = [format!("\t \"{UUID}\" \t"), format!(" \"{UUID}\";p\t")];
    assert_same_key("/uuid", &[&values[..], &quoted[..]].concat()).await;
    assert_same_key("/any", &["a b", " a b ", "\ta b\t", "\t\"a b\" "]).await;
}

#[tokio::test]
async fn a_quoted_key_and_a_bare_one_are_the_same_key() {
    assert_same_key("/uuid", &[UUID.to_owned(), format!("\"{UUID}\"")]).await;
    assert_same_key("/any", &["order-1", "\"order-1\""]).await;
}

#[tokio::test]
async fn parameters_of_a_quoted_key_are_ignored() {
    let parameters =
        ["", ";a", ";a=1", "; a=?0;b=\"x;\\\"y\"", ";c=:aGk=:", ";d=tok/en", ";e=-1.5"];
    let values = parameters.map(|parameters| format!("\"{UUID}\"{parameters}"));
    assert_same_key("/uuid", &values).await;
}

#[tokio::test]
async fn escapes_in_a_quoted_key_stand_for_their_characters() {
    assert_same_key("/any", &[r#"a\b"c"#, r#""a\\b\"c""#]).await;
    assert_different_keys("/any", &[r"a\\b", r#""a\\b""#]).await;
}

#[tokio::test]
async fn spaces_inside_the_quotes_belong_to_the_key() {
    assert_different_keys("/any", &["a", "\" a\"", "\"a \"", "\" a \""]).await;
    assert_invalid("/uuid", &[format!("\" {UUID}\""), format!("\"{UUID} \"")]).await;
}

#[tokio::test]
async fn a_value_that_begins_with_a_quote_must_be_a_whole_string_item() {
    let values = [
        "\"",
        "\"abc",
        "\"abc\"def",
        "\"abc\" \"def\"",
        "\"abc\", \"def\"",
        "\"abc\\\"",
        r#""a\bc""#,
        "\"a\tb\"",
        "\"abc\";",
        "\"abc\";A=1",
        "\"abc\";a=",
        "\"abc\" ;a=1",
    ];
    assert_invalid("/any", &values).await;
    assert_invalid("/uuid", &[format!("\"{UUID}"), format!("\"{UUID}\"x")]).await;
}

#[tokio::test]
async fn a_key_that_only_ends_with_a_quote_is_taken_as_it_is() {
    assert_different_keys("/any", &["a", "a\"", "'a'", "a;b=1"]).await;
    assert_invalid("/uuid", &[format!("{UUID}\""), format!("{UUID};a=1")]).await;
}

#[tokio::test]
async fn empty_and_blank_keys_are_invalid_not_missing() {
    for path in ["/uuid", "/uuid-v4", "/any"] {
        assert_invalid(path, &["", " ", "\t", " \t ", "\"\"", " \"\" ", "\"\";a=1"]).await;
    }
    assert_invalid("/uuid", &["\" \""]).await;
}

#[tokio::test]
async fn bytes_beyond_ascii_are_invalid_not_missing() {
    let cyrillic = UUID.replace('c', "\u{441}");
    let values: [&[u8]; 7] = [
        b"\xff",
        b"caf\xe9",
        "caf\u{e9}".as_bytes(),
        "\"caf\u{e9}\"".as_bytes(),
        cyrillic.as_bytes(),
        b"2c5ea4c0-4067-41fe-8bad-9b1deb4d3b\xc3\xa9",
        "\u{2160}".as_bytes(),
    ];
    for path in ["/uuid", "/uuid-v4", "/any"] {
        assert_invalid(path, &values).await;
    }
}

#[tokio::test]
async fn any_takes_1_to_255_characters() {
    let of_length = |length: usize| "k".repeat(length);
    assert_different_keys("/any", &[of_length(1), of_length(2), of_length(254), of_length(255)])
        .await;
    let invalid = [of_length(0), of_length(256), of_length(4096)];
    assert_invalid("/any", &invalid).await;
    assert_invalid("/uuid", &invalid).await;
    let quoted = |length: usize| format!("\"{}\"", of_length(length));
    assert_same_key("/any", &[of_length(255), quoted(255)]).await;
    assert_invalid("/any", &[quoted(256)]).await;
    // The length is that of the key, not of its escaped form.
    assert_same_key("/any", &["\\".repeat(255), format!("\"{}\"", "\\\\".repeat(255))]).await;
}

#[tokio::test]
async fn any_takes_every_printable_ascii_character() {
    let printable: String = (' '..='~').collect();
    // A leading space would be trimmed, and a leading quote begins a string.
    let bare = format!("k{printable}.");
    let escaped = bare.replace('\\', "\\\\").replace('"', "\\\"");
    assert_same_key("/any", &[bare, format!("\"{escaped}\"")]).await;
    assert_invalid("/any", &["a\tb"]).await;
}

#[tokio::test]
async fn any_is_case_sensitive() {
    assert_different_keys("/any", &["Order", "order", "ORDER", UUID, &UUID.to_uppercase()]).await;
}

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
    // Where keys are any text, their case makes them different.
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
async fn no_value_is_a_server_error_or_taken_for_a_missing_key() {
    let app = Router::new()
        .route("/uuid", route(required))
        .route("/any", route(required_any))
        .layer(Idempotency::new(MemoryStore::new()));
    // All that a header value can hold.
    for byte in (0..=255).filter(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 127)) {
        let mut edited = UUID.as_bytes().to_owned();
        edited[17] = byte;
        let values = [
            vec![byte],
            vec![b'"', byte],
            vec![b'"', byte, b'"'],
            vec![b'"', b'\\', byte, b'"'],
            vec![b'"', b'a', b'"', byte],
            vec![b'"', b'a', b'"', b';', byte],
            vec![b'a', byte, b'a'],
            edited,
        ];
        for value in values {
            for path in ["/uuid", "/any"] {
                let answer = post(path).key(&value).send(&app).await;
                let shown = value.escape_ascii();
                if answer.status != 200 {
                    assert_eq!(answer.problem(), (400, "invalid_key".to_owned()), "{path} {shown}");
                }
            }
        }
    }
    for path in ["/uuid", "/any"] {
        assert_eq!(post(path).send(&app).await.problem(), (400, "missing_key".to_owned()));
    }
}

#[idempotent(required, format = "any", principal = "everyone")]
async fn required_any(_body: Bytes) {}

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

#[idempotent(required)]
async fn required(_body: Bytes) {}

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
    // The body is never sent: what comes is the answer, not `100 Continue`.
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
