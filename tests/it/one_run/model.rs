//! Random histories of requests, against a router and a small model of what it promises.
//!
//! `MODEL_SEED=n cargo test --all-features --test it model` repeats the one history that failed,
//! and `MODEL_HISTORIES=n` runs that many.

use std::{collections::HashMap, env, fmt::Write as _, panic::resume_unwind, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use idempotent_axum::{Idempotency, MemoryStore, Outcome, idempotent};
use idempotent_test_support::{Gate, ask, fresh_key};
use tokio::task::JoinHandle;

type Probe = idempotent_test_support::Probe<MemoryStore>;

/// What a handler does with a request; part of its body, so of its fingerprint as well.
const ENDINGS: [&str; 6] = ["created", "failed", "final", "retryable", "unknown", "panics"];

#[derive(Clone, Default)]
struct App {
    gate: Gate,
}

/// Body: the ending, then anything.
#[idempotent(wait = "1h")]
async fn act(State(app): State<App>, body: String) -> Response {
    let run = app.gate.pass().await;
    let text = format!("run {run}");
    match body.split(' ').next().unwrap_or_default() {
        "created" => (StatusCode::CREATED, text).into_response(),
        "failed" => (StatusCode::BAD_GATEWAY, text).into_response(),
        "final" => (StatusCode::PAYMENT_REQUIRED, Outcome::Final, text).into_response(),
        "retryable" => (Outcome::Retryable, text).into_response(),
        "unknown" => (StatusCode::GATEWAY_TIMEOUT, Outcome::Unknown, text).into_response(),
        // A panic without its message: thousands of them would bury the one that matters.
        _ => resume_unwind(Box::new(text)),
    }
}

/// What a caller sees.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Run(u16, String),
    Replay(u16, String),
    Refused(u16),
    Panic,
    CutOff,
}

/// The reference: what each key holds between two steps, and how many runs there were.
#[derive(Default)]
struct Model {
    keys: HashMap<String, (String, Seen)>,
    runs: usize,
}

impl Model {
    /// A group of concurrent duplicates; if `cut`, the first caller goes away during its run.
    ///
    /// Returns what they see, in any order.
    fn group(&mut self, key: Option<&str>, body: &str, size: usize, cut: bool) -> Vec<Seen> {
        let mut seen = Vec::new();
        for number in 0..size {
            if let Some((stored_body, kept)) = key.and_then(|key| self.keys.get(key)) {
                seen.push(if stored_body == body { kept.clone() } else { Seen::Refused(422) });
                continue;
            }
            let text = format!("run {}", self.runs);
            self.runs += 1;
            let (seen_first, kept) = match body.split(' ').next().unwrap() {
                "created" => (Seen::Run(201, text.clone()), Some(Seen::Replay(201, text))),
                "final" => (Seen::Run(402, text.clone()), Some(Seen::Replay(402, text))),
                "unknown" => (Seen::Run(504, text), Some(Seen::Refused(409))),
                "failed" => (Seen::Run(502, text), None),
                "retryable" => (Seen::Run(200, text), None),
                _ => (Seen::Panic, None),
            };
            if let (Some(key), Some(kept)) = (key, kept) {
                self.keys.insert(key.to_owned(), (body.to_owned(), kept));
            }
            seen.push(if cut && number == 0 { Seen::CutOff } else { seen_first });
        }
        seen.sort();
        seen
    }

    /// Whether a request with `key` is answered without a run.
    fn holds(&self, key: Option<&str>) -> bool {
        key.is_some_and(|key| self.keys.contains_key(key))
    }
}

/// A small random generator (SplitMix64): the same numbers for a seed on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let limit = u64::try_from(limit).unwrap();
        usize::try_from((mixed ^ (mixed >> 31)) % limit).unwrap()
    }
}

/// The service of one history.
struct Service {
    app: App,
    probe: Probe,
    idempotency: Idempotency,
    router: Router,
}

impl Service {
    fn new() -> Self {
        let (app, probe) = (App::default(), Probe::default());
        let idempotency = Idempotency::new(probe.clone());
        let router = Router::new().route("/act", post(act));
        let router = router.layer(idempotency.clone()).with_state(app.clone());
        Self { app, probe, idempotency, router }
    }

