//! What became of each key, and in which state the database is left.

use std::{
    collections::{HashMap, HashSet},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use test_servers::Postgres;
use tokio::runtime::Runtime;

use crate::{
    load::Payment,
    matrix::{Fault, Mode, Row, Step},
    scene::Scene,
};

/// How long the database may take to notice that a client has gone, and the outbox to be delivered.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Found {
    /// Payments beyond the first of their key.
    pub(crate) double_runs: usize,
    /// Answers that name a different payment than the last answer of their key, or one that does
    /// not exist.
    pub(crate) lost_answers: usize,
    /// Messages that reached the ledger again; `None` without a ledger.
    pub(crate) delivered_again: Option<u64>,
    /// What should not have been.
    pub(crate) broken: Vec<String>,
}

/// Looks at a service that is idle by now. `log` is what the database has logged before its last
/// start.
pub(crate) fn look(
    row: &Row,
    scene: &Scene,
    payments: &[Payment],
    log: &str,
    runtime: &Runtime,
) -> Found {
    let made = made(&scene.postgres);
    let of = |payment: &Payment| made.get(&payment.key).map_or(&[][..], Vec::as_slice);
    let double_runs = payments.iter().map(|it| of(it).len().saturating_sub(1)).sum();
    let lost_answers = payments.iter().map(|it| lost(it, of(it))).sum();
    let all: usize = made.values().map(Vec::len).sum();
    let keys: HashSet<&String> = payments.iter().map(|it| &it.key).collect();

    let mut broken = Vec::new();
    let mut hold = |so: bool, fault: &str| {
        if !so {
            broken.push(fault.to_owned());
        }
    };
    hold(payments.iter().all(|it| !of(it).is_empty()), "an answer without a payment");
    hold(made.keys().all(|account| keys.contains(account)), "a payment that nobody asked for");
    match row.mode {
        Mode::Tx => {
            hold(double_runs == 0, "double runs");
            hold(lost_answers == 0, "lost answers");
        }
        // What this test must be able to see.
        Mode::Plain => match row.fault {
            Fault::KilledAt(Step::Committed) => {
                hold(double_runs == row.times, "double runs were not seen");
            }
            Fault::KilledAt(Step::CutOff) => {
                hold(double_runs == row.times, "double runs were not seen");
                hold(lost_answers == row.times, "lost answers were not seen");
            }
            _ => {}
        },
    }

    let count = |sql: &str| scene.postgres.execute(&format!("SELECT count(*) FROM {sql}"));
    let mut delivered_again = None;
    if let Some(ledger) = &scene.ledger {
        // The plain handler makes two payments with one key, and the ledger refuses the second.
        let is_delivered = row.mode == Mode::Plain || becomes(|| count("outbox") == "0");
        hold(is_delivered, "messages that are not delivered");
        let counts = runtime.block_on(counts(&ledger.address()));
        let number = |name: &str| counts[name].as_u64().expect("it is a count");
        let is_booked = number("booked") == all as u64 && number("booked_twice") == 0;
        hold(is_booked || row.mode == Mode::Plain, "bookings that are not one for each payment");
        delivered_again = Some(number("delivered") - number("booked"));
    } else {
        hold(count("outbox") == all.to_string(), "messages that are not one for each payment");
    }

    let is_idle = || count("pg_stat_activity WHERE state LIKE 'idle in transaction%'") == "0";
    hold(becomes(is_idle), "a session idle in transaction");
    let is_free = || count("pg_locks WHERE locktype = 'advisory'") == "0";
    hold(becomes(is_free), "an advisory lock");
    let log = log.to_owned() + &scene.postgres.log();
    hold(!log.contains("no transaction in progress"), "no transaction in progress");
    for instance in &scene.instances {
        hold(!instance.service.log().contains("panicked"), "a panic in the service");
    }
    Found { double_runs, lost_answers, delivered_again, broken }
}

/// The ids of the payments to each account.
fn made(postgres: &Postgres) -> HashMap<String, Vec<String>> {
    let rows = postgres.execute("SELECT account, id FROM payments");
    let mut made = HashMap::<_, Vec<_>>::new();
    for (account, id) in rows.lines().filter_map(|row| row.split_once('|')) {
        made.entry(account.to_owned()).or_default().push(id.to_owned());
    }
    made
}

/// How many answers of a payment are not the last one, or name no row of `made`.
fn lost(payment: &Payment, made: &[String]) -> usize {
    let last = payment.answers.last();
    let is_kept = |answer: &&String| {
        let answer: Value = serde_json::from_str(answer).expect("an answer is JSON");
        made.iter().any(|id| answer["id"] == **id)
    };
    payment.answers.iter().filter(|answer| Some(*answer) != last || !is_kept(answer)).count()
}

/// What the ledger has counted.
async fn counts(address: &str) -> Value {
    let http = reqwest::Client::builder().no_proxy().build().expect("it has no settings");
    let response = http.get(format!("http://{address}/bookings")).send().await;
    response.expect("the ledger answers").json().await.expect("its answer is JSON")
}

/// Whether `is_so` holds, now or in a while.
fn becomes(is_so: impl Fn() -> bool) -> bool {
    let since = Instant::now();
    while !is_so() {
        if since.elapsed() > PATIENCE {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}
