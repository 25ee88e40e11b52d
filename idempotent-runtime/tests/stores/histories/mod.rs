//! Instances call a store at random while its server is killed, cut off, made to forget its scripts
//! or failed over; what they were told has to be linearizable.
//!
//! `cargo test -p idempotent-runtime --all-features --test stores histories -- --nocapture` prints
//! how much was checked, and with `HISTORIES_ROUNDS=n` each store meets its faults `n` times.

mod broken;
mod cluster;
mod postgres;
mod redis;
mod sqlite;

use std::{env, time::Instant};

use idempotent_runtime::{MemoryStore, Store};
use idempotent_test_support::history::Load;
use test_servers::{Fault, Proxy};
use tokio::task::block_in_place;

/// Answers between two faults.
const ANSWERS: usize = 400;
/// How often answers are lost for a moment.
const SHORT_CUTS: usize = 20;
/// Calls that fail before a silent server continues.
const FAILURES: usize = 6;

/// How often each fault happens.
fn rounds() -> u64 {
    let rounds = env::var("HISTORIES_ROUNDS");
    rounds.map_or(1, |rounds| rounds.parse().expect("HISTORIES_ROUNDS is a number"))
}

/// Lets `instances` make calls while `faults` happen, for [`rounds`] rounds, and checks what they
/// were told.
async fn check<S: Store>(
    store: &str,
    instances: impl IntoIterator<Item = S>,
    mut faults: impl AsyncFnMut(&Load),
) {
    let began = Instant::now();
    let load = Load::start(instances, 1);
    for _ in 0..rounds() {
        load.answers(ANSWERS).await;
        faults(&load).await;
    }
    let history = block_in_place(|| load.stop());
    let (recorded, began) = (began.elapsed(), Instant::now());
    let summary = history.assert_linearizable();
    println!(
        "{store}: {} faults, {summary}; recorded in {recorded:.1?}, checked in {:.1?}",
        history.disturbances(),
        began.elapsed()
    );
}

/// A fault of the server, and calls afterwards.
async fn disturb(load: &Load, fault: impl FnOnce()) {
    let disturbed = load.recorder().disturb();
    block_in_place(fault);
    drop(disturbed);
    load.answers(ANSWERS).await;
}

/// A server that does not answer until some calls have been abandoned, and calls afterwards.
async fn silence(load: &Load, silent: impl FnOnce(), go_on: impl FnOnce()) {
    let disturbed = load.recorder().disturb();
    block_in_place(silent);
    load.failures(FAILURES).await;
    block_in_place(go_on);
    drop(disturbed);
    load.answers(ANSWERS).await;
}

/// What a network does: connections that break before a call, during it and before its answer.
async fn cut(load: &Load, proxy: &Proxy) {
    disturb(load, || {
        proxy.set(Fault::Reset);
        proxy.set(Fault::None);
    })
    .await;
    silence(load, || proxy.set(Fault::LoseReplies), || proxy.set(Fault::None)).await;
    // So short that a call is done without an answer, and then again with one.
    for _ in 0..SHORT_CUTS {
        let disturbed = load.recorder().disturb();
        proxy.set(Fault::LoseReplies);
        load.answers(1).await;
        proxy.set(Fault::None);
        drop(disturbed);
        load.answers(ANSWERS / SHORT_CUTS).await;
    }
    disturb(load, || {
        proxy.set(Fault::Stall);
        proxy.await_stalled();
        proxy.set(Fault::Reset);
        proxy.set(Fault::None);
    })
    .await;
    silence(load, || proxy.set(Fault::Stall), || proxy.set(Fault::None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_store_is_linearizable() {
    let store = MemoryStore::new();
    check("memory", [(); 4].map(|()| store.clone()), async |load| load.answers(50_000).await).await;
}
