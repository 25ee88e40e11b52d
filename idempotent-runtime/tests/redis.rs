//! [`RedisStore`] on real servers: the conformance suite on one server and on a cluster, and what
//! happens when the server forgets, fills up, hangs, dies and comes back.
#![cfg(all(feature = "redis", feature = "testing"))]

use std::{
    env,
    error::Error,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::fs::symlink,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use bytes::Bytes;
use idempotent_runtime::{
    Claim, Fingerprint, RedisStore, Store, StoreError, StoreKey, Token, testing::conformance,
};
use idempotent_test_support::{Events, Logged, PATIENCE, chain};
use test_servers::{Certificates, Fault, Proxy, Redis, RedisCluster};
use tokio::{task::JoinSet, time::timeout};

const FINGERPRINT: Fingerprint = Fingerprint::from_bytes([7; 16]);
const LEASE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_hours(1);
const RECORD: Bytes = Bytes::from_static(b"small");

fn fresh_key() -> StoreKey {
    StoreKey::from_bytes(*Token::random().as_bytes())
}

async fn connect(redis: &Redis) -> RedisStore {
    RedisStore::connect(redis.url()).await.expect("the server runs")
}

async fn claim(store: &RedisStore, key: StoreKey, token: Token) -> Result<Claim, StoreError> {
    let claim = store.claim(key, FINGERPRINT, token, LEASE);
    timeout(PATIENCE, claim).await.expect("a claim does not hang")
}

async fn claimed(store: &RedisStore) -> (StoreKey, Token) {
    let (key, token) = (fresh_key(), Token::random());
    assert_claimed(claim(store, key, token).await);
    (key, token)
}

#[track_caller]
fn assert_claimed(claim: Result<Claim, StoreError>) {
    match claim {
        Ok(Claim::Claimed { lease: Some(lease) }) => assert_eq!(lease, LEASE),
        claim => panic!("the key was not claimed but {claim:?}"),
    }
}

async fn look(store: &RedisStore, key: StoreKey) -> Claim {
    claim(store, key, Token::random()).await.expect("the key can be read")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_server_conforms() {
    let redis = Redis::start();
    conformance(connect(&redis).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_conforms() {
    let cluster = RedisCluster::start();
    conformance(RedisStore::connect_cluster(cluster.urls()).await.unwrap()).await;
    let keys = |node: &Redis| node.cli(&["DBSIZE"]).parse::<u32>().unwrap();
    assert!(
        cluster.nodes().iter().all(|node| keys(node) > 0),
        "the keys are spread over all nodes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_your_own_conform() {
    let redis = Redis::start();
    let client = redis::Client::open(redis.url()).unwrap();
    conformance(RedisStore::from(client.get_connection_manager().await.unwrap())).await;
    let cluster = RedisCluster::start();
    let client = redis::cluster::ClusterClient::new(cluster.urls()).unwrap();
    let connection = client.get_async_connection().await.unwrap();
    let store = RedisStore::from(connection);
    let (key, token) = claimed(&store).await;
    assert!(store.complete(key, token, RECORD, TTL).await.unwrap());
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
async fn prefixes_separate() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let (key, token) = (fresh_key(), Token::random());
    for store in [store.clone(), store.clone().prefix("shop"), store.clone().prefix("")] {
        assert_claimed(claim(&store, key, Token::random()).await);
        assert!(!store.complete(key, token, RECORD, TTL).await.unwrap());
        store.release(key, token).await.unwrap();
        assert!(matches!(look(&store, key).await, Claim::Running { .. }));
    }
    let absent = store.clone().prefix("absent");
    tokio::select! {
        biased; // the running key is polled first
        () = store.wait(key, 0, TTL) => panic!("the key is running"),
        waited = timeout(PATIENCE, absent.wait(key, 0, TTL)) => waited.expect("polls of its own"),
    }
    let keys = redis.cli(&["KEYS", "*"]);
    let mut keys: Vec<_> = keys.lines().collect();
    keys.sort_unstable();
    assert_eq!(keys, [format!(":{key}"), format!("idempotent:{key}"), format!("shop:{key}")]);
}

#[tokio::test]
async fn every_entry_expires() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let (key, token) = claimed(&store).await;
    let left = || redis.cli(&["PTTL", &format!("idempotent:{key}")]).parse::<u128>().unwrap();
    assert!((1..=LEASE.as_millis()).contains(&left()));
    store.renew(key, token, LEASE * 2).await.unwrap();
    assert!((LEASE.as_millis()..=LEASE.as_millis() * 2).contains(&left()));
    assert_claimed(claim(&store, key, token).await);
    assert!((1..=LEASE.as_millis()).contains(&left()), "a repeated claim holds for its own lease");
    store.complete(key, token, RECORD, TTL).await.unwrap();
    assert!((LEASE.as_millis()..=TTL.as_millis()).contains(&left()));
}

#[tokio::test]
async fn times_beyond_the_servers_range_are_cut() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let (key, token) = (fresh_key(), Token::random());
    store.claim(key, FINGERPRINT, token, Duration::MAX).await.unwrap();
    assert!(store.renew(key, token, Duration::MAX).await.unwrap());
    assert!(store.complete(key, token, RECORD, Duration::MAX).await.unwrap());
    assert!(matches!(look(&store, key).await, Claim::Stored { .. }));
}

/// The commands that clients send to a server, from now on.
struct Monitor(BufReader<TcpStream>);

impl Monitor {
    fn start(redis: &Redis) -> Self {
        let mut stream = TcpStream::connect(redis.address()).unwrap();
        stream.write_all(b"MONITOR\r\n").unwrap();
        let mut monitor = Self(BufReader::new(stream));
        assert_eq!(monitor.line(), "+OK\r\n");
        monitor
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// The names of the commands that came since the last call, in the clients' order.
    fn commands(&mut self, redis: &Redis) -> Vec<String> {
        redis.cli(&["ECHO", "the end"]);
        let mut commands = Vec::new();
        loop {
            let line = self.line();
            if line.contains("the end") {
                return commands;
            }
            // A script's own commands come from `lua`, not over the network.
            if !line.contains(" lua] ") {
                commands.push(line.split('"').nth(1).unwrap().to_uppercase());
            }
        }
    }
}

#[tokio::test]
async fn every_verb_is_one_round_trip() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let mut monitor = Monitor::start(&redis);
    let (key, token) = claimed(&store).await;
    assert_eq!(monitor.commands(&redis), ["EVALSHA", "EVAL"], "the first call loads the script");

    for _ in 0..2 {
        let (key, token) = claimed(&store).await;
        assert!(matches!(look(&store, key).await, Claim::Running { .. }));
        assert_eq!(monitor.commands(&redis), ["EVALSHA"; 2], "claims");
        store.renew(key, token, LEASE).await.unwrap();
        store.complete(key, token, RECORD, TTL).await.unwrap();
        store.release(key, token).await.unwrap();
        monitor.commands(&redis);
    }
    assert!(store.renew(key, token, LEASE).await.unwrap());
    assert_eq!(monitor.commands(&redis), ["EVALSHA"], "a renewal");
    assert!(store.complete(key, token, RECORD, TTL).await.unwrap());
    assert_eq!(monitor.commands(&redis), ["EVALSHA"], "a completion");
    assert!(matches!(look(&store, key).await, Claim::Stored { .. }));
    assert_eq!(monitor.commands(&redis), ["EVALSHA"], "a replay");
    store.release(key, token).await.unwrap();
    assert_eq!(monitor.commands(&redis), ["EVALSHA"], "a release");
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_gets_them_again() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let forget = || assert_eq!(redis.cli(&["SCRIPT", "FLUSH"]), "OK");
    for _ in 0..2 {
        let (key, token) = claimed(&store).await;
        assert!(store.renew(key, token, LEASE).await.unwrap());
        forget();
        assert!(store.renew(key, token, LEASE).await.unwrap());
        assert!(matches!(look(&store, key).await, Claim::Running { .. }));
        assert!(store.complete(key, token, RECORD, TTL).await.unwrap());
        forget();
        store.release(key, token).await.unwrap();
        assert!(matches!(look(&store, key).await, Claim::Stored { .. }));
        forget();
    }
}

#[tokio::test]
async fn a_restart_of_the_server_is_not_noticed() {
    let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = connect(&redis).await;
    let (stored, token) = claimed(&store).await;
    assert!(store.complete(stored, token, RECORD, TTL).await.unwrap());
    let (running, token) = claimed(&store).await;
    for _ in 0..3 {
        redis.restart();
        // The first call meets the broken connection, the first of each verb a missing script.
        assert!(store.renew(running, token, LEASE).await.unwrap());
        assert!(matches!(look(&store, running).await, Claim::Running { .. }));
        let Claim::Stored { record, .. } = look(&store, stored).await else {
            panic!("the record is still there");
        };
        assert_eq!(record, RECORD);
    }
    redis.restart();
    assert!(store.complete(running, token, RECORD, TTL).await.unwrap());
}

#[tokio::test]
async fn a_dead_server_is_an_error_that_names_the_cause_until_it_is_back() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let (key, token) = claimed(&store).await;
    redis.kill();
    for _ in 0..3 {
        let error = claim(&store, key, token).await.expect_err("nobody answers");
        assert!(chain(&error).contains("refused"), "{}", chain(&error));
        store.complete(key, token, RECORD, TTL).await.expect_err("nobody answers");
    }
    redis.restart();
    // The runtime tries a claim twice: a connection that failed before is replaced by the first.
    let first = claim(&store, key, token).await;
    let second = claim(&store, key, token).await;
    assert_claimed(first.or(second));
}

#[tokio::test]
async fn a_server_that_hangs_is_used_again_when_it_goes_on() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let (key, token) = claimed(&store).await;
    redis.pause();
    let cut_off = || timeout(Duration::from_millis(100), store.renew(key, token, LEASE));
    cut_off().await.expect_err("nobody answers");
    cut_off().await.expect_err("nobody answers");
    redis.resume();
    assert_claimed(claim(&store, key, token).await);
    claimed(&store).await;
}

/// Calls until one succeeds, as the requests of a service do.
async fn recovered(store: &RedisStore) {
    let claims = async {
        while claim(store, fresh_key(), Token::random()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, claims).await.expect("it recovers by itself");
}

#[tokio::test]
async fn a_login_that_was_refused_is_tried_again() {
    let redis = Redis::start();
    let password = |user: &str, password: &str| {
        let set = ["ACL", "SETUSER", user, "on", "resetpass", password, "~*", "+@all"];
        assert_eq!(redis.cli(&set), "OK");
    };
    password("app", ">secret");
    let url = redis.url().replace("//", "//app:secret@");
    let store = RedisStore::connect(url).await.unwrap();
    claimed(&store).await;
    password("app", ">changed");
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    for _ in 0..3 {
        let error = claim(&store, fresh_key(), Token::random()).await.expect_err("no login");
        assert!(chain(&error).contains("authentication failed"), "{}", chain(&error));
    }
    password("app", ">secret");
    recovered(&store).await;
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left_for_the_new_primary() {
    let [old, new] = [(); 2].map(|()| Redis::start_with(&["--unixsocket", "socket"]));
    let directory = |redis: &Redis| {
        let answer = redis.cli(&["CONFIG", "GET", "dir"]);
        PathBuf::from(answer.lines().last().unwrap())
    };
    // Stands for a name that leads to the primary.
    let primary = directory(&old).join("primary");
    symlink(directory(&old).join("socket"), &primary).unwrap();
    let store = RedisStore::connect(format!("unix://{}", primary.display())).await.unwrap();
    claimed(&store).await;

    let address = new.address();
    old.cli(&["REPLICAOF", &address.ip().to_string(), &address.port().to_string()]);
    let error = claim(&store, fresh_key(), Token::random()).await.expect_err("a replica");
    assert!(chain(&error).contains("read only"), "{}", chain(&error));
    fs::remove_file(&primary).unwrap();
    symlink(directory(&new).join("socket"), &primary).unwrap();
    recovered(&store).await;
    assert_eq!(new.cli(&["DBSIZE"]), "1");
}

#[tokio::test]
async fn a_slow_answer_is_waited_for() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let store = RedisStore::connect(redis.url_through(&proxy)).await.unwrap();
    let (key, token) = claimed(&store).await;
    // Longer, there and back, than the 500 ms that the client waits for an answer by default.
    proxy.set(Fault::Latency(Duration::from_millis(400)));
    assert_claimed(claim(&store, key, token).await);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_its_tokens() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let store = RedisStore::connect(redis.url_through(&proxy)).await.unwrap();
    claimed(&store).await;
    let (key, token) = (fresh_key(), Token::random());
    proxy.set(Fault::LoseReplies);
    claim(&store, key, token).await.expect_err("the answer is lost");
    proxy.set(Fault::None);
    let other = connect(&redis).await;
    assert!(matches!(look(&other, key).await, Claim::Running { .. }), "the claim was made");
    let first = claim(&store, key, token).await;
    assert_claimed(first.or(claim(&store, key, token).await));
}

#[tokio::test]
async fn connecting_to_nobody_is_one_clear_error() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let (url, address) = (redis.url(), redis.address().to_string());
    proxy.set(Fault::Stall);
    let connect = timeout(PATIENCE, RedisStore::connect(redis.url_through(&proxy)));
    let error = connect.await.expect("does not hang").expect_err("nobody answers");
    assert!(error.to_string().ends_with(&format!("at {}", proxy.address())), "{error}");
    assert!(error.source().is_some());

    redis.kill();
    let connect = timeout(PATIENCE, RedisStore::connect(url.replace("//", "//user:secret@")));
    let error = connect.await.expect("does not hang").expect_err("nobody listens");
    assert_eq!(error.to_string(), format!("cannot connect to the idempotency store at {address}"));
    assert!(chain(&error).contains("refused"), "{}", chain(&error));
    assert!(!format!("{error:?} {}", chain(&error)).contains("secret"));

    let connect = timeout(PATIENCE, RedisStore::connect_cluster([&url]));
    let error = connect.await.expect("does not hang").expect_err("nobody listens");
    assert_eq!(error.to_string(), format!("cannot connect to the idempotency store at {address}"));

    let error = RedisStore::connect("localhost").await.expect_err("not a URL");
    assert!(error.to_string().contains("invalid URL"), "{error}");
}

#[tokio::test]
async fn full_memory_at_completion_keeps_duplicates_out_for_the_ttl() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let (kept, other) = claimed(&store).await;
    assert!(store.complete(kept, other, RECORD, TTL).await.unwrap());
    let (key, token) = claimed(&store).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);

    let error = store.complete(key, token, vec![0; 1000].into(), TTL).await.expect_err("full");
    assert!(error.to_string().contains("larger"), "{error}");
    let held_for_the_ttl = |claim| match claim {
        Claim::Running { lease_left: Some(left), .. } => assert!(left > LEASE, "{left:?}"),
        claim => panic!("the claim is held, not {claim:?}"),
    };
    held_for_the_ttl(look(&store, key).await);
    assert!(store.renew(key, token, LEASE).await.unwrap());
    held_for_the_ttl(look(&store, key).await);

    assert!(store.complete(key, token, RECORD, TTL).await.unwrap(), "a note as small as a claim");
    for key in [key, kept] {
        let Claim::Stored { record, fingerprint } = look(&store, key).await else {
            panic!("full memory does not keep a record from being read");
        };
        assert_eq!((record, fingerprint), (RECORD, FINGERPRINT));
    }
    let error = claim(&store, fresh_key(), token).await.expect_err("a new claim needs memory");
    assert!(chain(&error).contains("OOM"), "{}", chain(&error));
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    claimed(&store).await;
}

