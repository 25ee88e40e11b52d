//! The `"request"` fingerprint: what makes two requests the same, what does not, and that it stays
//! the same from release to release.

use std::collections::HashMap;

use axum::{Router, body::Bytes, routing::any};
use idempotent_axum::{Fingerprint, Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Ask, Runs, Server, ask, frames, fresh_key, post};

type Probe = idempotent_test_support::Probe<MemoryStore>;

/// Takes every request with one key for the same operation: only the fingerprint tells them apart.
#[idempotent(scope = "everything")]
async fn everything(_body: Bytes) {}

#[idempotent(scope = "hashed", fingerprint = (7_u32, -1_i64, "text", true, [1_u8, 2], Some('c')))]
async fn hashed(_body: Bytes) {}

fn app(probe: &Probe) -> Router {
    Router::new()
        .route("/hashed", any(hashed))
        .nest("/nested", Router::new().route("/{*path}", any(everything)))
        .fallback(any(everything))
        .layer(Idempotency::new(probe.clone()))
}

/// The salt of every fingerprint here.
const KEY: &str = "2c5ea4c0-4067-41fe-8bad-9b1deb4d3b7d";

/// What the store is told about this request.
async fn fingerprint(ask: Ask) -> Fingerprint {
    let probe = Probe::default();
    let answer = ask.key(KEY).send(&app(&probe)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let claims = probe.claims();
    assert_eq!(claims.len(), 1);
    claims[0].1
}

#[tokio::test]
async fn every_part_of_a_request_is_in_its_fingerprint_and_no_byte_can_move_between_parts() {
    let typed = |content_type: &str| post("/p").header("content-type", content_type);
    let requests = [
        ("base", post("/p")),
        ("method", ask("PUT".parse().expect("a method"), "/p")),
        ("longer method", ask("POSTP".parse().expect("a method"), "/")),
        ("path", post("/P")),
        ("trailing slash", post("/p/")),
        ("double slash", post("//p")),
        ("escaped", post("/%70")),
        ("empty query", post("/p?")),
        ("query", post("/p?q")),
        ("query with an empty value", post("/p?q=")),
        ("query and body", post("/p?q").body("=")),
        ("order", post("/p?a=1&b=2")),
        ("other order", post("/p?b=2&a=1")),
        ("query in the body", post("/p").body("?q")),
        ("bare query in the body", post("/p").body("q")),
        ("empty query, then body", post("/p?").body("q")),
        ("path in the query", post("/?p")),
        ("path in the body", post("/").body("p")),
        ("content type", typed("text/plain")),
        ("content type, body", typed("text").body("/plain")),
        ("content type in the body", post("/p").body("text/plain")),
        ("content type in the query", post("/p?text/plain")),
        ("other content type", typed("application/json")),
        ("body", post("/p").body("body")),
        ("body with a byte more", post("/p").body("body\0")),
        ("body of one zero", post("/p").body("\0")),
        ("body of two zeros", post("/p").body("\0\0")),
        ("body in another case", post("/p").body("Body")),
        ("body that is no text", post("/p").body(b"\xff".to_vec())),
        ("nested", post("/nested/p")),
        ("another nested", post("/nested/q")),
    ];
    let mut seen = HashMap::new();
    for (name, request) in requests {
        let fingerprint = fingerprint(request).await;
        if let Some(other) = seen.insert(fingerprint, name) {
            panic!("{name:?} and {other:?} are the same request");
        }
    }
}

#[tokio::test]
async fn requests_that_differ_only_in_other_headers_are_the_same() {
    let base = fingerprint(post("/p").body("b")).await;
    for (name, value) in [("user-agent", "x"), ("accept", "*/*"), ("traceparent", "00-1-1-00")] {
        assert_eq!(fingerprint(post("/p").body("b").header(name, value)).await, base);
    }
    // Neither the key's spelling nor the host counts.
    assert_eq!(fingerprint(post("http://other.example/p").body("b")).await, base);
}

#[tokio::test]
async fn parameters_and_case_of_the_content_type_do_not_matter() {
    let typed = |value: &'static str| fingerprint(post("/p").header("content-type", value));
    let base = typed("application/json").await;
    let same = [
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON",
        " application/json ",
        "application/json ; a=b; c=d",
        "application/json;",
    ];
    for value in same {
        assert_eq!(typed(value).await, base, "{value}");
    }
    assert_ne!(typed("application/jsonx").await, base);
    assert_ne!(typed("application/problem+json").await, base);
}

#[tokio::test]
async fn a_different_fingerprint_is_422_and_an_equal_one_a_replay() {
    let app = app(&Probe::default());
    let key = fresh_key();
    let status = async |ask: Ask| ask.key(&key).send(&app).await;
    assert!(!status(post("/p?q").body("b")).await.is_replay());
    assert!(status(post("/p?q").body("b")).await.is_replay());
    for other in [post("/p").body("?qb"), post("/p?qb"), post("/p?").body("qb")] {
        assert_eq!(status(other).await.problem(), (422, "key_reused".to_owned()));
    }
}

#[tokio::test]
async fn how_a_body_is_cut_does_not_matter() {
    let whole = fingerprint(post("/p").body("hello world")).await;
    let cuts =
        [vec!["hello world"], vec!["hello", " ", "world"], vec!["", "h", "", "ello world", ""]];
    for chunks in cuts {
        let (sender, body) = frames();
        for chunk in chunks {
            sender.data(chunk);
        }
        drop(sender);
        assert_eq!(fingerprint(post("/p").body(body)).await, whole);
    }
}

#[idempotent]
async fn run(axum::extract::State(runs): axum::extract::State<Runs>, body: String) -> String {
    format!("{}: {body}", runs.next())
}

#[tokio::test]
async fn chunked_equals_content_length_on_the_wire() {
    let runs = Runs::default();
    let app = Router::new()
        .route("/run", axum::routing::post(run))
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(runs.clone());
    let server = Server::start(app).await;
    let key = fresh_key();
    let exchange = async |framing_and_body: &str| {
        let head = format!(
            "POST /run HTTP/1.1\r\nHost: h\r\nIdempotency-Key: {key}\r\nConnection: close\r\n"
        );
        server.exchange(head + framing_and_body).await
    };
    let first = exchange("Content-Length: 5\r\n\r\nhello").await;
    assert_eq!((first.status.as_u16(), first.text()), (200, "run 1: hello"));
    let chunked =
        exchange("Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n").await;
    assert!(chunked.is_replay());
    assert_eq!(chunked.body, first.body);
    let other =
        exchange("Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllx\r\n0\r\n\r\n").await;
    assert_eq!(other.status, 422);
    assert_eq!(runs.count(), 1);
}

/// These values are in the stores of running services: a release that computed a different one would
/// answer 422 to retries of requests that an older one has stored. They were computed by another program.
#[tokio::test]
async fn fingerprints_are_stable_across_processes_and_releases() {
    let golden = [
        (post("/payments"), "5f569022315a96331cb16a3363fee65a"),
        (post("/payments?dry=1").json("{\"amount\": 1}"), "ea40d446551984ef68e2b424c9d4333f"),
        (
            ask("PUT".parse().expect("a method"), "/nested/7").body("text"),
            "1055d58775b78a09a87336723c799616",
        ),
        // Around the length at which a field's length takes more bytes.
        (
            post(&format!("/{}?{}", "p".repeat(253), "q".repeat(254))).body("b".repeat(255)),
            "a74aa743569d15eb77d52cbecb331b5a",
        ),
        (
            post(&format!("/{}?{}", "p".repeat(254), "q".repeat(255))).body("b".repeat(100_000)),
            "220a43ed7735ff6fa6099b67bc3bc22e",
        ),
        (post("/hashed").body("not looked at"), "338537449bdefbe716c9c87d0fe60228"),
    ];
    for (request, expected) in golden {
        let shown = format!("{request:?}");
        assert_eq!(fingerprint(request).await.to_string(), expected, "{shown}");
    }
}

/// A release that computed a different one would miss what an older one has stored, and run it again.
#[tokio::test]
async fn store_keys_are_stable_across_processes_and_releases() {
    #[idempotent]
    async fn plain() {}
    #[idempotent(principal = "ann")]
    async fn with_principal() {}
    #[idempotent(scope = "pay", principal = Option::<u32>::None)]
    async fn with_scope() {}

    let probe = Probe::default();
    let app = Router::new()
        .route("/plain/{id}", any(plain))
        .route("/principal", any(with_principal))
        .route("/scope", any(with_scope))
        .nest("/in", Router::new().fallback(any(plain)))
        .layer(Idempotency::new(probe.clone()));
    let golden = [
        ("/plain/1", "0e62b5d23e19d64fc4382b00254f41e1"),
        ("/principal", "c48b996ac641fc5533b05931b03d94db"),
        ("/scope", "99cfde4578b0fc3709d3a7cc0ad9ce22"),
        ("/in/no/template", "ef4aba6c2b745dc3fe9c3d5ca11448ad"),
    ];
    for (path, _) in golden {
        post(path).key(KEY).send(&app).await;
    }
    let claimed: Vec<_> = probe.claims().iter().map(|(key, _)| key.to_string()).collect();
    assert_eq!(claimed, golden.map(|(_, expected)| expected));
}
