//! A row from its start to its figures.

use std::{sync::Arc, thread};

use fastrand::Rng;
use tokio::runtime::Runtime;

use crate::{
    faults::{self, Faults},
    load::{Clients, Load, Payment},
    matrix::{Fault, Row},
    scene::Scene,
    verdict::{self, Found},
};

/// What a row has shown.
pub(crate) struct Figures {
    faults: usize,
    keys: usize,
    answers: usize,
    found: Found,
}

impl Figures {
    /// The row's line of the table.
    pub(crate) fn line(&self, row: &Row) -> String {
        let Self { faults, keys, answers, found } = self;
        let Found { double_runs, lost_answers, .. } = found;
        let again = found.delivered_again.map_or("–".to_owned(), |times| times.to_string());
        format!(
            "| {row} | {faults} | {keys} | {answers} | {double_runs} | {lost_answers} | {again} |"
        )
    }

    /// What should not have been.
    pub(crate) fn broken(&self) -> &[String] {
        &self.found.broken
    }
}

pub(crate) fn run(row: &Row, seed: u64) -> Figures {
    let mut random = Rng::with_seed(seed);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a thread starts");
    let scene = Arc::new(Scene::start(row));
    let clients = Clients::new(&scene, row);

    let (mut payments, log) = under_load(row, &scene, &clients, &runtime, &mut random);
    for payment in &mut payments {
        // Whatever it has answered until now, this is the answer.
        runtime.block_on(clients.retry(payment, &mut random));
    }
    Figures {
        faults: row.times,
        keys: payments.len(),
        answers: payments.iter().map(|payment| payment.answers.len()).sum(),
        found: verdict::look(row, &scene, &payments, &log, &runtime),
    }
}

/// Causes the faults; returns the payments, and what a killed database has logged.
fn under_load(
    row: &Row,
    scene: &Arc<Scene>,
    clients: &Clients,
    runtime: &Runtime,
    random: &mut Rng,
) -> (Vec<Payment>, String) {
    if let Fault::KilledAt(step) = row.fault {
        let at_step = |_| {
            let victim = &scene.instances[0];
            let mut payment = faults::kill_at(step, victim, clients, runtime, random);
            runtime.block_on(clients.retry(&mut payment, random));
            payment
        };
        return ((0..row.times).map(at_step).collect(), String::new());
    }
    let load = Load::start(clients, runtime, random);
    let mut faults = || Faults { clients, runtime, random: random.fork() };
    let log = thread::scope(|scope| {
        let fault = match row.fault {
            Fault::Killed => Faults::kill,
            Fault::Cut => Faults::cut,
            _ => return faults().kill_database(&scene.postgres, row.times),
        };
        for instance in &scene.instances {
            let faults = faults();
            scope.spawn(move || fault(faults, instance, row.times / 2));
        }
        String::new()
    });
    (load.stop(runtime), log)
}