#[tokio::test]
async fn an_entry_of_another_format_is_an_error_and_stays() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let (key, token) = (fresh_key(), Token::random());
    let name = format!("idempotent:{key}");
    redis.cli(&["SET", &name, &"2".repeat(33)]);
    claim(&store, key, token).await.expect_err("an entry of a later release");
    assert!(!store.complete(key, token, RECORD, TTL).await.unwrap());
    store.release(key, token).await.unwrap();
    assert_eq!(redis.cli(&["GET", &name]), "2".repeat(33));
    redis.cli(&["DEL", &name]);
    redis.cli(&["LPUSH", &name, "1"]);
    let error = claim(&store, key, token).await.expect_err("somebody else's key");
    assert!(chain(&error).contains("WRONGTYPE"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_waiters_poll_as_one() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let (key, _) = claimed(&store).await;
    redis.cli(&["CONFIG", "RESETSTAT"]);
    let waiters: JoinSet<()> = (0..100)
        .map(|_| {
            let store = store.clone();
            async move { store.wait(key, 0, Duration::from_secs(1)).await }
        })
        .collect();
    waiters.join_all().await;
    let stats = redis.cli(&["INFO", "commandstats"]);
    let polls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_getrange:calls="));
    let polls: u32 = polls.and_then(|polls| polls.split(',').next()).unwrap().parse().unwrap();
    // One waiter polls at most 12 times in a second.
    assert!((1..60).contains(&polls), "{polls} polls for 100 waiters");
}

#[tokio::test]
async fn a_wait_ends_where_the_server_is_gone() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let (key, _) = claimed(&store).await;
    redis.kill();
    timeout(PATIENCE, store.wait(key, 0, TTL)).await.expect("the claim that follows says why");
}

