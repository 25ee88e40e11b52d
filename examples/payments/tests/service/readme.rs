//! The README's `console` session: its commands print what it shows.

use test_servers::{Postgres, compare_curl_sessions};

use crate::payments;

#[test]
fn the_readmes_curl_session_gives_what_it_shows() {
    let postgres = Postgres::start();
    let service = payments(&postgres.url(), &[]);
    let readme = include_str!("../../README.md");
    assert_eq!(compare_curl_sessions(readme, &service.address()), 4);
}
