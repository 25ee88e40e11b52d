//! The bodies of waiting duplicates are bounded. Each test has its own process: the bound is per
//! process.

use axum::{Router, extract::State, routing::post as route};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Answer, Ask, Gate, Probe, alone, fresh_key, post};
use tokio::task::JoinHandle;

const BODY: usize = 1000;

#[idempotent(wait = "1h")]
async fn held(State(gate): State<Gate>, _body: String) -> &'static str {
    gate.pass().await;
    "done"
}

struct Service {
    app: Router,
    gate: Gate,
    probe: Probe<MemoryStore>,
}

impl Service {
    fn new(max_waiting_bytes: usize) -> Self {
        let (gate, probe) = (Gate::default(), Probe::default());
        let idempotency = Idempotency::new(probe.clone()).max_waiting_bytes(max_waiting_bytes);
        let app = Router::new().route("/", route(held)).layer(idempotency);
        Self { app: app.with_state(gate.clone()), gate, probe }
    }

    async fn running(&self, key: &str) -> JoinHandle<Answer> {
        let running = ask(key).spawn(&self.app);
        self.gate.arrived.reaches(1).await;
        running
    }
}

fn ask(key: &str) -> Ask {
    post("/").key(key).body("x".repeat(BODY))
}

#[test]
fn past_max_waiting_bytes_a_duplicate_is_refused_at_once() {
    alone(async || {
        let service = Service::new(3 * BODY + BODY / 2);
        let key = fresh_key();
        let first = service.running(&key).await;
        let waiting: Vec<_> = (0..3).map(|_| ask(&key).spawn(&service.app)).collect();
        service.probe.wait.begun.reaches(3).await;

        let refused = ask(&key).send(&service.app).await;
        assert_eq!(refused.problem(), (409, "request_in_progress".to_owned()));
        assert!(refused.header("retry-after").is_some());
        // A different request with the key is still told so.
        let other = post("/").key(&key).body("y".repeat(BODY)).send(&service.app).await;
        assert_eq!(other.problem(), (422, "key_reused".to_owned()));
        service.gate.open(1);
        assert_eq!(first.await.expect("no panic").text(), "done");
        for duplicate in waiting {
            assert!(duplicate.await.expect("no panic").is_replay());
        }
        // The room of the waiting bodies is free again.
        assert!(ask(&key).send(&service.app).await.is_replay());
    });
}

#[test]
fn a_duplicate_that_goes_away_gives_its_room_back() {
    alone(async || {
        let service = Service::new(BODY);
        let key = fresh_key();
        let first = service.running(&key).await;
        for round in 1..=20 {
            let waiting = ask(&key).spawn(&service.app);
            service.probe.wait.begun.reaches(round).await;
            waiting.abort();
            assert!(waiting.await.is_err());
        }
        service.gate.open(1);
        assert_eq!(first.await.expect("no panic").text(), "done");
        assert!(ask(&key).send(&service.app).await.is_replay());
    });
}