#[tokio::test]
async fn a_dead_node_takes_only_its_own_keys_along() {
    let cluster = RedisCluster::start();
    let store = RedisStore::connect_cluster(cluster.urls()).await.unwrap();
    let dead = &cluster.nodes()[0];
    let (mut lost, mut kept) = (Vec::new(), Vec::new());
    while lost.len() < 3 || kept.len() < 3 {
        let (key, token) = claimed(&store).await;
        if is_on(&cluster, 0, key) { lost.push((key, token)) } else { kept.push((key, token)) }
    }
    dead.kill();
    for (key, token) in &kept {
        assert!(store.complete(*key, *token, RECORD, TTL).await.unwrap());
        assert!(matches!(look(&store, *key).await, Claim::Stored { .. }));
    }
    claim(&store, lost[0].0, lost[0].1).await.expect_err("its node is dead");
    dead.restart();
    cluster.await_ok();
    for (key, token) in &lost {
        assert_claimed(claim(&store, *key, *token).await);
    }
}

#[tokio::test]
async fn a_node_that_hangs_does_not_hold_up_the_others() {
    let cluster = RedisCluster::start();
    let store = RedisStore::connect_cluster(cluster.urls()).await.unwrap();
    let paused = &cluster.nodes()[0];
    let mut keys = Vec::new();
    while keys.len() < 20 {
        let (key, token) = claimed(&store).await;
        keys.push((key, token, is_on(&cluster, 0, key)));
    }
    paused.pause();
    for (key, token, is_lost) in keys {
        let renewal = store.renew(key, token, LEASE);
        if is_lost {
            timeout(Duration::from_millis(100), renewal).await.expect_err("its node hangs");
        } else {
            assert!(timeout(PATIENCE, renewal).await.expect("its node answers").unwrap());
        }
    }
    paused.resume();
}

