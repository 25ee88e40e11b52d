//! The start of a service on a shared store, and what it says when there is none.

use std::time::Instant;

use tokio::task::{JoinSet, block_in_place};

use crate::{
    fleet::{Backend, Invite, SLACK, STORE_TIMEOUT, instance, on_each_store},
    service::{program, refusal},
};

on_each_store! {
    a_store_that_is_down_is_one_clear_line
    a_store_that_hangs_is_one_clear_line_in_time
    instances_may_start_at_once_on_an_empty_store
}

async fn a_store_that_is_down_is_one_clear_line(backend: Backend) {
    let url = backend.url();
    let address = url.rsplit(['@', '/']).find(|part| part.contains("127.0.0.1")).expect("a host");
    block_in_place(|| backend.kill());
    let line = refusal(program(&[("ONBOARDING_STORE", &url)])).await;
    assert!(line.starts_with("onboarding: ONBOARDING_STORE: cannot connect to "), "{line}");
    assert!(line.contains(address) && line.contains("refused"), "{line}");
}

async fn a_store_that_hangs_is_one_clear_line_in_time(backend: Backend) {
    block_in_place(|| backend.pause());
    let since = Instant::now();
    let line = refusal(program(&[("ONBOARDING_STORE", &backend.url())])).await;
    assert!(since.elapsed() < STORE_TIMEOUT + SLACK, "after {:?}", since.elapsed());
    assert!(line.starts_with("onboarding: ONBOARDING_STORE: cannot connect to "), "{line}");
}

async fn instances_may_start_at_once_on_an_empty_store(backend: Backend) {
    let mut starts = JoinSet::new();
    for _ in 0..5 {
        let url = backend.url();
        starts.spawn(async move { instance(&url, "0s").await });
    }
    let invite = Invite::new();
    let first = invite.to(&starts.join_next().await.expect("it starts").expect("it serves")).await;
    for service in starts.join_all().await {
        assert_eq!(invite.to(&service).await.body, first.body);
    }
}

#[tokio::test]
async fn a_url_that_is_wrong_is_one_clear_line_without_its_password() {
    for url in ["redis://:secret@localhost:port", "postgres://app:secret@localhost:port/app"] {
        let line = refusal(program(&[("ONBOARDING_STORE", url)])).await;
        assert!(
            line.starts_with("onboarding: ONBOARDING_STORE: ") && line.contains("URL"),
            "{line}"
        );
        assert!(!line.contains("secret"), "{line}");
    }
}
