//! What the page does if answers do not come.

use test_servers::{Fault, Proxy};

use crate::{
    browser::Page,
    service::{BEGUN, ENTITIES, INVITE, Service, send},
};

#[tokio::test]
async fn a_cut_connection_and_a_retry_run_once() {
    // Longer than any machine takes to cut and retry.
    let service = Service::start(&[("ONBOARDING_LATENCY", "5s")]).await;
    let page = Page::open(&service.addr).await;
    let before = page.value("key").await;
    page.click("cut").await;
    let answers = page.answers("Cut the connection and retry", "2 requests").await;
    let [cut, retried] = &answers[..] else { panic!("{answers:?}") };
    assert!(cut.starts_with("cut off The caller went away"), "{cut}");
    assert!(retried.starts_with("replayed 201 Created, ent_"), "{retried}");
    assert_ne!(page.value("key").await, before);

    page.row("executed").await;
    page.row("waited").await;
    assert_eq!(service.list(ENTITIES).await.len(), 1);
    assert_eq!(service.log().matches(BEGUN).count(), 1);
    page.close(&[]).await;
}

#[tokio::test]
async fn a_reload_in_the_midst_of_a_run_replays() {
    let service = Service::start(&[("ONBOARDING_LATENCY", "5s")]).await;
    let page = Page::open(&service.addr).await;
    page.element("name").await.send_keys(" and Daughters").await.expect("it is a field");
    let key = page.value("key").await;
    page.click("send").await;
    service.logged(BEGUN).await;
    page.driver.refresh().await.expect("it is there");

    page.is_live().await;
    page.until("text('#answer').startsWith('The page was left before the answer came.')").await;
    assert_eq!(
        (page.value("key").await, page.value("name").await),
        (key, "Ada Ltd and Daughters".into())
    );
    page.click("again").await;
    let answers = page.answers("Send again, same key", "1 request").await;
    assert!(answers[0].starts_with("replayed 201 Created, ent_"), "{answers:?}");
    assert_eq!(service.list(ENTITIES).await.len(), 1);
    assert_eq!(service.log().matches(BEGUN).count(), 1);

    // Answered, so nothing is left to find out.
    page.driver.refresh().await.expect("it is there");
    page.until("text('#answer') === 'Nothing sent yet.'").await;
    page.close(&[]).await;
}

#[tokio::test]
async fn a_request_that_outlasts_the_wait_is_refused() {
    let service = Service::start(&[("ONBOARDING_LATENCY", "1h")]).await;
    let page = Page::open(&service.addr).await;
    page.click("send").await;
    service.logged(BEGUN).await;
    page.click("again").await;
    let answers = page.answers("Send again, same key", "1 request").await;
    assert!(answers[0].starts_with("409 409 Conflict: "), "{answers:?}");
    let refused = page.row("409").await;
    assert!(refused.contains("waited ") && refused.contains("request in progress"), "{refused}");
    assert_eq!(page.ask("tally('409')").await, 1);
    page.close(&["the server responded with a status of 409"]).await;
}

#[tokio::test]
async fn a_lost_answer_is_said_to_be_lost_and_a_retry_gets_it() {
    let service = Service::start(&[("ONBOARDING_LATENCY", "5s")]).await;
    let proxy = Proxy::start(service.addr.parse().expect("it is an address"));
    let page = Page::open(&proxy.address().to_string()).await;
    page.click("send").await;
    service.logged(BEGUN).await;
    proxy.set(Fault::Reset);
    let answers = page.answers("Send", "1 request").await;
    assert!(
        answers[0].starts_with("no answer Failed to fetch. The handler may have run"),
        "{answers:?}"
    );
    proxy.set(Fault::None);
    page.click("again").await;
    let answers = page.answers("Send again, same key", "1 request").await;
    assert!(answers[0].starts_with("replayed 201 Created, ent_"), "{answers:?}");
    page.is_live().await;
    page.until("text('#count') === '1 entity'").await;
    page.close(&["net::ERR_"]).await;
}

#[tokio::test]
async fn what_happens_while_the_connection_is_lost_is_said_to_be_missed() {
    let service = Service::start(&[]).await;
    let proxy = Proxy::start(service.addr.parse().expect("it is an address"));
    let page = Page::open(&proxy.address().to_string()).await;
    proxy.set(Fault::Reset);
    page.until("text('#connection') === 'Connecting again'").await;
    for _ in 0..3 {
        let refused =
            send(service.post(INVITE).header("idempotency-key", "no UUID").json(&1)).await;
        assert_eq!(refused.status(), 400);
    }
    proxy.set(Fault::None);
    let gap = page.row("gap").await;
    assert_eq!(gap, "gap 3 events were missed: the connection was lost.");
    page.is_live().await;
    page.close(&["net::ERR_"]).await;
}

#[tokio::test]
async fn another_process_at_the_same_address_is_said_to_be_one() {
    let (one, other) = (Service::start(&[]).await, Service::start(&[]).await);
    let proxy = Proxy::start(one.addr.parse().expect("it is an address"));
    let page = Page::open(&proxy.address().to_string()).await;
    proxy.redirect(other.addr.parse().expect("it is an address"));
    one.signal("KILL").await;
    assert_eq!(page.row("gap").await, "gap The service has started anew.");
    page.close(&["net::ERR_"]).await;
}