/// Runs itself once more, in a process that trusts the cluster's authority.
#[tokio::test]
async fn a_cluster_is_reached_by_tls_at_all_its_nodes() {
    const URL: &str = "URL_OF_A_CLUSTER";
    if let Ok(url) = env::var(URL) {
        let store = RedisStore::connect_cluster([url]).await.unwrap();
        for _ in 0..20 {
            claimed(&store).await;
        }
        return;
    }
    let certificates = Certificates::new();
    let cluster = RedisCluster::start_tls(&certificates);
    let url = cluster.nodes()[0].tls_url();
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(["--exact", "a_cluster_is_reached_by_tls_at_all_its_nodes"]).env(URL, &url);
    again.env("SSL_CERT_FILE", certificates.authority());
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let keys = cluster.nodes().iter().map(|node| node.cli(&["DBSIZE"]).parse::<u32>().unwrap());
    assert_eq!(keys.sum::<u32>(), 20);

    let error = RedisStore::connect_cluster([url]).await.expect_err("nobody trusts it");
    assert!(chain(&error).contains("certificate"), "{}", chain(&error));
}

#[tokio::test]
async fn an_instance_starts_while_a_node_of_its_cluster_hangs() {
    let cluster = RedisCluster::start();
    let keys: Vec<_> = (0..20).map(|_| fresh_key()).collect();
    let (hung, served): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|&key| is_on(&cluster, 0, key));
    cluster.nodes()[0].pause();
    let connect = timeout(PATIENCE, RedisStore::connect_cluster(cluster.urls())).await;
    let store = connect.expect("does not hang").expect("two nodes answer");
    for key in served {
        assert_claimed(claim(&store, key, Token::random()).await);
    }
    cluster.nodes()[0].resume();
    for key in hung {
        assert_claimed(claim(&store, key, Token::random()).await);
    }
}

