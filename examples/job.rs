//! A job without a queue: one that is started twice, or again after it failed halfway, sends each invoice once.
//!
//! `cargo run --example job`: the second round sends what failed in the first. The store has to be one that
//! survives the process, as in the examples `sqlite`, `redis` and `postgres`, if the job has to.

use idempotent_axum::{Idempotency, MemoryStore, RunError};
use std::time::Duration;

#[tokio::main]
async fn main() {
    let idempotency = Idempotency::new(MemoryStore::new());
    for round in 1..=2 {
        println!("round {round}:\n{}", bill(&idempotency, "2026-11", round).await);
    }
}

/// Sends the invoices of a month; gives a line for each.
pub(crate) async fn bill(idempotency: &Idempotency, month: &str, round: u32) -> String {
    let mut lines = Vec::new();
    for (customer, cents) in [("ada", 700), ("bob", 900)] {
        let invoice = idempotency.operation("send-invoice").principal(customer).key(month);
        let run = invoice
            .fingerprint(&cents) // another amount for this month is an error, not a second invoice
            .ttl(Duration::from_secs(60 * 24 * 60 * 60))
            .run(move |_| send(customer, cents, round));
        lines.push(match run.await {
            Ok(done) if done.replayed => format!("{customer}: {}, before", done.value),
            Ok(done) => format!("{customer}: {}", done.value),
            Err(RunError::Failed(error)) => format!("{customer}: next time: {error}"),
            Err(error) if error.is_worth_retrying() => format!("{customer}: next time: {error}"),
            Err(error) => format!("{customer}: for a person to look at: {error}"),
        });
    }
    lines.join("\n")
}

/// Stands for a mail server, which does not take what is for Bob in the first round. An error frees the key.
async fn send(customer: &str, cents: u32, round: u32) -> Result<String, std::io::Error> {
    tokio::task::yield_now().await; // stands for the call
    if customer == "bob" && round == 1 {
        return Err(std::io::Error::other("the mailbox is full"));
    }
    Ok(format!("{cents} cents, sent in round {round}"))
}
