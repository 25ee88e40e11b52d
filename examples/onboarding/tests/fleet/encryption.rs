//! Stores behind TLS: used if the service trusts their certificate, otherwise refused in one clear
//! line.

use std::path::PathBuf;

use test_servers::{Certificates, Postgres, Redis};

use crate::{
    fleet::{Invite, runs},
    service::{Service, program, refusal},
};

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("the name is UTF-8")
}

/// A request to one instance is replayed by another.
async fn assert_shared(variables: &[(&str, &str)]) {
    let [first, second] = [Service::start(variables).await, Service::start(variables).await];
    let invite = Invite::new();
    let answer = invite.to(&first).await;
    let replay = invite.to(&second).await;
    assert!(replay.replayed);
    assert_eq!(replay.body, answer.body);
    assert_eq!(runs(&invite, &[&first, &second]).await, 1);
}

/// The store at `url` is refused, because of `reason`.
async fn assert_refused(url: &str, authority: Option<&str>, reason: &str) {
    let variables = authority.map(|authority| ("SSL_CERT_FILE", authority));
    let variables: Vec<_> = [("ONBOARDING_STORE", url)].into_iter().chain(variables).collect();
    let line = refusal(program(&variables)).await;
    assert!(line.starts_with("onboarding: ONBOARDING_STORE: cannot connect to "), "{line}");
    assert!(line.contains(reason), "{line}");
}

#[tokio::test]
async fn a_redis_is_trusted_by_the_systems_authorities() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let redis = Redis::start_tls(&certificates);
    let (url, authority) = (redis.tls_url(), text(certificates.authority()));
    assert_shared(&[("ONBOARDING_STORE", &url), ("SSL_CERT_FILE", &authority)]).await;
    assert!(redis.cli(&["DBSIZE"]) != "0");

    assert_refused(&url, Some(&text(others.authority())), "certificate").await;
    assert_refused(&url, None, "certificate").await;
    let other_name = url.replace("127.0.0.1", "localhost");
    assert_refused(&other_name, Some(&authority), "certificate not valid for name").await;
}

#[tokio::test]
async fn a_postgres_is_trusted_by_the_urls_authority() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let postgres = Postgres::start_tls(&certificates);
    let full =
        |authority| format!("{}?sslmode=verify-full&sslrootcert={authority}", postgres.url());
    let authority = text(certificates.authority());
    let url = full(&authority);
    assert_shared(&[("ONBOARDING_STORE", &url)]).await;
    let service = Service::start(&[("ONBOARDING_STORE", &url)]).await;
    let encrypted = "SELECT count(*) FROM pg_stat_ssl WHERE ssl AND pid <> pg_backend_pid()";
    assert_ne!(postgres.execute(encrypted), "0");
    drop(service);

    assert_refused(&full(&text(others.authority())), None, "certificate").await;
    let other_name = url.replace("127.0.0.1", "localhost");
    assert_refused(&other_name, None, "certificate not valid for name").await;
}

#[tokio::test]
async fn a_postgres_without_tls_is_refused_where_tls_is_required() {
    let postgres = Postgres::start();
    assert_refused(&format!("{}?sslmode=require", postgres.url()), None, "TLS").await;
}
