//! The live lists: what others send is shown as well.

use serde_json::json as body;

use crate::{
    browser::Page,
    service::{ADD, ENTITIES, INVITE, MEMBERS, Service, fresh_key, send},
};

#[tokio::test]
async fn what_others_send_is_shown_without_their_keys() {
    let service = Service::start(&[]).await;
    let page = Page::open(&service.addr).await;
    let (key, input) = (fresh_key(), body!({"email": "bob@example.com", "entityName": "Bob Ltd"}));
    for _ in 0..2 {
        send(service.post(ADD).header("idempotency-key", &key).json(&input)).await;
    }
    let (executed, replayed) = (page.row("executed").await, page.row("replayed").await);
    for row in [executed, replayed] {
        assert!(row.contains("POST /downstream-entities/onboarding/add"), "{row}");
    }
    page.until(
        "texts('#entities li').some((row) => row.startsWith('Bob Ltd added bob@example.com'))",
    )
    .await;

    send(service.post(INVITE).json(&input)).await;
    page.until(
        "texts('#events li').some((row) => row.includes('no key, so nothing is protected'))",
    )
    .await;
    page.until("text('#count') === '2 entities'").await;
    send(service.post(INVITE).header("idempotency-key", "order-1").json(&input)).await;
    let refused = page.row("400").await;
    assert!(refused.contains("invalid key"), "{refused}");
    let member = body!({"firstName": "Ada", "lastName": "King", "email": "ada@example.com"});
    let member = service.post(MEMBERS).bearer_auth("acme").json(&member);
    send(member.header("x-idempotency-key", "member 1")).await;
    page.until("texts('#events li').some((row) => row.includes('POST /v1/members'))").await;

    let shown = page.ask("document.documentElement.outerHTML").await.to_string();
    for secret in [&key, "order-1", "member 1", "acme"] {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
    page.close(&[]).await;
}

#[tokio::test]
async fn equal_answers_in_a_row_share_one_row() {
    let service = Service::start(&[("RUST_LOG", "warn")]).await;
    let page = Page::open(&service.addr).await;
    let (key, input) = (fresh_key(), body!({"email": "bob@example.com", "entityName": "Bob Ltd"}));
    for _ in 0..150 {
        send(service.post(ADD).header("idempotency-key", &key).json(&input)).await;
    }
    page.until("tally('replayed') === 149").await;
    let rows = page.texts("#events li").await;
    let times = rows.iter().filter(|row| row.starts_with("replayed")).map(|row| {
        let times = row.split_once("× ").and_then(|(_, rest)| rest.split_once(' '));
        times.map_or(1, |(times, _)| times.parse().expect("it is a number"))
    });
    assert_eq!(times.sum::<u32>(), 149, "{rows:?}");
    page.close(&[]).await;
}

#[tokio::test]
async fn names_are_texts_and_never_html() {
    let service = Service::start(&[]).await;
    let page = Page::open(&service.addr).await;
    let name = "<img src=x onerror='document.title = 1'>";
    let input = body!({"email": "bob@example.com", "entityName": name});
    send(service.post(ADD).json(&input)).await;
    page.until("text('#count') === '1 entity'").await;
    assert!(page.texts("#entities li").await[0].starts_with(name));
    assert_eq!(service.list(ENTITIES).await[0]["entityName"], name);
    page.close(&[]).await;
}
