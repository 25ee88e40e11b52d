//! How much memory stored responses take: resident bytes per key at a million keys, and the peak
//! while a flood of new keys goes past `max_bytes`.
//!
//! Resident memory is the kernel's figure for the process, so each line of the tables is a process
//! of its own, which takes the figure after a warm-up without keys and again at the end.

use std::{fs, process::Stdio, time::Duration};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    routing::post,
};
use benches::{
    program,
    request::{drive, key, request},
    table,
};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use moka::sync::Cache;

const KEYS: u64 = 1_000_000;
/// Of the responses in the first table.
const BODY: usize = 100;
/// `content-type: application/octet-stream`, which every response has.
const HEADERS: u64 = 12 + 24;
const MIB: u64 = 1 << 20;

/// What one process does.
enum Task {
    PrintTables,
    Keys,
    KeysByHand,
    Flood { max_mib: u64, body: usize },
}

const OURS: &str = "idempotent-axum";
const BY_HAND: &str = "by hand, unsafe";

fn main() {
    let task = program::arguments("memory", |arguments| match arguments {
        [] => Some(Task::PrintTables),
        ["keys", name] if *name == OURS => Some(Task::Keys),
        ["keys", name] if *name == BY_HAND => Some(Task::KeysByHand),
        ["flood", max_mib, body] => {
            Some(Task::Flood { max_mib: max_mib.parse().ok()?, body: body.parse().ok()? })
        }
        _ => None,
    });
    match task {
        Task::PrintTables => print_tables(),
        Task::Keys => keys(),
        Task::KeysByHand => keys_by_hand(),
        Task::Flood { max_mib, body } => flood(max_mib, body),
    }
}

fn print_tables() {
    let title = format!("{KEYS} keys, {BODY} B response bodies");
    table::head(&title, &["", "resident per key", "beyond body and headers"]);
    for name in [OURS, BY_HAND] {
        table::row([name, &process(&["keys", name])]);
    }
    table::head(
        "A flood of new keys, four times what `max_bytes` holds",
        &[
            "`max_bytes`",
            "response bodies",
            "resident peak",
            "over `max_bytes`",
            "store's own figure",
            "evicted",
        ],
    );
    for max_mib in ["64", "256"] {
        for body in ["100", "4096", "65536"] {
            let (max, bodies) = (format!("{max_mib} MiB"), format!("{body} B"));
            table::row([max, bodies, process(&["flood", max_mib, body])]);
        }
    }
}

/// The cells that a process of its own prints.
fn process(arguments: &[&str]) -> String {
    let process = program::again().args(arguments).stderr(Stdio::inherit()).output();
    let output = process.expect("this program can be run");
    assert!(output.status.success(), "{arguments:?} failed");
    String::from_utf8(output.stdout).expect("a line of text").trim().to_owned()
}

#[idempotent]
async fn echo(body: Bytes) -> Bytes {
    body
}

fn app(store: &MemoryStore) -> Router {
    Router::new().route("/orders", post(echo)).layer(Idempotency::new(store.clone()))
}

/// A million responses in a store that has room for them.
fn keys() {
    let store = MemoryStore::builder().max_bytes(4 << 30).build();
    let before = before(&store);
    send(&store, KEYS, BODY);
    assert!(store.stored_bytes() > KEYS * BODY as u64, "all must be stored");
    print_per_key(resident() - before);
    assert_eq!(store.evicted(), 0);
}

/// The same in what people write: a cache of whole responses by the key as a string.
fn keys_by_hand() {
    let cache: Cache<String, (StatusCode, HeaderMap, Bytes)> =
        Cache::builder().max_capacity(2 * KEYS).time_to_live(Duration::from_hours(1)).build();
    let before = resident();
    for _ in 0..KEYS {
        let octets = HeaderValue::from_static("application/octet-stream");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, octets)]);
        cache.insert(key().to_string(), (StatusCode::OK, headers, Bytes::from(vec![7; BODY])));
    }
    cache.run_pending_tasks();
    print_per_key(resident() - before);
}

fn print_per_key(grown: u64) {
    let per_key = grown / KEYS;
    println!("{per_key} B | {} B", per_key - BODY as u64 - HEADERS);
}

/// More responses than the store may hold; the peak is the kernel's high-water mark.
fn flood(max_mib: u64, body: usize) {
    let store = MemoryStore::builder().max_bytes(max_mib * MIB).build();
    let before = before(&store);
    send(&store, 4 * max_mib * MIB / (body as u64 + 350), body);
    let peak = status("VmHWM") - before;
    let over = peak.cast_signed() * 100 / (max_mib * MIB).cast_signed() - 100;
    let own = store.stored_bytes() / MIB;
    println!("{} MiB | {over:+} % | {own} MiB | {}", peak / MIB, store.evicted());
    assert!(store.evicted() > 0, "the flood must go past the limit");
}

/// Resident bytes once threads, buffers and the store's empty tables are there.
fn before(store: &MemoryStore) -> u64 {
    send(store, 1_000, 10);
    resident()
}

/// Sends `count` requests with fresh keys, from four clients on two workers.
fn send(store: &MemoryStore, count: u64, body: usize) {
    const CLIENTS: u64 = 4;
    let runtime = program::runtime(2);
    let router = app(store);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut router = router.clone();
            // A body of its own each, as from a socket.
            let request = move |_| request(Some(key()), Bytes::from(vec![7; body]));
            let requests = (0..count / CLIENTS).map(request);
            runtime.spawn(async move { drive(&mut router, requests).await })
        })
        .collect();
    for client in clients {
        runtime.block_on(client).expect("a client does not panic");
    }
}

fn resident() -> u64 {
    status("VmRSS")
}

/// A figure of this process, in bytes.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("a figure in kB");
    kib.parse::<u64>().expect("a number") * 1024
}