    fn send(&self, key: Option<&str>, body: &str) -> JoinHandle<Seen> {
        let mut request = ask(Method::POST, "/act").body(body.to_owned());
        if let Some(key) = key {
            request = request.key(key);
        }
        let router = self.router.clone();
        tokio::spawn(async move {
            let answer = request.send(&router).await;
            let (status, text) = (answer.status.as_u16(), answer.text().to_owned());
            if answer.is_replay() {
                Seen::Replay(status, text)
            } else if answer.header("content-type").unwrap() == "application/problem+json" {
                Seen::Refused(status)
            } else {
                Seen::Run(status, text)
            }
        })
    }

    /// Sends a group at once; if `cut`, its first caller goes away while its handler runs.
    async fn group(&self, key: Option<&str>, body: &str, size: usize, cut: bool) -> Vec<Seen> {
        let mut callers = Vec::new();
        if cut {
            let (arrived, claims) = (self.app.gate.arrived.get(), self.probe.claim.begun.get());
            let first = self.send(key, body);
            // It runs, or it is answered without a run; then there is nothing to cut off.
            tokio::select! {
                () = self.app.gate.arrived.reaches(arrived + 1) => {
                    let waits = self.probe.wait.begun.get();
                    callers.extend((1..size).map(|_| self.send(key, body)));
                    if key.is_some() {
                        self.probe.claim.begun.reaches(claims + size).await;
                        self.probe.wait.begun.reaches(waits + size - 1).await;
                    }
                    first.abort();
                    // Wait until its caller is really gone.
                    while !first.is_finished() {
                        tokio::task::yield_now().await;
                    }
                    callers.insert(0, first);
                }
                () = async { while !first.is_finished() { tokio::task::yield_now().await; } } => {
                    callers.push(first);
                    callers.extend((1..size).map(|_| self.send(key, body)));
                }
            }
        } else {
            callers.extend((0..size).map(|_| self.send(key, body)));
        }
        self.app.gate.open_for_good();
        let mut seen = Vec::new();
        for caller in callers {
            seen.push(match caller.await {
                Ok(seen) => seen,
                Err(error) if error.is_panic() => Seen::Panic,
                Err(_) => Seen::CutOff,
            });
        }
        self.idempotency.drain().await;
        self.app.gate.close();
        seen.sort();
        seen
    }
}

/// Plays one history; the error says what it did, and at which step the service did something else.
async fn play(start: u64) -> Result<(), String> {
    let mut random = Random(start);
    let (service, mut model) = (Service::new(), Model::default());
    let keys: Vec<String> = (0..3).map(|_| fresh_key()).collect();
    let mut history = String::new();
    for _ in 0..=random.below(12) {
        // The last index means no key.
        let key = keys.get(random.below(keys.len() + 1)).map(String::as_str);
        let body = format!("{} {}", ENDINGS[random.below(ENDINGS.len())], random.below(2));
        // Without a key nothing is promised about a caller that goes away.
        let (size, cut) = (1 + random.below(4), key.is_some() && random.below(4) == 0);
        let expected = model.group(key, &body, size, cut && !model.holds(key));
        let seen = service.group(key, &body, size, cut).await;
        let _ = writeln!(history, "{size} x {body:?} on {key:?}, cut: {cut}: {seen:?}");
        let runs = service.app.gate.arrived.get();
        if seen != expected || runs != model.runs {
            return Err(format!(
                "MODEL_SEED={start}\n{history}expected {expected:?}\nafter {} runs, not {runs}",
                model.runs
            ));
        }
    }
    Ok(())
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_does_what_the_model_says() {
    if let Some(seed) = number("MODEL_SEED") {
        play(seed).await.unwrap_or_else(|failure| panic!("{failure}"));
        return;
    }
    let histories = number("MODEL_HISTORIES").unwrap_or(2000);
    let first = uuid::Uuid::new_v4().as_u64_pair().0 >> 16;
    let seeds = Arc::new(std::sync::Mutex::new(first..first + histories));
    let players = (0..4).map(|_| {
        let seeds = Arc::clone(&seeds);
        tokio::spawn(async move {
            loop {
                let Some(seed) = seeds.lock().unwrap().next() else { return Ok(()) };
                play(seed).await?;
            }
        })
    });
    for player in players.collect::<Vec<_>>() {
        player.await.unwrap().unwrap_or_else(|failure: String| panic!("{failure}"));
    }
}
