//! The service as a process: how it starts, what it says when it cannot, how it ends.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use crate::service::{BEGUN, ENTITIES, INVITE, Service, fresh_key, json, program, refusal, send};
use serde_json::{Value, json as body};
use tokio::net::TcpStream;

const INPUT: &str = r#"{"email":"ada@example.com","entityName":"Ada Ltd"}"#;

#[tokio::test]
async fn port_zero_takes_a_free_port_and_says_which() {
    let (one, other) = (Service::start(&[]).await, Service::start(&[]).await);
    assert_ne!(one.addr, other.addr);
    assert!(!one.addr.ends_with(":0"));
    assert!(send(one.get(ENTITIES)).await.status().is_success());
}

#[tokio::test]
async fn an_address_in_use_is_one_clear_line() {
    let service = Service::start(&[]).await;
    let line = refusal(program(&[("ONBOARDING_ADDR", &service.addr)])).await;
    assert!(line.contains(&service.addr) && line.contains("in use"), "{line}");
}

#[tokio::test]
async fn a_bad_variable_is_one_clear_line() {
    for (name, value) in [
        ("ONBOARDING_ADDR", "here"),
        ("ONBOARDING_ADDR", ""),
        ("ONBOARDING_LATENCY", "300"),
        ("ONBOARDING_LATENCY", "-1s\n"),
        ("ONBOARDING_LEASE", "2"),
        ("ONBOARDING_LEASE", "0s"),
        ("ONBOARDING_NEAR_CACHE", "32MiB"),
        ("RUST_LOG", "debug=="),
    ] {
        let line = refusal(program(&[(name, value)])).await;
        assert!(line.starts_with(&format!("onboarding: {name} must be ")), "{line}");
    }
    let mut not_unicode = program(&[]);
    not_unicode.env("ONBOARDING_LATENCY", OsStr::from_bytes(b"\xff"));
    assert!(refusal(not_unicode).await.contains("ONBOARDING_LATENCY must be"));
}

#[tokio::test]
async fn a_store_that_is_none_is_one_clear_line_without_its_password() {
    for (value, said) in [
        ("", "this is no store"),
        ("redis", "this is no store"),
        ("Memory", "this is no store"),
        ("mysql://app:secret@localhost/app", "`mysql:`"),
    ] {
        let line = refusal(program(&[("ONBOARDING_STORE", value)])).await;
        assert!(line.starts_with("onboarding: ONBOARDING_STORE: "), "{line}");
        assert!(line.contains(said) && line.contains("`redis://…`"), "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
}

#[cfg(not(any(feature = "redis", feature = "postgres", feature = "sqlite")))]
#[tokio::test]
async fn a_store_that_is_not_built_in_is_one_clear_line_that_says_how_to_build_it() {
    for (url, feature) in [
        ("redis://localhost", "redis"),
        ("rediss://localhost", "redis"),
        ("unix:///run/redis.sock", "redis"),
        ("postgres://app@localhost/app", "postgres"),
        ("postgresql://app@localhost/app", "postgres"),
        ("sqlite:idempotency.db", "sqlite"),
    ] {
        let line = refusal(program(&[("ONBOARDING_STORE", url)])).await;
        assert!(line.contains(&format!("build the service with `--features {feature}`")), "{line}");
    }
}

#[tokio::test]
async fn either_signal_lets_a_request_in_flight_end() {
    for signal in ["TERM", "INT"] {
        let service = Service::start(&[("ONBOARDING_LATENCY", "500ms")]).await;
        let input: Value = body!({"email": "ada@example.com", "entityName": "Ada Ltd"});
        let request = service.post(INVITE).header("idempotency-key", fresh_key()).json(&input);
        let request = tokio::spawn(send(request));
        service.logged(BEGUN).await;
        service.signal(signal).await;
        let response = request.await.expect("the service answers");
        assert_eq!(json::<Value>(response).await["entityName"], "Ada Ltd");
        let (status, log) = service.ended().await;
        assert!(status.success(), "{status}: {log}");
    }
}

#[tokio::test]
async fn a_signal_waits_for_a_handler_whose_caller_went_away() {
    for signal in ["TERM", "INT"] {
        let service = Service::start(&[("ONBOARDING_LATENCY", "500ms")]).await;
        service.cut_off(INVITE, &fresh_key(), INPUT).await;
        service.signal(signal).await;
        let (status, log) = service.ended().await;
        assert!(status.success(), "{status}: {log}");
        let (received, created) = (log.find("shutting down"), log.find("entity created"));
        assert!(received.is_some() && received < created, "{log}");
    }
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_the_shutdown() {
    let service = Service::start(&[]).await;
    // The client keeps this one open for its next request; the other has never sent a byte.
    assert!(send(service.get(ENTITIES)).await.status().is_success());
    let silent = TcpStream::connect(&service.addr).await.expect("it listens");
    service.signal("TERM").await;
    let (status, log) = service.ended().await;
    assert!(status.success(), "{status}: {log}");
    drop(silent);
}

#[tokio::test]
async fn an_open_stream_of_events_does_not_hold_the_shutdown() {
    let service = Service::start(&[]).await;
    let stream = send(service.get("/page/events")).await;
    service.signal("TERM").await;
    let rest = stream.text().await.expect("it ends, and is not cut off");
    assert!(rest.starts_with("event: connected\n"), "{rest}");
    let (status, log) = service.ended().await;
    assert!(status.success(), "{status}: {log}");
}

#[tokio::test]
async fn a_second_signal_ends_the_service_at_once() {
    let service = Service::start(&[("ONBOARDING_LATENCY", "1h")]).await;
    service.cut_off(INVITE, &fresh_key(), INPUT).await;
    service.signal("TERM").await;
    service.logged("shutting down").await;
    service.signal("INT").await;
    let (status, log) = service.ended().await;
    assert_eq!(status.code(), Some(1));
    assert!(log.ends_with("onboarding: ended by a second signal, before every request was done\n"));
}
