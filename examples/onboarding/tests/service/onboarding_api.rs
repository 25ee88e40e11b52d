//! The onboarding API over real TCP: a retry gets the first response, and nothing exists twice.

use crate::service::{
    ADD, BEGUN, ENTITIES, INVITE, Service, fresh_key, header, is_replay, json, send,
};
use reqwest::StatusCode;
use serde_json::{Value, json as body};
use tokio::task::JoinSet;

const BAD_KEY: &str = "Invalid idempotency key format. The idempotency-key must be a valid UUID";

#[tokio::test]
async fn a_created_entity_has_the_input_an_id_a_status_and_a_location() {
    let service = Service::start(&[]).await;
    for (path, status) in [(INVITE, "invited"), (ADD, "added")] {
        let input = body!({"email": "ada@example.com", "entityName": "Ada Ltd", "country": "GB"});
        let response = send(service.post(path).json(&input)).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let location = header(&response, "location").to_owned();
        let entity: Value = json(response).await;
        let id = entity["id"].as_str().expect("it has an id");
        assert_eq!(
            entity,
            body!({
                "id": id, "status": status, "email": "ada@example.com", "entityName": "Ada Ltd", "country": "GB"
            })
        );
        assert_eq!(location, format!("/downstream-entities/{id}"));
        assert_eq!(json::<Value>(send(service.get(&location)).await).await, entity);
        assert!(service.list(ENTITIES).await.contains(&entity));
    }
    let missing = send(service.get("/downstream-entities/ent_0")).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn id_and_status_are_not_the_callers_to_say() {
    let service = Service::start(&[]).await;
    let input =
        body!({"email": "ada@example.com", "entityName": "Ada Ltd", "id": "1", "status": "x"});
    let text = send(service.post(INVITE).json(&input)).await.text().await.expect("it has a body");
    assert_eq!((text.matches("\"id\"").count(), text.matches("\"status\"").count()), (1, 1));
    assert!(text.contains("\"status\":\"invited\""), "{text}");
}

#[tokio::test]
async fn a_duplicate_gets_the_first_response_through_either_route_and_header() {
    let service = Service::start(&[]).await;
    let input = body!({"email": "ada@example.com", "entityName": "Ada Ltd"});
    for path in [INVITE, ADD] {
        for name in ["idempotency-key", "x-idempotency-key"] {
            let before = service.list(ENTITIES).await.len();
            let request = service.post(path).header(name, fresh_key()).json(&input);
            let again = request.try_clone().expect("the body is no stream");
            let (first, replay) = (send(request).await, send(again).await);
            assert_eq!(
                (first.status(), replay.status()),
                (StatusCode::CREATED, StatusCode::CREATED)
            );
            assert_eq!((is_replay(&first), is_replay(&replay)), (false, true));
            for name in ["location", "content-type"] {
                assert_eq!(header(&first, name), header(&replay, name));
            }
            assert_eq!(first.text().await.ok(), replay.text().await.ok());
            assert_eq!(service.list(ENTITIES).await.len(), before + 1);
        }
    }
}

#[tokio::test]
async fn both_header_names_carry_the_same_key() {
    let service = Service::start(&[]).await;
    let (key, input) = (fresh_key(), body!({"email": "ada@example.com", "entityName": "Ada Ltd"}));
    send(service.post(INVITE).header("idempotency-key", &key).json(&input)).await;
    let again = service.post(INVITE).header("x-idempotency-key", key.to_uppercase());
    assert!(is_replay(&send(again.json(&input)).await));
}

#[tokio::test]
async fn the_two_routes_do_not_share_keys() {
    let service = Service::start(&[]).await;
    let (key, input) = (fresh_key(), body!({"email": "ada@example.com", "entityName": "Ada Ltd"}));
    for path in [INVITE, ADD] {
        let response = send(service.post(path).header("idempotency-key", &key).json(&input)).await;
        assert!(!is_replay(&response));
    }
    assert_eq!(service.list(ENTITIES).await.len(), 2);
}

#[tokio::test]
async fn a_key_that_is_no_uuid_is_refused_word_for_word_through_either_header() {
    let service = Service::start(&[]).await;
    let input = body!({"email": "ada@example.com", "entityName": "Ada Ltd"});
    for path in [INVITE, ADD] {
        for name in ["idempotency-key", "x-idempotency-key"] {
            let response = send(service.post(path).header(name, "order-1").json(&input)).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            assert_eq!(header(&response, "content-type"), "application/problem+json");
            let problem: Value = json(response).await;
            assert_eq!(problem["detail"], BAD_KEY);
            assert_eq!(problem["message"], BAD_KEY);
            assert_eq!(problem["code"], "invalid_key");
        }
    }
    assert!(service.list(ENTITIES).await.is_empty());
}

#[tokio::test]
async fn a_key_with_another_body_is_refused() {
    let service = Service::start(&[]).await;
    let request =
        || service.post(INVITE).header("idempotency-key", "4b1f8a52-8d38-4b7c-a5c0-6a3b0a2f9e11");
    send(request().json(&body!({"email": "ada@example.com", "entityName": "Ada Ltd"}))).await;
    let other = body!({"email": "bob@example.com", "entityName": "Bob Ltd"});
    let response = send(request().json(&other)).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(json::<Value>(response).await["code"], "key_reused");
    assert_eq!(service.list(ENTITIES).await.len(), 1);
}

#[tokio::test]
async fn without_a_key_every_request_creates() {
    let service = Service::start(&[]).await;
    let input = body!({"email": "ada@example.com", "entityName": "Ada Ltd"});
    for _ in 0..2 {
        assert_eq!(send(service.post(INVITE).json(&input)).await.status(), StatusCode::CREATED);
    }
    assert_eq!(service.list(ENTITIES).await.len(), 2);
}

#[tokio::test]
async fn invalid_input_is_refused_clearly_and_leaves_the_key_usable() {
    let service = Service::start(&[]).await;
    let invalid = [
        ("application/json", "{\"email\": ", "Failed to parse the request body as JSON"),
        ("application/json", r#"{"entityName": "Ada Ltd"}"#, "missing field `email`"),
        ("application/json", r#"{"email": "ada@example.com"}"#, "missing field `entityName`"),
        (
            "application/json",
            r#"{"email": "ada", "entityName": "Ada Ltd"}"#,
            "must be an email address",
        ),
        (
            "application/json",
            r#"{"email": "A <a@b.org>", "entityName": "A"}"#,
            "must be an email address",
        ),
        (
            "application/json",
            r#"{"email": "ada@example.com", "entityName": " "}"#,
            "must not be blank",
        ),
        ("text/plain", r#"{"email": "ada@example.com", "entityName": "A"}"#, "Content-Type"),
    ];
    for (content_type, text, message) in invalid {
        let key = fresh_key();
        let request = || service.post(INVITE).header("idempotency-key", &key);
        let response = send(request().header("content-type", content_type).body(text)).await;
        let status = response.status();
        assert!(status.is_client_error(), "{status} for {text}");
        assert_eq!(header(&response, "content-type"), "application/problem+json");
        let problem: Value = json(response).await;
        assert_eq!(
            (&problem["code"], &problem["status"]),
            (&body!("invalid_body"), &body!(status.as_u16()))
        );
        let said = problem["message"].as_str().expect("it has a message");
        assert!(said.contains(message), "{said:?} for {text}");

        let valid = body!({"email": "ada@example.com", "entityName": "Ada Ltd"});
        let response = send(request().json(&valid)).await;
        assert_eq!((response.status(), is_replay(&response)), (StatusCode::CREATED, false));
    }
    assert_eq!(service.list(ENTITIES).await.len(), invalid.len());
}

#[tokio::test]
async fn two_concurrent_duplicates_get_the_same_201() {
    let service = Service::start(&[("ONBOARDING_LATENCY", "200ms")]).await;
    let duplicates = concurrently(&service, 2).await;
    assert_eq!(duplicates.iter().filter(|duplicate| duplicate.replayed).count(), 1);
    assert_eq!(service.list(ENTITIES).await.len(), 1);
}

#[tokio::test]
async fn a_hundred_concurrent_duplicates_get_the_same_201_fifty_times() {
    let service = Service::start(&[("ONBOARDING_LATENCY", "5ms"), ("RUST_LOG", "warn")]).await;
    for round in 1..=50 {
        let duplicates = concurrently(&service, 100).await;
        assert_eq!(duplicates.iter().filter(|duplicate| !duplicate.replayed).count(), 1);
        assert_eq!(service.list(ENTITIES).await.len(), round);
    }
}

struct Answer {
    replayed: bool,
    location: String,
    body: String,
}

/// Sends one request many times at once, with one fresh key. All get one 201.
async fn concurrently(service: &Service, times: usize) -> Vec<Answer> {
    let input = body!({"email": "ada@example.com", "entityName": "Ada Ltd"});
    let request = service.post(INVITE).header("idempotency-key", fresh_key()).json(&input);
    let mut requests = JoinSet::new();
    for _ in 0..times {
        let request = request.try_clone().expect("the body is no stream");
        requests.spawn(async {
            let response = send(request).await;
            assert_eq!(response.status(), StatusCode::CREATED);
            Answer {
                replayed: is_replay(&response),
                location: header(&response, "location").to_owned(),
                body: response.text().await.expect("it has a body"),
            }
        });
    }
    let answers = requests.join_all().await;
    for answer in &answers {
        assert_eq!((&answer.location, &answer.body), (&answers[0].location, &answers[0].body));
    }
    answers
}

#[tokio::test]
async fn a_client_that_was_cut_off_gets_the_one_response_by_its_retry() {
    let service = Service::start(&[("ONBOARDING_LATENCY", "500ms")]).await;
    let (key, input) = (fresh_key(), r#"{"email":"ada@example.com","entityName":"Ada Ltd"}"#);
    service.cut_off(INVITE, &key, input).await;
    let retry = || {
        let request = service.post(INVITE).header("idempotency-key", &key);
        send(request.header("content-type", "application/json").body(input))
    };
    let first = retry().await;
    assert_eq!((first.status(), is_replay(&first)), (StatusCode::CREATED, true));
    let entity: Value = json(first).await;
    assert_eq!(json::<Value>(retry().await).await, entity);
    assert_eq!(service.list(ENTITIES).await, [entity]);
    assert_eq!(service.log().matches(BEGUN).count(), 1);
}
