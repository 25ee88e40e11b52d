//! The operators' routes: what a customer's key holds, and freeing it.

use reqwest::StatusCode;
use serde_json::{Value, json as body};

use crate::service::{
    BEGUN, INVITE, MEMBERS, Service, fresh_key, is_replay, json, program, refusal, send,
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const STATE: &str = "/admin/keys/state";
const FORGET: &str = "/admin/keys/forget";

async fn asked(service: &Service, path: &str, named: &Value) -> (StatusCode, Value) {
    let response = send(service.post(path).bearer_auth(TOKEN).json(named)).await;
    (response.status(), json(response).await)
}

#[tokio::test]
async fn support_frees_a_customers_key() {
    let service = Service::start(&[("ONBOARDING_ADMIN_TOKEN", TOKEN)]).await;
    let member = body!({"firstName": "Ada", "lastName": "L", "email": "ada@example.com"});
    let create = || {
        let request =
            service.post(MEMBERS).bearer_auth("acme").header("x-idempotency-key", "order 7");
        request.json(&member)
    };
    let named = body!({"operation": "POST /v1/members", "principal": "acme", "key": "order 7"});
    let (status, before) = asked(&service, STATE, &named).await;
    assert_eq!((status, &before["state"]), (StatusCode::OK, &body!("absent")));

    assert_eq!(send(create()).await.status(), StatusCode::CREATED);
    let (_, stored) = asked(&service, STATE, &named).await;
    assert_eq!(stored["digest"], before["digest"]);
    assert_eq!((&stored["state"], &stored["kind"]), (&body!("stored"), &body!("response")));
    assert_eq!(stored["status"], 201);
    let expires = stored["expiresAt"].as_str().expect("it says when");
    assert!(expires.starts_with("20") && expires.ends_with('Z'), "{expires}");
    // Another client's key, or no client's, is a different key.
    for principal in [body!("other"), Value::Null] {
        let named =
            body!({"operation": "POST /v1/members", "principal": principal, "key": "order 7"});
        assert_eq!(asked(&service, FORGET, &named).await.1["freed"], false);
    }
    assert!(is_replay(&send(create()).await));

    let (status, freed) = asked(&service, FORGET, &named).await;
    assert_eq!((status, &freed["freed"]), (StatusCode::OK, &body!(true)));
    assert_eq!(freed["digest"], before["digest"]);
    // It runs again, which is why this member's email is taken now.
    let again = send(create()).await;
    assert_eq!((again.status(), is_replay(&again)), (StatusCode::CONFLICT, false));
    assert_eq!(json::<Value>(again).await["code"], "email_taken");
}

#[tokio::test]
async fn a_running_key_is_freed_only_on_purpose() {
    let variables = [("ONBOARDING_ADMIN_TOKEN", TOKEN), ("ONBOARDING_LATENCY", "1h")];
    let service = Service::start(&variables).await;
    let key = fresh_key();
    service.cut_off(INVITE, &key, r#"{"email":"ada@example.com","entityName":"Ada Ltd"}"#).await;
    assert!(service.log().contains(BEGUN));
    let operation = format!("POST {INVITE}");
    // As the client may have typed it.
    let named = body!({"operation": operation, "key": format!("\"{}\"", key.to_uppercase())});
    assert_eq!(asked(&service, STATE, &named).await.1["state"], "running");
    let (status, refused) = asked(&service, FORGET, &named).await;
    assert_eq!((status, &refused["code"]), (StatusCode::CONFLICT, &body!("still_running")));
    let mut named = named;
    named["evenIfRunning"] = body!(true);
    assert_eq!(asked(&service, FORGET, &named).await.1["freed"], true);
    assert!(!service.log().contains(&key));
}

#[tokio::test]
async fn only_the_token_opens_it_and_without_one_there_is_nothing() {
    let named = body!({"operation": "POST /v1/members", "key": "order 7"});
    let closed = Service::start(&[]).await;
    let open = Service::start(&[("ONBOARDING_ADMIN_TOKEN", TOKEN)]).await;
    let other = TOKEN.replace('f', "e");
    for path in [STATE, FORGET] {
        let response = send(closed.post(path).bearer_auth(TOKEN).json(&named)).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        for token in ["", "0", &TOKEN[1..], &other, &format!("{TOKEN}0")] {
            // Not even an error in the body is reported.
            for request in [open.post(path).json(&named), open.post(path).body("{")] {
                let response = send(request.bearer_auth(token)).await;
                assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{token:?}");
            }
        }
        assert_eq!(send(open.post(path).json(&named)).await.status(), StatusCode::UNAUTHORIZED);
        let mistyped = body!({"operation": "POST /v1/members", "principle": "acme", "key": "1"});
        assert_eq!(asked(&open, path, &mistyped).await.1["code"], "invalid_body");
    }
    for token in ["", "short", " 0123456789abcdef "] {
        let line = refusal(program(&[("ONBOARDING_ADMIN_TOKEN", token)])).await;
        assert!(line.contains("ONBOARDING_ADMIN_TOKEN must have 16 characters"), "{line}");
        assert!(token.trim().is_empty() || !line.contains(token), "{line}");
    }
}

#[tokio::test]
async fn it_is_ready() {
    let service = Service::start(&[]).await;
    let response = send(service.get("/ready")).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_and_frees_nothing_while_its_store_is_away() {
    let redis = test_servers::Redis::start();
    let variables = [("ONBOARDING_ADMIN_TOKEN", TOKEN), ("ONBOARDING_STORE", &redis.url())];
    let service = Service::start(&variables).await;
    assert_eq!(send(service.get("/ready")).await.status(), StatusCode::OK);
    tokio::task::block_in_place(|| redis.kill());
    assert_eq!(send(service.get("/ready")).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let named = body!({"operation": "POST /v1/members", "principal": "acme", "key": "order 7"});
    for path in [STATE, FORGET] {
        let (status, problem) = asked(&service, path, &named).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::SERVICE_UNAVAILABLE, &body!("store_unavailable"))
        );
    }
    tokio::task::block_in_place(|| redis.restart());
    let since = std::time::Instant::now();
    while send(service.get("/ready")).await.status() != StatusCode::OK {
        assert!(since.elapsed().as_secs() < 60, "it is ready again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