/// Whether `key` is on the node at `index`. All nodes run.
fn is_on(cluster: &RedisCluster, index: usize, key: StoreKey) -> bool {
    let node = cluster.node_of(&format!("idempotent:{key}"));
    node.address() == cluster.nodes()[index].address()
}

#[tokio::test]
async fn a_slot_that_moves_to_another_node_keeps_its_keys() {
    let cluster = RedisCluster::start();
    let [from, to, third] = cluster.nodes() else { panic!("three nodes") };
    let store = RedisStore::connect_cluster(cluster.urls()).await.unwrap().prefix("{shop}");
    let slot = from.cli(&["CLUSTER", "KEYSLOT", "{shop}"]);
    assert_eq!(cluster.node_of("{shop}").address(), from.address(), "slot {slot}");
    let ids = [from, to].map(|node| node.cli(&["CLUSTER", "MYID"]));
    let (early, token) = claimed(&store).await;

    assert_eq!(to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]), "OK");
    assert_eq!(from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]), "OK");
    // What is there is served there, and what is not is asked for at the other node, whose scripts
    // are missing.
    assert!(store.renew(early, token, LEASE).await.unwrap());
    let (late, late_token) = claimed(&store).await;
    assert!(store.complete(late, late_token, RECORD, TTL).await.unwrap());
    assert_eq!([from, to].map(|node| node.cli(&["DBSIZE"])), ["1", "1"]);

    let port = to.address().port().to_string();
    let name = format!("{{shop}}:{early}");
    assert_eq!(from.cli(&["MIGRATE", "127.0.0.1", &port, &name, "0", "5000"]), "OK");
    assert!(store.renew(early, token, LEASE).await.unwrap());
    for node in [to, from, third] {
        assert_eq!(node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]), "OK");
    }
    assert!(matches!(look(&store, early).await, Claim::Running { .. }));
    assert!(store.complete(early, token, RECORD, TTL).await.unwrap());
    assert!(matches!(look(&store, late).await, Claim::Stored { .. }));
    claimed(&store).await;
    assert_eq!([from, to].map(|node| node.cli(&["DBSIZE"])), ["0", "3"]);
}

