//! How much memory stored responses take: resident bytes per key at a million keys, and the peak
//! while a flood of new keys goes past `max_bytes`, in `MemoryStore`, in the near cache, and in the
//! cache below that by itself.
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
use idempotent_axum::{
    Attempt, Claim, Forgotten, Hold, Idempotency, KeyState, MemoryStore, Store, StoreError,
    StoreKey, idempotent,
};
use moka::sync::Cache;

const KEYS: u64 = 1_000_000;
/// Of the responses in the first table.
const BODY: usize = 100;
/// `content-type: application/octet-stream`, which every response has.
const HEADERS: u64 = 12 + 24;
const MIB: u64 = 1 << 20;
/// In each of the processes of a flood.
const CLIENTS: u64 = 4;

/// What one process does.
enum Task {
    PrintTables,
    Keys(Kept),
    Flood { kept: Kept, max_mib: u64, body: usize },
}

/// Where responses are kept.
#[derive(Clone, Copy)]
enum Kept {
    /// `MemoryStore`.
    Memory,
    /// Copies of what a shared store holds, which here takes no memory.
    Near,
    /// The cache that the near cache is built on, as people use it: whole responses, by the key as a
    /// string, bounded in a flood by the bytes that `MemoryStore` counts for them.
    ByHand,
}

impl Kept {
    const ALL: [Self; 3] = [Self::Memory, Self::Near, Self::ByHand];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "idempotent-axum",
            Self::Near => "idempotent-axum, near cache",
            Self::ByHand => "by hand, unsafe (moka)",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kept| kept.name() == name)
    }
}

fn main() {
    let task = program::arguments("memory", |arguments| match arguments {
        [] => Some(Task::PrintTables),
        ["keys", kept] => Kept::named(kept).map(Task::Keys),
        ["flood", kept, max_mib, body] => Some(Task::Flood {
            kept: Kept::named(kept)?,
            max_mib: max_mib.parse().ok()?,
            body: body.parse().ok()?,
        }),
        _ => None,
    });
    match task {
        Task::PrintTables => print_tables(),
        Task::Keys(kept) => keys(kept),
        Task::Flood { kept, max_mib, body } => flood(kept, max_mib, body),
    }
}

fn print_tables() {
    let title = format!("{KEYS} keys, {BODY} B response bodies");
    table::head(&title, &["", "resident per key", "beyond body and headers"]);
    for kept in Kept::ALL {
        table::row([kept.name(), &process(&["keys", kept.name()])]);
    }
    table::head(
        "A flood of new keys, four times what `max_bytes` holds",
        &[
            "",
            "`max_bytes`",
            "response bodies",
            "resident peak",
            "over `max_bytes`",
            "own figure",
            "evicted",
        ],
    );
    for kept in Kept::ALL {
        for max_mib in ["64", "256"] {
            for body in ["100", "4096", "65536", "1048576"] {
                let (max, bodies) = (format!("{max_mib} MiB"), format!("{body} B"));
                let figures = process(&["flood", kept.name(), max_mib, body]);
                table::row([kept.name().to_owned(), max, bodies, figures]);
            }
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

fn app(idempotency: Idempotency) -> Router {
    Router::new().route("/orders", post(echo)).layer(idempotency)
}

/// A shared store that holds nothing, and says that it does.
struct Forgetful;

impl Store for Forgetful {
    async fn claim(&self, _: &Attempt, _: Duration) -> Result<Claim, StoreError> {
        Ok(Claim::Claimed { lease: None })
    }

    async fn renew(&self, _: &Attempt, _: Duration) -> Result<Hold, StoreError> {
        Ok(Hold::Held)
    }

    async fn complete(&self, _: &Attempt, _: Bytes, _: Duration) -> Result<Hold, StoreError> {
        Ok(Hold::Held)
    }

    async fn release(&self, _: &Attempt) -> Result<(), StoreError> {
        Ok(())
    }

    async fn wait(&self, _: StoreKey, _: Duration) {}

    async fn read(&self, _: StoreKey) -> Result<KeyState, StoreError> {
        Ok(KeyState::Absent)
    }

    async fn forget(&self, _: StoreKey, _: bool) -> Result<Forgotten, StoreError> {
        Ok(Forgotten::Absent)
    }
}

/// A million responses where there is room for them.
fn keys(kept: Kept) {
    const ROOM: usize = 4 << 30;
    match kept {
        Kept::Memory => {
            let store = MemoryStore::builder().max_bytes(ROOM as u64).build();
            let app = app(Idempotency::new(store.clone()));
            let before = before(&app);
            send(&app, KEYS, BODY);
            assert!(store.stored_bytes() > KEYS * BODY as u64, "all must be stored");
            print_per_key(resident() - before);
            assert_eq!(store.evicted(), 0);
        }
        Kept::Near => {
            let app = app(Idempotency::new(Forgetful).near_cache(ROOM));
            let before = before(&app);
            send(&app, KEYS, BODY);
            print_per_key(resident() - before);
        }
        Kept::ByHand => {
            let cache = Cache::builder().max_capacity(2 * KEYS);
            let cache = cache.time_to_live(Duration::from_hours(1)).build();
            let before = resident();
            for _ in 0..KEYS {
                insert(&cache, BODY);
            }
            cache.run_pending_tasks();
            print_per_key(resident() - before);
        }
    }
}

type ByHand = Cache<String, (StatusCode, HeaderMap, Bytes)>;

fn insert(cache: &ByHand, body: usize) {
    let octets = HeaderValue::from_static("application/octet-stream");
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, octets)]);
    cache.insert(key().to_string(), (StatusCode::OK, headers, Bytes::from(vec![7; body])));
}

