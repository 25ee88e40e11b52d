//! What the verbs do to a server: their keys, their expiry, their round trips.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use idempotent_runtime::{Claim, Forgotten, KeyState, RedisStore, Store, testing::conformance};
use idempotent_test_support::PATIENCE;
use test_servers::Redis;
use tokio::{task::JoinSet, time::timeout};

use super::{LEASE, TTL, assert_claimed, claim, claimed, connect, look};
use crate::{RECORD, at, fresh, fresh_key, is_held};

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_server_conforms() {
    let redis = Redis::start();
    conformance(connect(&redis).await).await;
}

#[tokio::test]
async fn prefixes_separate() {
    let redis = Redis::start();
    let attempt = fresh();
    let key = attempt.key;
    let with_prefix = async |prefix: &str| {
        RedisStore::builder().prefix(prefix).connect(redis.url()).await.expect("the server runs")
    };
    let store = connect(&redis).await;
    for store in [&store, &with_prefix("shop").await, &with_prefix("").await] {
        assert_claimed(claim(store, &at(key)).await);
        assert!(!is_held(store.complete(&attempt, RECORD, TTL).await));
        store.release(&attempt).await.unwrap();
        assert!(matches!(look(store, key).await, Claim::Running { .. }));
    }
    let absent = with_prefix("absent").await;
    tokio::select! {
        biased; // the running key is polled first
        () = store.wait(key, TTL) => panic!("the key is running"),
        waited = timeout(PATIENCE, absent.wait(key, TTL)) => waited.expect("polls of its own"),
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
    let attempt = claimed(&store).await;
    let left =
        || redis.cli(&["PTTL", &format!("idempotent:{}", attempt.key)]).parse::<u128>().unwrap();
    assert!((1..=LEASE.as_millis()).contains(&left()));
    assert!(is_held(store.renew(&attempt, LEASE * 2).await));
    assert!((LEASE.as_millis()..=LEASE.as_millis() * 2).contains(&left()));
    assert_claimed(claim(&store, &attempt).await);
    assert!((1..=LEASE.as_millis()).contains(&left()), "a repeated claim holds for its own lease");
    assert!(is_held(store.complete(&attempt, RECORD, TTL).await));
    assert!((LEASE.as_millis()..=TTL.as_millis()).contains(&left()));
}

#[tokio::test]
async fn times_beyond_the_servers_range_are_cut() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let attempt = fresh();
    store.claim(&attempt, Duration::MAX).await.unwrap();
    assert!(is_held(store.renew(&attempt, Duration::MAX).await));
    assert!(is_held(store.complete(&attempt, RECORD, Duration::MAX).await));
    assert!(matches!(look(&store, attempt.key).await, Claim::Stored { .. }));
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
    redis.cli(&["SCRIPT", "FLUSH"]); // `connect` has tried them all
    let mut monitor = Monitor::start(&redis);
    let attempt = claimed(&store).await;
    assert_eq!(monitor.commands(&redis), ["EVALSHA", "EVAL"], "the first call loads the script");

    for _ in 0..2 {
        let attempt = claimed(&store).await;
        assert!(matches!(look(&store, attempt.key).await, Claim::Running { .. }));
        assert_eq!(monitor.commands(&redis), ["EVALSHA"; 2], "claims");
        assert!(is_held(store.renew(&attempt, LEASE).await));
        assert!(is_held(store.complete(&attempt, RECORD, TTL).await));
        store.release(&attempt).await.unwrap();
        monitor.commands(&redis);
    }
    assert!(is_held(store.renew(&attempt, LEASE).await));
    assert_eq!(monitor.commands(&redis), ["EVALSHA"], "a renewal");
    assert!(is_held(store.complete(&attempt, RECORD, TTL).await));
    assert_eq!(monitor.commands(&redis), ["EVALSHA"], "a completion");
    assert!(matches!(look(&store, attempt.key).await, Claim::Stored { .. }));
    assert_eq!(monitor.commands(&redis), ["EVALSHA"], "a replay");
    store.release(&attempt).await.unwrap();
    assert_eq!(monitor.commands(&redis), ["EVALSHA"], "a release");
    for _ in 0..2 {
        store.read(attempt.key).await.unwrap();
        let _ = store.forget(fresh_key(), false).await.unwrap();
        monitor.commands(&redis); // the first ones load their scripts
    }
    assert!(matches!(store.read(attempt.key).await.unwrap(), KeyState::Stored { .. }));
    assert_eq!(monitor.commands(&redis), ["EVALSHA"], "a look");
    assert_eq!(store.forget(attempt.key, false).await.unwrap(), Forgotten::Freed);
    assert_eq!(monitor.commands(&redis), ["EVALSHA"], "forgetting");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_waiters_poll_as_one() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let attempt = claimed(&store).await;
    redis.cli(&["CONFIG", "RESETSTAT"]);
    let waiters: JoinSet<()> = (0..100)
        .map(|_| {
            let (store, key) = (store.clone(), attempt.key);
            async move { store.wait(key, Duration::from_secs(1)).await }
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
async fn a_look_leaves_every_entry_as_it_is() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let (running, done, absent) = (claimed(&store).await, claimed(&store).await, fresh_key());
    assert!(is_held(store.complete(&done, RECORD, TTL).await));
    let all = |verb: &str| {
        let names = [running.key, done.key].map(|key| format!("idempotent:{key}"));
        names.map(|name| redis.cli(&[verb, &name]))
    };
    let (entries, ends) = (all("GET"), all("PEXPIRETIME"));
    for _ in 0..3 {
        assert!(matches!(store.read(running.key).await.unwrap(), KeyState::Running { .. }));
        assert!(matches!(store.read(done.key).await.unwrap(), KeyState::Stored { .. }));
        assert_eq!(store.read(absent).await.unwrap(), KeyState::Absent);
        let left = match store.forget(running.key, false).await.unwrap() {
            Forgotten::StillRunning { lease_left } => lease_left.unwrap(),
            forgotten => panic!("the run is spared, not {forgotten:?}"),
        };
        assert!(left <= LEASE);
    }
    assert_eq!((all("GET"), all("PEXPIRETIME")), (entries, ends));
    assert_eq!(redis.cli(&["DBSIZE"]), "2");
}

#[tokio::test]
async fn an_entry_says_its_operation() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let attempt = fresh().named("POST /payments/{id}");
    assert!(matches!(claim(&store, &attempt).await, Ok(Claim::Claimed { .. })));
    let says = || redis.cli(&["GETRANGE", &format!("idempotent:{}", attempt.key), "34", "52"]);
    assert_eq!(says(), "POST /payments/{id}");
    assert!(is_held(store.complete(&attempt, RECORD, TTL).await));
    assert_eq!(says(), "POST /payments/{id}");
    let Claim::Stored { record, .. } = look(&store, attempt.key).await else {
        panic!("it is stored")
    };
    assert_eq!(record, RECORD);
}
