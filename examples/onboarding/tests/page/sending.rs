//! What the buttons send, and what becomes of it.

use serde_json::Value;

use crate::{
    browser::Page,
    service::{BEGUN, ENTITIES, Service},
};

/// What Chromium's console says about each response with this status.
const IS_422: &str = "the server responded with a status of 422";

#[tokio::test]
async fn a_double_click_creates_one_entity() {
    // Longer than any machine takes for two clicks.
    let service = Service::start(&[("ONBOARDING_LATENCY", "5s")]).await;
    let page = Page::open(&service.addr).await;
    let send = page.element("send").await;
    let twice = page.driver.action_chain().double_click_element(&send);
    twice.perform().await.expect("a mouse can do that");

    let [first, second] = &page.answers("Send", "2 requests").await[..] else {
        panic!("there are two kinds of answers");
    };
    let entities = service.list(ENTITIES).await;
    let id = entities[0]["id"].as_str().expect("it has an id");
    assert!(first.starts_with(&format!("executed 201 Created, {id}")), "{first}");
    assert!(second.starts_with(&format!("replayed 201 Created, {id}")), "{second}");

    let (executed, waited) = (page.row("executed").await, page.row("waited").await);
    assert!(executed.contains("POST /page/invite") && executed.contains("201, ran "), "{executed}");
    assert!(waited.contains("201, waited "), "{waited}");
    page.until("text('#count') === '1 entity'").await;
    let [created] = &page.texts("#entities li").await[..] else { panic!("one is shown") };
    assert_eq!(*created, format!("Ada Ltd invited ada@example.com, {id}"));
    assert_eq!(entities.len(), 1);
    assert_eq!(service.log().matches(BEGUN).count(), 1);
    page.close(&[]).await;
}

#[tokio::test]
async fn the_key_is_the_same_until_what_is_sent_is_another() {
    let service = Service::start(&[]).await;
    let page = Page::open(&service.addr).await;
    let first = page.value("key").await;
    assert_eq!(uuid::Uuid::parse_str(&first).expect("it is a UUID").get_version_num(), 4);
    for word in ["executed", "replayed"] {
        page.click("send").await;
        page.until(&format!("text('#answer li').startsWith('{word}')")).await;
        assert_eq!(page.value("key").await, first);
    }

    page.element("name").await.send_keys(" and Daughters").await.expect("it is a field");
    let second = page.value("key").await;
    assert_ne!(first, second);
    page.click("send").await;
    page.until("text('#count') === '2 entities'").await;
    page.click("new-key").await;
    assert_ne!(page.value("key").await, second);
    let names = service.list(ENTITIES).await;
    let names: Vec<&Value> = names.iter().map(|entity| &entity["entityName"]).collect();
    assert_eq!(names, ["Ada Ltd", "Ada Ltd and Daughters"]);
    page.close(&[]).await;
}

#[tokio::test]
async fn the_same_key_is_replayed_and_with_another_body_refused() {
    let service = Service::start(&[]).await;
    let page = Page::open(&service.addr).await;
    for id in ["again", "other"] {
        assert!(!page.element(id).await.is_enabled().await.expect("it is there"), "{id}");
    }
    page.click("send").await;
    page.answers("Send", "1 request").await;

    page.click("again").await;
    let answers = page.answers("Send again, same key", "1 request").await;
    assert!(answers[0].starts_with("replayed 201 Created, ent_"), "{answers:?}");
    page.row("replayed").await;

    page.click("other").await;
    let answers = page.answers("Same key, other body", "1 request").await;
    assert!(answers[0].starts_with("422 422 Unprocessable Entity: "), "{answers:?}");
    let refused = page.row("422").await;
    assert!(refused.contains("key reused"), "{refused}");

    let tallies = page.ask("['executed', 'replayed', 'waited', '409', '422'].map(tally)").await;
    assert_eq!(tallies, serde_json::json!([1, 1, 0, 0, 1]));
    assert_eq!(service.list(ENTITIES).await.len(), 1);
    page.close(&[IS_422]).await;
}

#[tokio::test]
async fn a_hundred_at_once_create_one_entity() {
    let service = Service::start(&[]).await;
    let page = Page::open(&service.addr).await;
    page.click("hundred").await;
    let answers = page.answers("Send a hundred at once", "100 requests").await;
    let [executed, replayed] = &answers[..] else { panic!("{answers:?}") };
    let entities = service.list(ENTITIES).await;
    let id = entities[0]["id"].as_str().expect("it has an id");
    assert!(executed.starts_with(&format!("executed 201 Created, {id} after ")), "{executed}");
    assert!(
        replayed.starts_with(&format!("replayed × 99 201 Created, {id} within ")),
        "{replayed}"
    );
    page.until("tally('executed') === 1 && tally('replayed') + tally('waited') === 99").await;
    assert_eq!(entities.len(), 1);
    page.close(&[]).await;
}

#[tokio::test]
async fn it_works_where_browsers_have_no_random_uuid() {
    let service = Service::start(&[]).await;
    let (_, port) = service.addr.split_once(':').expect("it has a port");
    let page = Page::open(&format!("page.test:{port}")).await;
    assert_eq!(
        page.ask("[isSecureContext, crypto.randomUUID ?? null]").await.to_string(),
        "[false,null]"
    );
    let key = uuid::Uuid::parse_str(&page.value("key").await).expect("it is a UUID");
    assert_eq!((key.get_version_num(), key.get_variant()), (4, uuid::Variant::RFC4122));
    page.click("send").await;
    let answers = page.answers("Send", "1 request").await;
    assert!(answers[0].starts_with("executed 201 Created"), "{answers:?}");
    page.close(&[]).await;
}
