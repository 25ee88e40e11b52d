//! The dashboard and the alert rules of `examples/`, in a real Prometheus that scrapes the service:
//! every panel has something to show, and no query names what the service does not export.

#![cfg(unix)]

#[allow(dead_code, reason = "the tests of one instance use the rest")]
#[path = "../service/service.rs"]
mod service;

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use reqwest::Client;
use serde_json::{Value, json};
use test_servers::{Prometheus, Redis};

use crate::service::{INVITE, MEMBERS, Service, fresh_key, is_replay, send};

const DASHBOARD: &str = include_str!("../../../grafana/idempotency.json");
const RULES: &str = include_str!("../../../prometheus/idempotency.yml");

/// How long a few seconds' samples may take to arrive.
const PATIENCE: Duration = Duration::from_mins(1);

/// What Prometheus says.
struct Scraped {
    prometheus: Prometheus,
    client: Client,
}

impl Scraped {
    fn by(targets: &[(&str, &Service)]) -> Self {
        let targets: Vec<_> = targets
            .iter()
            .map(|(job, service)| (*job, service.addr.parse().expect("an address")))
            .collect();
        let client = Client::builder().no_proxy().build().expect("it has no settings");
        Self { prometheus: Prometheus::start(&targets, RULES), client }
    }

    /// The `data` of an answer of its API.
    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url = format!("{}/api/v1/{path}", self.prometheus.url());
        let request = self.client.get(url).query(parameters);
        let answer: Value = send(request).await.json().await.expect("it is JSON");
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// How many series a query returns.
    async fn count(&self, query: &str) -> usize {
        let data = self.ask("query", &[("query", query)]).await;
        let series = data["result"].as_array().expect("a list").iter();
        // A share of nothing is not a number.
        series.filter(|series| series["value"][1] != "NaN").count()
    }

    /// Waits until a query returns something.
    async fn shows(&self, query: &str) -> bool {
        let asked = Instant::now();
        while self.count(query).await == 0 {
            if asked.elapsed() > PATIENCE {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        true
    }

    /// The names of all metrics that the services export.
    async fn names(&self) -> BTreeSet<String> {
        let names = self.ask("label/__name__/values", &[]).await;
        let names = names.as_array().expect("a list").iter();
        names.map(|name| name.as_str().expect("a name").to_owned()).collect()
    }
}

/// The names of the library's metrics in a query.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    words.filter(|word| word.starts_with("idempotency_"))
}

/// Panels by title, with their queries as Grafana would send them.
fn panels() -> Vec<(String, Vec<String>)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let panels = dashboard["panels"].as_array().expect("a list").iter();
    let panels = panels.map(|panel| {
        let targets = panel["targets"].as_array().expect("a list").iter();
        let queries = targets.map(|target| {
            let query = text(&target["expr"]).replace("$__rate_interval", "1m");
            let query = query.replace("$job", ".*");
            assert!(!query.contains('$'), "a variable that Grafana would fill in: {query}");
            query
        });
        (text(&panel["title"]), queries.collect())
    });
    panels.collect()
}

/// One run, its replays, a duplicate that waits, a key that is sent with another body, and a
/// request without a key.
async fn visit(service: &Service) {
    let member = json!({"name": "Ada", "email": "ada@example.com"});
    let entity = json!({"email": "ada@example.com", "entityName": "Ada Ltd"});
    let other = json!({"email": "bob@example.com", "entityName": "Bob Ltd"});
    let key = fresh_key();
    let invite = |body: &Value| service.post(INVITE).header("idempotency-key", &key).json(body);
    let (first, second) = tokio::join!(send(invite(&entity)), send(invite(&entity)));
    assert!(is_replay(&first) != is_replay(&second), "one of them has waited");
    assert!(is_replay(&send(invite(&entity)).await));
    assert_eq!(send(invite(&other)).await.status(), 422);
    assert!(send(service.post(INVITE).json(&entity)).await.status().is_success());
    send(service.post(MEMBERS).bearer_auth("acme").json(&member)).await;
}

#[tokio::test]
async fn every_panel_shows_something_and_no_query_names_what_is_not_there() {
    let redis = Redis::start();
    let latency = ("ONBOARDING_LATENCY", "300ms");
    let alone = Service::start(&[latency]).await;
    let (url, copies) = (redis.url(), "1000000");
    let variables = [latency, ("ONBOARDING_STORE", &url), ("ONBOARDING_NEAR_CACHE", copies)];
    let shared = Service::start(&variables).await;
    let scraped = Scraped::by(&[("alone", &alone), ("shared", &shared)]);
    for service in [&alone, &shared] {
        visit(service).await;
    }
    // A rate takes two samples: what was counted so far is scraped before more is.
    for job in ["alone", "shared"] {
        let replays = format!("idempotency_requests_total{{job=\"{job}\",outcome=\"replayed\"}}");
        assert!(scraped.shows(&replays).await, "{job} is scraped");
    }
    assert!(scraped.shows("idempotency_near_replays_total{job=\"shared\"} > 0").await);
    for service in [&alone, &shared] {
        visit(service).await;
    }
    redis.kill();
    let entity = json!({"email": "ada@example.com", "entityName": "Ada Ltd"});
    let refused = shared.post(INVITE).header("idempotency-key", fresh_key()).json(&entity);
    assert_eq!(send(refused).await.status(), 503);

    let panels = panels();
    assert!(panels.len() >= 10);
    for (title, queries) in &panels {
        assert!(title.ends_with('?'), "{title} is a question");
        for query in queries {
            assert!(scraped.shows(query).await, "{title} shows nothing: {query}");
        }
    }
    let names = scraped.names().await;
    for query in panels.iter().flat_map(|(_, queries)| queries) {
        for metric in metrics(query) {
            assert!(names.contains(metric), "{metric} is not among {names:?}");
        }
    }

    // Everything the service counts has a panel.
    let shown: BTreeSet<_> =
        panels.iter().flat_map(|(_, queries)| queries).flat_map(|it| metrics(it)).collect();
    for name in names.iter().filter(|name| name.starts_with("idempotency_")) {
        let family = name.trim_end_matches("_bucket").trim_end_matches("_count");
        let family = family.trim_end_matches("_sum");
        assert!(shown.iter().any(|metric| metric.starts_with(family)), "{name} has a panel");
    }

    let rules = scraped.ask("rules", &[]).await;
    let rules = rules["groups"][0]["rules"].as_array().expect("a list");
    assert!(rules.len() >= 5);
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        for metric in metrics(rule["query"].as_str().expect("a query")) {
            assert!(names.contains(metric), "{metric} is not among {names:?}");
        }
    }
}

#[test]
fn each_alert_fires_if_it_should_and_only_then() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../prometheus/idempotency.test.yml");
    let said = test_servers::test_rules(&tests);
    assert!(said.is_ok(), "{said:?}");
    let tested = std::fs::read_to_string(tests).expect("it can be read");
    let alerts: Vec<_> =
        RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 5);
    for alert in alerts {
        let tests = tested.matches(&format!("alertname: {alert}\n")).count();
        assert_eq!(tests, 2, "{alert}: one that fires, one that does not");
    }
}
