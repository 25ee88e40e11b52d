//! What a replay keeps of the first response, and what is never stored.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use idempotent_axum::Outcome;
use idempotent_test_support::{Answer, Leased, Server, ask, frames, fresh_key, post};
use tower_http::{
    compression::CompressionLayer,
    cors::{AllowOrigin, CorsLayer},
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};

use super::{all, app, app_on, exchange};

/// The first answer and the replay of a handler that returns `response` once.
async fn first_and_replay(response: Response) -> (Answer, Answer) {
    let (app, _) = app([response]);
    let key = fresh_key();
    let first = post("/everything").key(&key).send(&app).await;
    let replay = post("/everything").key(&key).send(&app).await;
    assert!(!first.is_replay() && replay.is_replay());
    assert_eq!(replay.status, first.status);
    assert_eq!(replay.body, first.body);
    (first, replay)
}

#[tokio::test]
async fn a_replay_has_status_headers_and_body_and_says_that_it_is_one() {
    let response = (
        StatusCode::CREATED,
        [("location", "/members/1"), ("content-type", "text/x-own"), ("etag", "\"1\"")],
        "created",
    );
    let (first, replay) = first_and_replay(response.into_response()).await;
    assert_eq!((first.status, first.text()), (StatusCode::CREATED, "created"));
    let mut expected = first.headers;
    expected.insert("idempotent-replayed", HeaderValue::from_static("true"));
    assert_eq!(replay.headers, expected);
}

#[tokio::test]
async fn repeated_header_lines_come_back_in_order() {
    let mut response = "x".into_response();
    let lines = ["</a>; rel=next", "</b>; rel=prev", "</a>; rel=next", ""];
    for line in lines {
        response.headers_mut().append("link", HeaderValue::from_static(line));
        response.headers_mut().append("vary", HeaderValue::from_static("accept"));
    }
    let (first, replay) = first_and_replay(response).await;
    assert_eq!(all(&first, "link"), lines.map(|line| line.as_bytes().to_owned()));
    assert_eq!(all(&replay, "link"), all(&first, "link"));
    assert_eq!(all(&replay, "vary").len(), 4);
}

#[tokio::test]
async fn a_sensitive_header_is_still_marked_so() {
    let response = || {
        let mut response = "x".into_response();
        for (value, is_sensitive) in [("open", false), ("secret", true), ("open too", false)] {
            let mut value = HeaderValue::from_static(value);
            value.set_sensitive(is_sensitive);
            response.headers_mut().append("x-token", value);
        }
        response
    };
    for (app, _) in [app([response()]), app_on(Leased::default(), [response()])] {
        let key = fresh_key();
        let first = post("/").key(&key).send(&app).await;
        let replay = post("/").key(&key).send(&app).await;
        assert!(!first.is_replay() && replay.is_replay());
        for answer in [first, replay] {
            let lines = answer.headers.get_all("x-token").iter();
            let marks: Vec<_> = lines.map(HeaderValue::is_sensitive).collect();
            assert_eq!(marks, [false, true, false]);
            assert!(!format!("{:?}", answer.headers).contains("secret"));
        }
    }
}

#[tokio::test]
async fn header_values_and_bodies_come_back_byte_for_byte() {
    // Every byte that a header value can have.
    let opaque: Vec<u8> =
        (b'\t'..=255).filter(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 127)).collect();
    let body: Vec<u8> = (0..=255).chain(0..=255).collect();
    let mut response = body.clone().into_response();
    let value = HeaderValue::from_bytes(&opaque).expect("a header value");
    response.headers_mut().insert("x-opaque", value);
    let (_, replay) = first_and_replay(response).await;
    assert_eq!(all(&replay, "x-opaque"), [opaque]);
    assert_eq!(replay.body, body);
}

#[tokio::test]
async fn a_body_of_unknown_length_and_many_frames_is_replayed_whole() {
    let (sender, body) = frames();
    for chunk in ["", "one", "", "two", "three", ""] {
        sender.data(chunk);
    }
    drop(sender);
    let (first, replay) = first_and_replay(Response::new(body)).await;
    assert_eq!((first.text(), replay.text()), ("onetwothree", "onetwothree"));
}