/// Takes a master away, makes its replica the master, and uses its keys.
async fn failover(down: impl FnOnce(&Redis), limit: Duration) {
    let cluster = RedisCluster::start();
    let replica = cluster.replica(0);
    let store = RedisStore::connect_cluster(cluster.urls()).await.unwrap();
    let (key, token) = loop {
        let (key, token) = claimed(&store).await;
        if is_on(&cluster, 0, key) {
            break (key, token);
        }
    };
    // What was not replicated yet would be lost.
    let master = &cluster.nodes()[0];
    let replicated = async {
        while replica.cli(&["DBSIZE"]) != master.cli(&["DBSIZE"]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, replicated).await.expect("the replica has it");
    down(master);
    assert_eq!(replica.cli(&["CLUSTER", "FAILOVER", "TAKEOVER"]), "OK");
    let renewals = async {
        while !matches!(timeout(limit, store.renew(key, token, LEASE)).await, Ok(Ok(true))) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, renewals).await.expect("the replica is found");
    assert!(matches!(look(&store, key).await, Claim::Running { .. }));
}

#[tokio::test]
async fn the_replica_of_a_dead_master_is_found() {
    failover(Redis::kill, PATIENCE).await;
}

#[tokio::test]
async fn the_replica_of_a_master_that_hangs_is_found() {
    failover(Redis::pause, Duration::from_millis(200)).await;
}

/// What the library logs meanwhile on this thread: level, message and fields.
async fn log_of<T>(work: impl Future<Output = T>) -> (T, String) {
    let (events, guard) = Events::of_thread();
    let output = work.await;
    drop(guard);
    let events = events.all().into_iter();
    let events = events.filter(|event| event.target.starts_with("idempotent_runtime"));
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
