//! Clients: each sends one payment after the other, and each payment until it is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::{runtime::Runtime, sync::watch, task::JoinSet};

use crate::{
    matrix::{Fault, Mode, Row},
    scene::Scene,
};

/// How long a key may go without an answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// A payment: one key, and an account that no other payment is made to.
pub(crate) struct Payment {
    pub(crate) key: String,
    /// The body of every 201 that any of its clients got.
    pub(crate) answers: Vec<String>,
}

/// How clients reach the service.
#[derive(Clone)]
pub(crate) struct Clients {
    scene: Arc<Scene>,
    http: reqwest::Client,
    mode: Mode,
    /// Whether a handler may see its database fail.
    may_fail: bool,
    /// How many payments are answered.
    answered: watch::Sender<usize>,
}

impl Clients {
    pub(crate) fn new(scene: &Arc<Scene>, row: &Row) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("it has no settings");
        let may_fail = matches!(row.fault, Fault::Cut | Fault::ServerKilled);
        let answered = watch::Sender::new(0);
        Self { scene: Arc::clone(scene), http, mode: row.mode, may_fail, answered }
    }

    /// Returns once this many more payments are answered, but not right at an answer.
    pub(crate) async fn progress(&self, payments: usize, random: &mut Rng) {
        let mut answered = self.answered.subscribe();
        let until = *answered.borrow() + payments;
        // Its result locks the number, so it is dropped at once.
        let progress = async { answered.wait_for(|answered| *answered >= until).await.is_ok() };
        let progress = tokio::time::timeout(PATIENCE, progress).await;
        assert_eq!(progress, Ok(true), "no payment is answered any more");
        tokio::time::sleep(Duration::from_millis(random.u64(..20))).await;
    }

    /// Sends a payment to an address once, for a client that gives up after `limit`; returns the
    /// body of the answer, unless the payment has to be retried.
    pub(crate) async fn send(&self, key: &str, address: &str, limit: Duration) -> Option<String> {
        let path = match self.mode {
            Mode::Tx => "payments",
            Mode::Plain => "payments/plain",
        };
        let request = self.http.post(format!("http://{address}/{path}")).timeout(limit);
        let request = request.bearer_auth("crash-test").header("idempotency-key", key);
        let body = serde_json::json!({"account": key, "amount": 4200, "currency": "EUR"});
        let response = request.json(&body).send().await.ok()?;
        let status = response.status().as_u16();
        let body = response.text().await.ok()?;
        match status {
            201 => Some(body),
            409 | 503 => None,
            500 if self.may_fail => None,
            _ => panic!("{status}: {body}"),
        }
    }

    /// Sends a payment to one instance or the other until it is answered.
    pub(crate) async fn retry(&self, payment: &mut Payment, random: &mut Rng) {
        let since = Instant::now();
        loop {
            let instance = random.choice(&self.scene.instances).expect("there are instances");
            let limit = Duration::from_millis(random.u64(50..2000));
            let address = instance.service.address();
            if let Some(body) = self.send(&payment.key, &address, limit).await {
                self.answered.send_modify(|answered| *answered += 1);
                return payment.answers.push(body);
            }
            assert!(since.elapsed() < PATIENCE, "{} is not answered", payment.key);
            tokio::time::sleep(Duration::from_millis(random.u64(5..30))).await;
        }
    }
}

impl Payment {
    pub(crate) fn new(random: &mut Rng) -> Self {
        // A UUID of version 4 that the seed reproduces.
        let key = uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid();
        Self { key: key.to_string(), answers: Vec::new() }
    }
}

/// Clients that send until they are stopped.
pub(crate) struct Load {
    tasks: JoinSet<Vec<Payment>>,
    is_over: Arc<AtomicBool>,
}

impl Load {
    const CLIENTS: usize = 12;

    pub(crate) fn start(clients: &Clients, runtime: &Runtime, random: &mut Rng) -> Self {
        let (mut tasks, is_over) = (JoinSet::new(), Arc::<AtomicBool>::default());
        for _ in 0..Self::CLIENTS {
            let (clients, is_over, random) = (clients.clone(), Arc::clone(&is_over), random.fork());
            tasks.spawn_on(send_many(clients, is_over, random), runtime.handle());
        }
        Self { tasks, is_over }
    }

    /// Lets the clients finish what they have begun.
    pub(crate) fn stop(self, runtime: &Runtime) -> Vec<Payment> {
        self.is_over.store(true, Ordering::Relaxed);
        runtime.block_on(self.tasks.join_all()).into_iter().flatten().collect()
    }
}

async fn send_many(clients: Clients, is_over: Arc<AtomicBool>, mut random: Rng) -> Vec<Payment> {
    let mut payments = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let mut payment = Payment::new(&mut random);
        clients.retry(&mut payment, &mut random).await;
        if random.u8(..4) == 0 {
            // A client that has lost its answer.
            clients.retry(&mut payment, &mut random).await;
        }
        payments.push(payment);
    }
    payments
}