#[tokio::test]
async fn what_belongs_to_one_connection_moment_or_request_is_never_stored() {
    let never_stored = [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x-checksum"),
        ("transfer-encoding", "identity"),
        ("upgrade", "h2c"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authorization", "Basic eA=="),
        ("proxy-authentication-info", "x"),
        ("proxy-connection", "close"),
        ("proxy-status", "x"),
        ("date", "Mon, 01 Jan 2001 00:00:00 GMT"),
        ("content-length", "4"),
        ("set-cookie", "session=1"),
        ("age", "7"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "a=b"),
        ("server-timing", "db;dur=53"),
        ("x-request-id", "r-1"),
    ];
    for (name, value) in never_stored {
        let mut response = "body".into_response();
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response.headers_mut().insert("x-kept", HeaderValue::from_static("1"));
        let (first, replay) = first_and_replay(response).await;
        assert_eq!(first.header(name), Some(value), "the first caller gets `{name}`");
        // Computed for the replay itself.
        let fresh = (name == "content-length").then_some("4");
        assert_eq!(replay.header(name), fresh, "{name}");
        assert_eq!(replay.header("x-kept"), Some("1"));
    }
}

#[tokio::test]
async fn headers_named_by_connection_are_never_stored() {
    let mut response = "body".into_response();
    for line in ["close, X-Hop", "  x-second ,,", "\"bad name"] {
        response.headers_mut().append("connection", HeaderValue::from_static(line));
    }
    for name in ["x-hop", "x-second", "x-kept"] {
        response.headers_mut().append(name, HeaderValue::from_static("1"));
    }
    let (first, replay) = first_and_replay(response).await;
    for name in ["x-hop", "x-second", "connection"] {
        assert!(first.headers.contains_key(name));
        assert!(!replay.headers.contains_key(name), "{name}");
    }
    assert_eq!(replay.header("x-kept"), Some("1"));
}

#[tokio::test]
async fn a_first_response_never_carries_the_marker() {
    // The handler may relay the answer of an upstream service that is idempotent itself.
    let relayed = || {
        let mut response = "upstream".into_response();
        for value in ["true", "false"] {
            let name = HeaderName::from_static("idempotent-replayed");
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        response
    };
    let (first, replay) = first_and_replay(relayed()).await;
    assert_eq!(all(&first, "idempotent-replayed"), Vec::<Vec<u8>>::new());
    assert_eq!(all(&replay, "idempotent-replayed"), [b"true".to_vec()]);
    // Nor does a response that is not stored.
    let not_stored = [
        (Outcome::Retryable, relayed()).into_response(),
        (Outcome::Unknown, relayed()).into_response(),
        (StatusCode::BAD_GATEWAY, relayed()).into_response(),
    ];
    for response in not_stored {
        let (app, _) = app([response]);
        let first = post("/").key(fresh_key()).send(&app).await;
        assert!(!first.headers.contains_key("idempotent-replayed"));
    }
}

#[tokio::test]
async fn date_is_fresh_on_a_replay() {
    const OLD: &str = "Mon, 01 Jan 2001 00:00:00 GMT";
    let (app, _) = app([([(header::DATE, OLD)], "x").into_response()]);
    let server = Server::start(app).await;
    let key = fresh_key();
    let first = exchange(&server, "POST", "/", &key).await;
    assert_eq!(first.header("date"), Some(OLD));
    let replay = exchange(&server, "POST", "/", &key).await;
    let date = replay.header("date").expect("a server with a clock sends a date");
    assert!(date != OLD && date.ends_with(" GMT"));
}

#[tokio::test]
async fn what_outer_layers_add_is_fresh_on_a_replay() {
    let text = "compressible ".repeat(40);
    let (app, script) = app([text.clone().into_response()]);
    let app = app
        .layer(CompressionLayer::new())
        .layer(CorsLayer::new().allow_origin(AllowOrigin::mirror_request()))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid));
    let key = fresh_key();
    let send = async |origin: &str, encoding: &str| {
        let ask = ask("POST".parse().expect("a method"), "/").key(&key).header("origin", origin);
        ask.header("accept-encoding", encoding).send(&app).await
    };
    let first = send("https://one.example", "gzip").await;
    let plain = send("https://two.example", "identity").await;
    let again = send("https://one.example", "gzip").await;
    assert!(!first.is_replay() && plain.is_replay() && again.is_replay());

    assert_eq!(first.header("content-encoding"), Some("gzip"));
    assert_eq!((plain.header("content-encoding"), plain.text()), (None, text.as_str()));
    assert_eq!((again.header("content-encoding"), &again.body), (Some("gzip"), &first.body));

    let origin = "access-control-allow-origin";
    assert_eq!(first.header(origin), Some("https://one.example"));
    assert_eq!(plain.header(origin), Some("https://two.example"));

    let id = |answer: &Answer| answer.header("x-request-id").map(ToOwned::to_owned);
    let ids = [id(&first), id(&plain), id(&again)];
    assert!(ids.iter().all(Option::is_some));
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    // Produced once each, not stored and added again.
    assert_eq!(all(&again, "vary"), all(&first, "vary"));
    assert_eq!(script.left(), 0);
}

#[tokio::test]
async fn a_request_id_of_the_handler_itself_does_not_hide_that_of_a_replay() {
    let (app, _) = app([([("x-request-id", "of-the-first")], "x").into_response()]);
    let app = app
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid));
    let key = fresh_key();
    let first = post("/").key(&key).send(&app).await;
    assert_eq!(first.header("x-request-id"), Some("of-the-first"));
    let replay = post("/").key(&key).header("x-request-id", "of-the-retry").send(&app).await;
    assert_eq!(replay.header("x-request-id"), Some("of-the-retry"));
}