fn print_per_key(grown: u64) {
    let per_key = grown / KEYS;
    println!("{per_key} B | {} B", per_key - BODY as u64 - HEADERS);
}

/// More responses than there is room for; the peak is the kernel's high-water mark.
fn flood(kept: Kept, max_mib: u64, body: usize) {
    let count = 4 * max_mib * MIB / (body as u64 + 350);
    match kept {
        Kept::Memory => {
            let store = MemoryStore::builder().max_bytes(max_mib * MIB).build();
            let app = app(Idempotency::new(store.clone()));
            let before = before(&app);
            send(&app, count, body);
            let own = format!("{} MiB", store.stored_bytes() / MIB);
            print_peak(before, max_mib, &own, &store.evicted().to_string());
            assert!(store.evicted() > 0, "the flood must go past the limit");
        }
        Kept::Near => {
            let max_bytes = usize::try_from(max_mib * MIB).expect("64 bits");
            let app = app(Idempotency::new(Forgetful).near_cache(max_bytes));
            let before = before(&app);
            send(&app, count, body);
            print_peak(before, max_mib, "–", "–");
        }
        Kept::ByHand => {
            let weigh = |_: &String, (_, _, body): &(StatusCode, HeaderMap, Bytes)| {
                u32::try_from(body.len() + 350).expect("a small body")
            };
            let cache = Cache::builder().max_capacity(max_mib * MIB).weigher(weigh);
            let cache: ByHand = cache.time_to_live(Duration::from_hours(1)).build();
            let before = resident();
            std::thread::scope(|scope| {
                for _ in 0..CLIENTS {
                    scope.spawn(|| (0..count / CLIENTS).for_each(|_| insert(&cache, body)));
                }
            });
            let own = format!("{} MiB", cache.weighted_size() / MIB);
            print_peak(before, max_mib, &own, "–");
        }
    }
}

fn print_peak(before: u64, max_mib: u64, own: &str, evicted: &str) {
    let peak = status("VmHWM") - before;
    let over = peak.cast_signed() * 100 / (max_mib * MIB).cast_signed() - 100;
    println!("{} MiB | {over:+} % | {own} | {evicted}", peak / MIB);
}

/// Resident bytes once threads, buffers and empty tables are there.
fn before(app: &Router) -> u64 {
    send(app, 1_000, 10);
    resident()
}

/// Sends `count` requests with fresh keys, from four clients on two workers.
fn send(app: &Router, count: u64, body: usize) {
    let runtime = program::runtime(2);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut router = app.clone();
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
