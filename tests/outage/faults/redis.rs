//! Faults of one Redis server.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use test_servers::{Fault, Proxy, Redis, RedisSentinels};

use super::{Change, Row, Scene, on_the_way};
use crate::{lock, service::Access, wire::RedisSession};

/// What it acknowledges survives its death.
const SAFE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

pub(super) fn rows() -> Vec<Row> {
    let row = |fault, scene| Row {
        store: "Redis",
        fault,
        rate: None,
        pool: 1,
        loses_writes: false,
        has_copies: false,
        scene,
    };
    vec![
        row("killed, restarted", killed),
        Row { has_copies: true, ..row("killed, restarted; near cache", killed) },
        Row {
            loses_writes: true,
            ..row("killed, restarted without a log", || {
                simple(Redis::start(), Redis::kill, Redis::restart)
            })
        },
        row("stopped, continued", || simple(Redis::start(), Redis::pause, Redis::resume)),
        row("refusing: connections are reset", || way(Fault::Reset)),
        row("silent", || way(Fault::Stall)),
        row("slow: 300 ms each way", || way(Fault::Latency(Duration::from_millis(300)))),
        row("full", || simple(Redis::start(), |it| limit(it, "1"), |it| limit(it, "0"))),
        row("connections used up by others", used_up),
        row("`SCRIPT FLUSH`", || simple(Redis::start(), flush, flush)),
        Row { loses_writes: true, ..row("failover to a replica", failover) },
        // Whoever looks for the primary connects to it as well, to ask whether it is.
        Row { pool: 4, loses_writes: true, ..row("killed, failover by Sentinels", sentinels) },
    ]
}

fn killed() -> Scene {
    simple(Redis::start_with(&SAFE), Redis::kill, Redis::restart)
}

fn simple(redis: Redis, begin: fn(&Redis), end: fn(&Redis)) -> Scene {
    let redis = Arc::new(redis);
    let change = |change: fn(&Redis)| -> Change {
        let redis = Arc::clone(&redis);
        Box::new(move || change(&redis))
    };
    Scene {
        access: Access::Redis(redis.url()),
        ports: vec![redis.address().port()],
        begin: change(begin),
        end: change(end),
        is_repeatable: true,
    }
}

fn way(fault: Fault) -> Scene {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let access = Access::Redis(redis.url_through(&proxy));
    on_the_way(access, redis.address().port(), proxy, fault, redis)
}

fn limit(redis: &Redis, bytes: &str) {
    assert_eq!(redis.cli(&["CONFIG", "SET", "maxmemory", bytes]), "OK");
}

fn flush(redis: &Redis) {
    assert_eq!(redis.cli(&["SCRIPT", "FLUSH"]), "OK");
}

/// Others take every connection that the server has, as often as the service comes back.
fn used_up() -> Scene {
    let redis = Redis::start_with(&["--maxclients", "20", "--unixsocket", "socket"]);
    // The second line of two.
    let directory = redis.cli(&["CONFIG", "GET", "dir"]);
    let socket = PathBuf::from(directory.lines().last().expect("a directory")).join("socket");
    let (access, port) = (Access::Redis(redis.url()), redis.address().port());
    let others = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&others);
    Scene {
        access,
        ports: vec![port],
        begin: Box::new(move || take_all(&socket, &mut lock(&others))),
        end: Box::new(move || {
            let _alive = &redis;
            lock(&taken).clear();
        }),
        is_repeatable: true,
    }
}

fn take_all(socket: &PathBuf, others: &mut Vec<RedisSession>) {
    let mut first = RedisSession::connect(socket).expect("one is free");
    loop {
        while let Ok(session) = RedisSession::connect(socket) {
            others.push(session);
        }
        let clients = first.execute("CLIENT LIST").expect("it is connected");
        let service: Vec<_> =
            clients.lines().filter(|client| client.contains(" addr=127.0.0.1:")).collect();
        if service.is_empty() {
            break;
        }
        for client in service {
            let id = client.split(' ').find_map(|field| field.strip_prefix("id="));
            let _ = first.execute(&format!("CLIENT KILL ID {}", id.expect("a client has one")));
        }
    }
    others.push(first);
}

/// The primary dies and its replica takes its place, at the same address.
fn failover() -> Scene {
    let (primary, replica) = (Arc::new(Redis::start()), Redis::start());
    replica.replicate(&primary);
    let of = primary.address();
    let proxy = Proxy::start(of);
    Scene {
        access: Access::Redis(primary.url_through(&proxy)),
        ports: vec![of.port(), replica.address().port()],
        begin: Box::new(move || primary.kill()),
        end: Box::new(move || {
            assert_eq!(replica.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
            proxy.redirect(replica.address());
        }),
        is_repeatable: false,
    }
}

fn sentinels() -> Scene {
    let (primary, replica) = (Redis::start(), Redis::start());
    let sentinels = RedisSentinels::watch(&primary, &replica);
    Scene {
        access: Access::Sentinel(sentinels.url(), sentinels.urls()),
        ports: vec![primary.address().port(), replica.address().port()],
        begin: Box::new(move || primary.kill()),
        end: Box::new(move || sentinels.sentinels()[0].await_primary(&replica)),
        is_repeatable: false,
    }
}
