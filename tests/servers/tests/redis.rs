//! Redis and Redis Cluster: start, talk, kill, restart, pause.

use std::fs;
use std::net::TcpStream;

use test_servers::{Redis, RedisCluster};

fn field(redis: &Redis, name: &str) -> String {
    let info = redis.cli(&["INFO"]);
    let value = info
        .lines()
        .find_map(|line| line.trim_end().strip_prefix(&format!("{name}:")).map(str::to_owned));
    value.unwrap_or_else(|| panic!("no {name} in\n{info}"))
}

#[test]
fn it_answers_at_its_url() {
    let redis = Redis::start();
    assert_eq!(redis.url(), format!("redis://{}", redis.address()));
    assert_eq!(redis.cli(&["SET", "a", "1"]), "OK");
    assert_eq!(redis.cli(&["-u", &redis.url(), "GET", "a"]), "1");
}

#[test]
fn a_restart_forgets_what_was_only_in_memory() {
    let redis = Redis::start();
    let address = redis.address();
    redis.cli(&["SET", "a", "1"]);
    redis.kill();
    assert!(TcpStream::connect(address).is_err());
    redis.restart();
    assert_eq!(redis.address(), address);
    assert_eq!(redis.cli(&["EXISTS", "a"]), "0");
}

#[test]
fn a_restart_keeps_what_was_appended_to_its_file() {
    let redis = Redis::start_with(&["--appendonly", "yes"]);
    redis.cli(&["SET", "a", "1"]);
    let before = field(&redis, "process_id");
    redis.restart();
    assert_ne!(field(&redis, "process_id"), before);
    assert_eq!(redis.cli(&["GET", "a"]), "1");
}

#[test]
fn arguments_reach_the_server() {
    let redis = Redis::start_with(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]);
    let fill = "for i = 1, 999 do redis.call('SET', i, string.rep('x', 9999)) end";
    redis.cli(&["EVAL", fill, "0"]);
    let reply = redis.cli(&["SET", "a", "1"]);
    assert!(reply.starts_with("OOM"), "{reply}");
}

#[test]
fn a_paused_server_stands_still_until_it_is_resumed() {
    let redis = Redis::start();
    let state = {
        let process = field(&redis, "process_id");
        move || {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
            status.lines().find(|line| line.starts_with("State:")).unwrap().to_owned()
        }
    };
    redis.pause();
    assert!(state().contains("stopped"), "{}", state());
    redis.resume();
    assert_eq!(redis.cli(&["PING"]), "PONG");
    assert!(!state().contains("stopped"), "{}", state());
}

#[test]
fn a_cluster_shares_its_keys_and_survives_a_dead_node() {
    let cluster = RedisCluster::start();
    assert_eq!(cluster.urls().len(), 3);
    let nodes = cluster.nodes();
    // In slots 3300, 7365 and 12182: one in each third of 16384.
    let keys = ["b", "c", "foo"];
    for (node, key) in nodes.iter().zip(keys) {
        assert_eq!(cluster.node_of(key).url(), node.url(), "{key}");
        assert_eq!(node.cli(&["SET", key, "1"]), "OK");
    }
    assert!(nodes[0].cli(&["GET", "foo"]).starts_with("MOVED"));

    nodes[0].kill();
    assert_eq!(nodes[1].cli(&["GET", "c"]), "1");
    assert!(TcpStream::connect(nodes[0].address()).is_err());

    nodes[0].restart();
    cluster.await_ok();
    assert_eq!(nodes[0].cli(&["EXISTS", "b"]), "0");
}
