//! Connecting: to what, with which errors, and what it warns about.

use std::error::Error;

use idempotent_runtime::{ConnectError, RedisStore, Store, testing::conformance};
use idempotent_test_support::{Events, Logged, PATIENCE, chain};
use test_servers::{Fault, Proxy, Redis, RedisCluster};
use tokio::time::timeout;

use super::{TTL, claimed, connect};
use crate::{RECORD, assert_told_once, is_held};

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_your_own_conform() {
    let redis = Redis::start();
    let client = ::redis::Client::open(redis.url()).unwrap();
    conformance(RedisStore::new(client.get_connection_manager().await.unwrap())).await;
    let cluster = RedisCluster::start();
    let client = ::redis::cluster::ClusterClient::new(cluster.urls()).unwrap();
    let connection = client.get_async_connection().await.unwrap();
    let store = RedisStore::builder().prefix("shop").build(connection);
    let attempt = claimed(&store).await;
    assert!(is_held(store.complete(&attempt, RECORD, TTL).await));
}

#[tokio::test]
async fn a_unix_socket_connects() {
    let redis = Redis::start_with(&["--unixsocket", "socket"]);
    let answer = redis.cli(&["CONFIG", "GET", "dir"]);
    let directory = answer.lines().last().unwrap();
    let store = RedisStore::connect(format!("unix://{directory}/socket")).await.unwrap();
    claimed(&store).await;
    assert_eq!(redis.cli(&["DBSIZE"]), "1");
}

#[tokio::test]
async fn connecting_to_nobody_is_one_clear_error() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let (url, address) = (redis.url(), redis.address().to_string());
    proxy.set(Fault::Stall);
    let connect = timeout(PATIENCE, RedisStore::connect(redis.url_through(&proxy)));
    let error = connect.await.expect("does not hang").expect_err("nobody answers");
    let silent = format!("at `{}`, no answer within 2s", proxy.address());
    assert!(error.to_string().contains(&silent), "{error}");
    assert!(error.source().is_some());

    redis.kill();
    let connect = timeout(PATIENCE, RedisStore::connect(url.replace("//", "//user:secret@")));
    let error = connect.await.expect("does not hang").expect_err("nobody listens");
    assert_eq!(
        error.to_string(),
        format!("cannot connect to Redis at `{address}`: check the URL, and that the server is up")
    );
    assert!(chain(&error).contains("refused"), "{}", chain(&error));
    assert_told_once(&error);
    assert!(!format!("{error:?} {}", chain(&error)).contains("secret"));

    let connect = timeout(PATIENCE, RedisStore::connect_cluster([&url]));
    let error = connect.await.expect("does not hang").expect_err("nobody listens");
    assert_eq!(
        error.to_string(),
        format!("cannot connect to Redis at `{address}`: check the URL, and that the server is up")
    );

    for url in ["localhost", "redis://user:secret@host:port"] {
        let error = RedisStore::connect(url).await.expect_err("not a URL");
        assert!(error.to_string().contains("URL of the Redis server is not valid"), "{error}");
        assert!(!format!("{error:?} {}", chain(&error)).contains("secret"));
    }

    let none: [&str; 0] = [];
    let error = RedisStore::connect_cluster(none).await.expect_err("no node");
    assert!(error.to_string().contains("pass at least one URL"), "{error}");
}

/// What the library logs meanwhile on this thread: level, message and fields.
async fn log_of<T>(work: impl Future<Output = T>) -> (T, String) {
    let (events, guard) = Events::of_thread();
    let output = work.await;
    drop(guard);
    let events = events.all().into_iter();
    let events = events.filter(|event| event.target == "idempotent_axum");
    let lines = events.map(|Logged { level, message, fields, .. }| {
        format!("{level} {message} {}\n", fields.join(" "))
    });
    (output, lines.collect())
}

#[tokio::test]
async fn connecting_warns_of_a_server_that_evicts() {
    let redis = Redis::start();
    let (_, log) = log_of(connect(&redis)).await;
    assert_eq!(log, "", "the default policy evicts nothing");
    for policy in ["allkeys-lru", "volatile-ttl"] {
        redis.cli(&["CONFIG", "SET", "maxmemory-policy", policy]);
        let (_, log) = log_of(connect(&redis)).await;
        assert!(log.contains("WARN") && log.contains(policy), "{log}");
    }
    redis.cli(&["ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "-info"]);
    let url = redis.url().replace("//", "//limited:secret@");
    let (store, log) = log_of(RedisStore::connect(url)).await;
    assert!(log.contains("DEBUG") && log.contains("maxmemory-policy"), "{log}");
    assert!(!log.contains("WARN"), "{log}");
    claimed(&store.unwrap()).await;

    let cluster = RedisCluster::start();
    cluster.nodes()[2].cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    let (_, log) = log_of(RedisStore::connect_cluster(&cluster.urls()[..1])).await;
    assert!(log.contains("WARN") && log.contains("allkeys-random"), "{log}");
}

#[test]
fn an_error_of_connecting_crosses_threads() {
    fn crosses<T: Error + Send + Sync + 'static>() {}
    crosses::<ConnectError>();
}

#[tokio::test]
async fn a_user_who_may_not_run_a_verb_is_refused_and_one_who_may_just_do_that_is_not() {
    let redis = Redis::start();
    let url = redis.url().replace("//", "//user:secret@");
    let needed =
        ["+eval", "+evalsha", "+get", "+getrange", "+set", "+del", "+pexpire", "+pttl", "+info"];
    let with_rights = async |keys: &str, rights: &[&str]| {
        redis.cli(&["ACL", "DELUSER", "user"]);
        let user = ["ACL", "SETUSER", "user", "on", ">secret", keys, "-@all", "+ping", "+hello"];
        redis.cli(&[&user, rights].concat());
        RedisStore::builder().prefix("shop").connect(&url).await
    };
    let store = with_rights("~shop:*", &needed).await.expect("these are all that are needed");
    let attempt = claimed(&store).await;
    assert!(is_held(store.complete(&attempt, RECORD, TTL).await));
    assert_eq!(redis.cli(&["DBSIZE"]), "1", "nothing is left of the probe");

    for missing in &needed[..8] {
        let rights: Vec<_> = needed.iter().copied().filter(|right| right != missing).collect();
        // A server that has the script is not sent it again.
        redis.cli(&["SCRIPT", "FLUSH"]);
        let error = with_rights("~shop:*", &rights).await.expect_err(missing);
        let text = error.to_string();
        assert!(
            text.starts_with("the user may not run what the idempotency store needs"),
            "{text}"
        );
        assert_told_once(&error);
    }
    let error = with_rights("~other:*", &needed).await.expect_err("these are not its keys");
    assert!(error.to_string().contains("on keys that begin with `shop:`"), "{error}");
}
