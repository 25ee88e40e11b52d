//! The Members API over real TCP: keys belong to their client, and only successes are replayed.

use crate::service::{MEMBERS, Service, header, is_replay, json, send};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json as body};

fn create(service: &Service, client: &str, key: &str, email: &str) -> RequestBuilder {
    let input = body!({
        "firstName": "Ada", "lastName": "Lovelace", "email": email, "phone": "+44 20 7946 0000",
        "department": "Engines"
    });
    service.post(MEMBERS).bearer_auth(client).header("x-idempotency-key", key).json(&input)
}

#[tokio::test]
async fn a_created_member_has_the_input_its_ids_a_tier_and_a_status() {
    let service = Service::start(&[]).await;
    let response = send(create(&service, "acme", "row 1 of import.csv", "ada@example.com")).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let location = header(&response, "location").to_owned();
    let member: Value = json(response).await;
    let id = member["memberId"].as_str().expect("it has an id");
    assert!(id.starts_with("mem_"), "{id}");
    assert!(member["workerId"].is_string());
    assert_eq!(
        member,
        body!({
            "memberId": id, "workerId": member["workerId"], "tier": "standard", "status": "active",
            "firstName": "Ada", "lastName": "Lovelace", "email": "ada@example.com",
            "phone": "+44 20 7946 0000", "department": "Engines"
        })
    );
    assert_eq!(location, format!("/v1/members/{id}"));
    assert_eq!(json::<Value>(send(service.get(&location).bearer_auth("acme")).await).await, member);
    let others = send(service.get(&location).bearer_auth("globex")).await;
    assert_eq!(others.status(), StatusCode::NOT_FOUND);
    assert_eq!(service.list(MEMBERS).await, [member]);
}

#[tokio::test]
async fn a_duplicate_gets_the_first_response() {
    let service = Service::start(&[]).await;
    let first = send(create(&service, "acme", "import-1", "ada@example.com")).await;
    let replay = send(create(&service, "acme", "import-1", "ada@example.com")).await;
    assert_eq!((replay.status(), is_replay(&replay)), (StatusCode::CREATED, true));
    assert_eq!(header(&first, "location"), header(&replay, "location"));
    assert_eq!(first.text().await.ok(), replay.text().await.ok());
    assert_eq!(service.list(MEMBERS).await.len(), 1);
}

#[tokio::test]
async fn a_caller_without_a_token_is_refused_even_a_replay() {
    let service = Service::start(&[]).await;
    send(create(&service, "acme", "import-1", "ada@example.com")).await;
    for authorization in [None, Some("Bearer"), Some("Bearer  "), Some("Basic YWRhOg==")] {
        let input = body!({
            "firstName": "Ada", "lastName": "Lovelace", "email": "ada@example.com",
            "phone": "+44 20 7946 0000", "department": "Engines"
        });
        let request = service.post(MEMBERS).header("x-idempotency-key", "import-1").json(&input);
        for mut request in [request, service.get(MEMBERS)] {
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let response = send(request).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(header(&response, "www-authenticate"), "Bearer");
            assert_eq!(json::<Value>(response).await["code"], "unauthorized");
        }
    }
}

#[tokio::test]
async fn equal_keys_of_two_clients_never_meet() {
    let service = Service::start(&[]).await;
    let mut ids = Vec::new();
    for client in ["acme", "globex"] {
        let response = send(create(&service, client, "import-1", "ada@example.com")).await;
        assert_eq!((response.status(), is_replay(&response)), (StatusCode::CREATED, false));
        ids.push(json::<Value>(response).await["memberId"].clone());
    }
    assert_ne!(ids[0], ids[1]);
    for (client, id) in ["acme", "globex"].into_iter().zip(ids) {
        let members: Value = json(send(service.get(MEMBERS).bearer_auth(client)).await).await;
        assert_eq!(members.as_array().map(Vec::len), Some(1));
        assert_eq!(members[0]["memberId"], id);
    }
}

#[tokio::test]
async fn a_second_member_with_an_email_is_refused_and_the_key_stays_usable() {
    let service = Service::start(&[]).await;
    send(create(&service, "acme", "import-1", "ada@example.com")).await;
    for _ in 0..2 {
        let response = send(create(&service, "acme", "import-2", "Ada@Example.com")).await;
        assert_eq!((response.status(), is_replay(&response)), (StatusCode::CONFLICT, false));
        assert_eq!(json::<Value>(response).await["code"], "email_taken");
    }
    // Another body: had the 409 been stored, this would be 422.
    let response = send(create(&service, "acme", "import-2", "bob@example.com")).await;
    assert_eq!((response.status(), is_replay(&response)), (StatusCode::CREATED, false));
    assert_eq!(service.list(MEMBERS).await.len(), 2);
}

#[tokio::test]
async fn invalid_input_is_refused_clearly_and_leaves_the_key_usable() {
    let service = Service::start(&[]).await;
    for text in ["{", r#"{"lastName":"Lovelace","email":"ada@example.com","phone":"1"}"#] {
        let request = service.post(MEMBERS).bearer_auth("acme").header("x-idempotency-key", "k");
        let response = send(request.header("content-type", "application/json").body(text)).await;
        assert!(response.status().is_client_error());
        assert_eq!(json::<Value>(response).await["code"], "invalid_body");
    }
    let response = send(create(&service, "acme", "k", "nobody")).await;
    let problem: Value = json(response).await;
    let said = problem["message"].as_str().expect("it has a message");
    assert!(said.contains("email: must be an email address"), "{said:?}");
    let response = send(create(&service, "acme", "k", "ada@example.com")).await;
    assert_eq!(response.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_key_is_read_only_from_its_own_header() {
    let service = Service::start(&[]).await;
    for email in ["ada@example.com", "bob@example.com"] {
        let input = body!({"firstName": "A", "lastName": "B", "email": email, "phone": "1"});
        let request = service.post(MEMBERS).bearer_auth("acme").header("idempotency-key", "k");
        assert_eq!(send(request.json(&input)).await.status(), StatusCode::CREATED);
    }
}

#[tokio::test]
async fn of_two_members_with_one_email_at_once_one_is_created() {
    let service = Service::start(&[("ONBOARDING_LATENCY", "100ms")]).await;
    let (one, other) = tokio::join!(
        send(create(&service, "acme", "import-1", "ada@example.com")),
        send(create(&service, "acme", "import-2", "ada@example.com")),
    );
    let mut statuses = [one.status(), other.status()];
    statuses.sort();
    assert_eq!(statuses, [StatusCode::CREATED, StatusCode::CONFLICT]);
    assert_eq!(service.list(MEMBERS).await.len(), 1);
}
