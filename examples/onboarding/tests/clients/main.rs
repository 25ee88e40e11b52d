//! Clients that retry, in three languages, against the real program: the response to their first try is
//! lost on its way, and their second try gets it.

#![cfg(unix)]

#[path = "../../../clients/retry.rs"]
mod retry;
#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "../service/service.rs"]
mod service;

use std::{future::Future, path::Path};

use test_servers::{Proxy, Way, python};
use tokio::{process::Command, task::block_in_place};

use crate::service::{ENTITIES, Service};

/// Runs a client whose first response is lost: a replay must tell it about the one entity.
async fn told_by_a_replay<F>(client: impl FnOnce(String) -> F)
where
    F: Future<Output = String> + Send + 'static,
{
    let service = Service::start(&[]).await;
    let proxy = Proxy::start(service.addr.parse().expect("it is an address"));
    let lost = proxy.hold(Way::Reply, b"HTTP/1.1 201");
    let client = tokio::spawn(client(format!("http://{}", proxy.address())));
    block_in_place(|| lost.wait());
    drop(lost);
    let told = client.await.expect("the client ends");
    let entities = service.list(ENTITIES).await;
    let ids: Vec<_> = entities.iter().filter_map(|entity| entity["id"].as_str()).collect();
    assert_eq!(ids.len(), 1, "{entities:?}");
    assert_eq!(told, format!("201 true {}", ids[0]));
}

/// What a program of `examples/clients` prints.
async fn printed_by(mut program: Command, name: &str, service: String) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients").join(name);
    let run = program.arg(file).arg(service).env("NO_PROXY", "*").kill_on_drop(true).output();
    let output = run.await.unwrap_or_else(|error| panic!("{name} does not run: {error}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_javascript_gets_the_response_that_was_lost() {
    let node = Command::new("node"); // Debian's `nodejs`
    told_by_a_replay(|service| printed_by(node, "retry.mjs", service)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_python_gets_the_response_that_was_lost() {
    let python = Command::new(python("python"));
    told_by_a_replay(|service| printed_by(python, "retry.py", service)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_rust_gets_the_response_that_was_lost() {
    let client = reqwest::Client::builder().no_proxy().build().expect("its settings are valid");
    let client = retry::retrying(client);
    let invite = async move |service: String| retry::invite(&client, &service).await;
    told_by_a_replay(|service| async move { invite(service).await.expect("it is answered") }).await;
}

#[test]
fn the_page_shows_these_clients() {
    let page = include_str!("../../../../docs/retrying.md");
    for (language, program) in [
        ("js", include_str!("../../../clients/retry.mjs")),
        ("python", include_str!("../../../clients/retry.py")),
        ("rs", include_str!("../../../clients/retry.rs")),
    ] {
        let block = page.split(&format!("```{language}\n")).nth(1).expect("it is there");
        let block = block.split("```").next().unwrap_or_default();
        assert!(program.contains(block), "`{language}` differs from examples/clients:\n{block}");
    }
}
