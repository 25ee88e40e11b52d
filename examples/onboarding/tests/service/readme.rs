//! The README's `console` session: its commands print what it shows.

use test_servers::compare_curl_sessions;

use crate::service::Service;

#[tokio::test]
async fn the_readmes_curl_session_gives_what_it_shows() {
    let service = Service::start(&[]).await;
    let commands = compare_curl_sessions(include_str!("../../README.md"), &service.addr);
    assert!(commands > 0, "the README has no `$ curl` line");
}
