//! First responses and replays byte for byte on the wire, compared with those of the same handler
//! without the attribute.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use idempotent_test_support::{Answer, Server, fresh_key};

use super::{app, exchange};

/// All but what differs from answer to answer.
fn comparable(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    answer.headers.remove("date");
    answer.headers.remove("idempotent-replayed");
    answer
}

/// Asserts that on the wire a first response and its replay differ from those of the same handler
/// without the attribute only by the marker.
async fn assert_same_on_the_wire(
    method: &str,
    path: [&str; 2],
    response: impl Fn() -> Response,
) -> Answer {
    let (app, script) = app([response(), response()]);
    let server = Server::start(app).await;
    let key = fresh_key();
    let bare = exchange(&server, method, path[0], &key).await;
    let first = exchange(&server, method, path[1], &key).await;
    let replay = exchange(&server, method, path[1], &key).await;
    assert_eq!(comparable(&first), comparable(&bare), "the first response");
    assert_eq!(comparable(&replay), comparable(&bare), "the replay");
    assert!(replay.is_replay());
    assert_eq!(script.left(), 0);
    replay
}

#[tokio::test]
async fn a_204_has_no_content_length_on_the_wire() {
    let response = || StatusCode::NO_CONTENT.into_response();
    let replay = assert_same_on_the_wire("POST", ["/bare", "/"], response).await;
    assert_eq!((replay.status.as_u16(), replay.header("content-length")), (204, None));
    assert_eq!(replay.text(), "");
}

#[tokio::test]
async fn a_304_is_the_same_on_the_wire() {
    let response = || (StatusCode::NOT_MODIFIED, [("etag", "\"1\"")]).into_response();
    let replay = assert_same_on_the_wire("GET", ["/bare", "/"], response).await;
    assert_eq!((replay.status.as_u16(), replay.text()), (304, ""));
}

#[tokio::test]
async fn a_redirect_without_a_body_is_the_same_on_the_wire() {
    let response = || (StatusCode::SEE_OTHER, [("location", "/there")]).into_response();
    let replay = assert_same_on_the_wire("POST", ["/bare", "/"], response).await;
    assert_eq!(replay.header("location"), Some("/there"));
}

#[tokio::test]
async fn a_head_response_has_the_length_of_the_body_that_it_leaves_out() {
    let replay =
        assert_same_on_the_wire("HEAD", ["/bare-get", "/get"], || "12345".into_response()).await;
    assert_eq!(replay.header("content-length"), Some("5"));
    assert_eq!(replay.text(), "");
}

#[tokio::test]
async fn a_length_of_a_body_left_out_is_replayed_not_replaced_by_0() {
    // A handler for HEAD may know the length of a body that it does not make, and so may a 304.
    let response = || ([(header::CONTENT_LENGTH, "12345")], ()).into_response();
    let replay = assert_same_on_the_wire("HEAD", ["/bare", "/"], response).await;
    assert_eq!(replay.header("content-length"), Some("12345"));
    let response = || (StatusCode::NOT_MODIFIED, response()).into_response();
    assert_same_on_the_wire("GET", ["/bare", "/"], response).await;
}

#[tokio::test]
async fn get_and_head_over_one_route_are_each_replayed_to_themselves() {
    let (app, _) = app(["get".into_response(), "head".into_response()]);
    let server = Server::start(app).await;
    let key = fresh_key();
    assert_eq!(exchange(&server, "GET", "/get", &key).await.text(), "get");
    let head = exchange(&server, "HEAD", "/get", &key).await;
    assert_eq!((head.header("content-length"), head.text()), (Some("4"), ""));
    let replay = exchange(&server, "GET", "/get", &key).await;
    assert_eq!(replay.text(), "get");
}
