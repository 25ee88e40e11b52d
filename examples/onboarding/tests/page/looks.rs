//! Whether everybody can read and use the page: on a phone, in dark mode, by keyboard.

use std::{fs, path::Path};

use serde_json::{Value, json as body};
use thirtyfour::prelude::*;

use crate::{
    browser::Page,
    service::{ADD, INVITE, Service, send},
};

/// In CSS pixels.
const WIDTHS: [u32; 3] = [320, 360, 1280];

/// Waits until nothing moves, then returns what axe-core finds wrong.
const AXE: &str = "
    const done = arguments[0];
    Promise.all(document.getAnimations().map((animation) => animation.finished))
        .then(() => axe.run(document, { resultTypes: ['violations', 'incomplete'] }))
        .then((found) => done([...found.violations, ...found.incomplete].flatMap(({ id, nodes }) =>
            nodes.map((node) => `${id}: ${node.html}: ${node.failureSummary}`))));
";

/// Elements wider than their place. In inputs the text is, which scrolls.
const WIDER: &str = "
    Array.from(document.querySelectorAll('*:not(input)'))
        .filter((element) => element.scrollWidth > element.clientWidth && element.clientWidth > 0
            && getComputedStyle(element).display !== 'inline')
        .map((element) => element.outerHTML)
";

#[tokio::test]
async fn every_width_and_either_scheme_can_be_read() {
    let service = Service::start(&[]).await;
    let page = Page::open(&service.addr).await;
    let axe = test_servers::python_file("axe_playwright_python/axe.min.js");
    let axe = fs::read_to_string(axe).expect("it is text");
    fill(&page, &service).await;
    // What is scrolled out of sight cannot be checked.
    page.driver
        .execute("for (const list of document.querySelectorAll('.scrolls')) list.style.maxHeight = 'none'", Vec::new())
        .await
        .expect("it is a script");

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    fs::create_dir_all(&folder).expect("a folder of its own");
    for scheme in ["light", "dark"] {
        let feature = body!([{"name": "prefers-color-scheme", "value": scheme}]);
        page.cdp("Emulation.setEmulatedMedia", body!({ "features": feature })).await;
        for width in WIDTHS {
            resize(&page, width, 800).await;
            assert_eq!(page.ask(WIDER).await, body!([]), "{width} px, {scheme}");

            page.driver.execute(axe.as_str(), Vec::new()).await.expect("it is a script");
            let found = page.driver.execute_async(AXE, Vec::new()).await.expect("it ends");
            assert_eq!(*found.json(), body!([]), "{width} px, {scheme}");

            let height = page.ask("document.documentElement.scrollHeight").await;
            let height = height.as_u64().and_then(|height| height.try_into().ok());
            resize(&page, width, height.expect("it is a number")).await;
            page.screenshot(&folder.join(format!("{width}-{scheme}.png"))).await;
        }
    }
    // The checks above can fail.
    let unreadable = "document.querySelector('h1').style.cssText =
        'width: 3000px; color: light-dark(#f4f5f8, #0e1116)'";
    page.driver.execute(unreadable, Vec::new()).await.expect("it is a script");
    assert!(page.ask(WIDER).await.to_string().contains("3000px"));
    let found = page.driver.execute_async(AXE, Vec::new()).await.expect("it ends");
    assert!(found.json().to_string().contains("color-contrast: "), "{}", found.json());
    page.close(&["the server responded with a status of 422"]).await;
}

/// Makes the page show something of each kind.
async fn fill(page: &Page, service: &Service) {
    let name = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft";
    let input = body!({"email": "office@donaudampfschifffahrt.example.com", "entityName": name});
    send(service.post(ADD).json(&input)).await;
    send(service.post(INVITE).header("idempotency-key", "order-1").json(&input)).await;
    page.row("400").await;
    page.click("cut").await;
    page.answers("Cut the connection and retry", "2 requests").await;
    page.click("other").await;
    page.answers("Same key, other body", "1 request").await;
    page.click("hundred").await;
    page.answers("Send a hundred at once", "100 requests").await;
    page.until("tally('executed') === 3 && tally('replayed') + tally('waited') === 100").await;
    page.until("text('#count') === '3 entities'").await;
}

async fn resize(page: &Page, width: u32, height: u32) {
    let metrics =
        body!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
    page.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
}

/// The id of the focused element, and whether its focus is visible.
async fn focused(page: &Page) -> (String, bool) {
    let focused = "(({ id, className, tagName }, { outlineStyle, outlineWidth }) =>
        [id || className || tagName, outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2])
        (document.activeElement, getComputedStyle(document.activeElement))";
    serde_json::from_value(page.ask(focused).await).expect("it is a text and a bool")
}

/// Presses Tab until `id` has the focus. Everything focused on the way shows it.
async fn tab_to(page: &Page, id: &str) {
    let mut passed = Vec::new();
    while passed.last().is_none_or(|last| last != id) {
        assert!(passed.len() < 20, "#{id} is not reached: {passed:?}");
        page.press(Key::Tab).await;
        let (focused, is_visible) = focused(page).await;
        assert!(is_visible, "{focused} has the focus, and nobody sees it");
        passed.push(focused);
    }
}

#[tokio::test]
async fn everything_is_done_by_keyboard_alone() {
    let service = Service::start(&[]).await;
    let page = Page::open(&service.addr).await;
    tab_to(&page, "email").await;
    // Reached by the keyboard, a field's text is selected.
    page.press("grace@example.com").await;
    tab_to(&page, "name").await;
    page.press("Grace Ltd").await;
    page.press(Key::Enter).await;
    page.answers("Send", "1 request").await;
    page.until("texts('#entities li')[0]?.startsWith('Grace Ltd invited grace@example.com')").await;

    tab_to(&page, "new-key").await;
    tab_to(&page, "send").await;
    tab_to(&page, "again").await;
    page.press(Key::Space).await;
    page.answers("Send again, same key", "1 request").await;
    tab_to(&page, "other").await;
    page.press(Key::Enter).await;
    page.answers("Same key, other body", "1 request").await;
    tab_to(&page, "cut").await;
    page.press(Key::Space).await;
    page.answers("Cut the connection and retry", "2 requests").await;
    tab_to(&page, "hundred").await;
    page.press(Key::Enter).await;
    page.answers("Send a hundred at once", "100 requests").await;
    page.until("text('#count') === '3 entities'").await;
    // The lists scroll, so they take the focus; then the link below.
    tab_to(&page, "scrolls").await;
    tab_to(&page, "A").await;
    page.press(Key::Enter).await;
    page.until("location.pathname.startsWith('/docs')").await;
    page.close(&["the server responded with a status of 422"]).await;
}

#[tokio::test]
async fn nothing_is_taken_from_elsewhere() {
    let service = Service::start(&[]).await;
    let page = Page::open(&service.addr).await;
    let origin = format!("http://{}/", service.addr);
    let taken = page.ask("performance.getEntriesByType('resource').map(({ name }) => name)").await;
    let taken: Vec<String> = serde_json::from_value(taken).expect("they are texts");
    assert!(taken.len() >= 4 && taken.iter().all(|name| name.starts_with(&origin)), "{taken:?}");

    // The browser enforces it.
    let other = Service::start(&[]).await;
    let script = format!(
        "arguments[0](fetch('http://{}/').then(() => 'taken', () => 'refused'))",
        other.addr
    );
    let tried: Value =
        page.driver.execute_async(script, Vec::new()).await.expect("it ends").json().clone();
    assert_eq!(tried, "refused");
    page.close(&["Content Security Policy"]).await;
}
