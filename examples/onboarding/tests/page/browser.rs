//! The page in its own browser.

use std::{path::Path, sync::LazyLock, time::Duration};

use serde_json::{Value, json};
use test_servers::ChromeDriver;
use thirtyfour::{LoggingPrefsLogLevel, TimeoutConfiguration, prelude::*};
use tokio::task::spawn_blocking;

/// Only a bug keeps a test waiting for this long.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the tests' expressions can use.
const WORDS: &str = "
    const texts = (selector) => Array.from(document.querySelectorAll(selector),
        (element) => element.innerText.replace(/\\s+/g, ' ').trim());
    const text = (selector) => texts(selector)[0] ?? '';
    const tally = (word) => Number(text('#tally-' + word));
";

/// The page, open in a browser.
pub(crate) struct Page {
    pub(crate) driver: WebDriver,
}

impl Page {
    /// Opens the page of the service at `address`, and waits until it receives events.
    pub(crate) async fn open(address: &str) -> Self {
        static DRIVER: LazyLock<ChromeDriver> = LazyLock::new(ChromeDriver::start);
        let started = spawn_blocking(|| (DRIVER.url(), DRIVER.arguments())).await;
        let (url, arguments) = started.expect("the driver starts");
        let mut capabilities = DesiredCapabilities::chrome();
        for argument in arguments {
            capabilities.add_arg(&argument).expect("it is a text");
        }
        let level = LoggingPrefsLogLevel::Warning;
        capabilities.set_browser_log_level(level).expect("it is a level");
        let client = reqwest::Client::builder().no_proxy().timeout(2 * PATIENCE).build();
        let driver = WebDriver::builder(url, capabilities)
            .client(client.expect("its settings are valid"))
            .await
            .expect("the browser starts");
        let timeouts = TimeoutConfiguration::new(Some(PATIENCE), Some(PATIENCE), None);
        driver.update_timeouts(timeouts).await.expect("they are valid");
        let page = Self { driver };
        page.driver.goto(format!("http://{address}/")).await.expect("the page loads");
        page.is_live().await;
        page
    }

    /// Waits until the page receives events.
    pub(crate) async fn is_live(&self) {
        self.until("text('#connection') === 'Live'").await;
    }

    /// The value of a script's expression.
    pub(crate) async fn ask(&self, expression: &str) -> Value {
        let script = format!("{WORDS} return ({expression});");
        let answer = self.driver.execute(script, Vec::new()).await;
        answer.unwrap_or_else(|error| panic!("{expression}: {error}")).json().clone()
    }

    pub(crate) async fn texts(&self, selector: &str) -> Vec<String> {
        let texts = self.ask(&format!("texts({})", json!(selector))).await;
        serde_json::from_value(texts).expect("they are texts")
    }

    /// Waits until a condition holds: asked again at each change of the page.
    pub(crate) async fn until(&self, condition: &str) {
        let script = format!(
            "{WORDS} const done = arguments[0];
            const holds = () => {condition};
            if (holds()) done(); else {{
                const observer = new MutationObserver(() => {{
                    if (!holds()) return;
                    observer.disconnect();
                    done();
                }});
                const all = {{ attributes: true, characterData: true, childList: true, subtree: true }};
                observer.observe(document, all);
            }}"
        );
        if let Err(error) = self.driver.execute_async(script, Vec::new()).await {
            panic!("{condition}: {error}\n{}", self.ask("document.body.innerText").await);
        }
    }

    /// Waits for the answers of an action, and returns them, sorted.
    pub(crate) async fn answers(&self, action: &str, requests: &str) -> Vec<String> {
        self.until(&format!(
            "text('#answer') .startsWith({})",
            json!(format!("{action}: {requests}"))
        ))
        .await;
        self.until("!text('#answer p').includes('not answered yet')").await;
        let mut answers = self.texts("#answer li").await;
        answers.sort_unstable();
        answers
    }

    /// Waits until a row of the live list begins with `word`, and returns it.
    pub(crate) async fn row(&self, word: &str) -> String {
        let word = json!(word);
        self.until(&format!("texts('#events li').some((row) => row.startsWith({word}))")).await;
        let rows = self.texts("#events li").await;
        rows.into_iter()
            .find(|row| row.starts_with(word.as_str().expect("a text")))
            .expect("it stays")
    }

    pub(crate) async fn element(&self, id: &str) -> WebElement {
        let found = self.driver.find(By::Id(id)).await;
        found.unwrap_or_else(|error| panic!("#{id}: {error}"))
    }

    /// A click with the mouse.
    pub(crate) async fn click(&self, id: &str) {
        self.element(id).await.click().await.unwrap_or_else(|error| panic!("#{id}: {error}"));
    }

    /// The value of a field.
    pub(crate) async fn value(&self, id: &str) -> String {
        let value = self.ask(&format!("document.getElementById({}).value", json!(id))).await;
        value.as_str().expect("it is a field").to_owned()
    }

    /// Presses keys, whatever has the focus.
    pub(crate) async fn press(&self, keys: impl Into<TypingData>) {
        self.driver.action_chain().send_keys(keys).perform().await.expect("keys can be pressed");
    }

    pub(crate) async fn cdp(&self, method: &str, parameters: Value) -> Value {
        let answer = self.driver.cdp().send_raw(method, parameters).await;
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub(crate) async fn screenshot(&self, file: &Path) {
        self.driver.screenshot(file).await.expect("it can be written");
    }

    /// Closes the browser, and asserts that each line of its console has one of `expected`, and
    /// that there is no other line.
    pub(crate) async fn close(self, expected: &[&str]) {
        let log = self.driver.browser_log().await.expect("it can be read");
        for entry in log {
            let is_expected = expected.iter().any(|text| entry.message.contains(text));
            assert!(is_expected, "{}: {}", entry.level, entry.message);
        }
        self.driver.quit().await.expect("the browser ends");
    }
}
