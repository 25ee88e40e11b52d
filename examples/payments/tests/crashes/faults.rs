//! How each fault is caused.

use std::time::Duration;

use fastrand::Rng;
use test_servers::{Fault, Postgres, Proxy, Way};
use tokio::runtime::Runtime;

use crate::{
    load::{Clients, Payment},
    matrix::Step,
    scene::Instance,
};

/// How long a payment may take if its instance is held back until it is killed.
const UNTIL_KILLED: Duration = Duration::from_mins(1);

impl Step {
    /// Where the bytes are held back while the instance is killed, on its way to the database.
    fn place(self) -> (Way, &'static [u8]) {
        match self {
            Self::Claimed => (Way::Request, b"INSERT INTO payments"),
            Self::MidBody => (Way::Request, b"INSERT INTO outbox"),
            Self::CutOff => (Way::Request, b"SET record = "),
            Self::BeforeCommit | Self::Committing => (Way::Request, b"COMMIT"),
            Self::Committed => (Way::Reply, b"COMMIT\0"), // the tag of the server's answer
            Self::Answered => (Way::Reply, b"HTTP/1.1 201"),
        }
    }
}

/// Makes a new instance's only payment, and kills the instance at the step.
pub(crate) fn kill_at(
    step: Step,
    victim: &Instance,
    clients: &Clients,
    runtime: &Runtime,
    random: &mut Rng,
) -> Payment {
    let mut payment = Payment::new(random);
    // It must not have prepared the statement yet: the text is what is waited for.
    victim.service.restart();
    let front = Proxy::start(victim.service.address().parse().expect("it is an address"));
    let (way, bytes) = step.place();
    let place = if step == Step::Answered { &front } else { &victim.proxy };
    let hold = place.hold(way, bytes);
    let sent = {
        let (clients, key, address) =
            (clients.clone(), payment.key.clone(), front.address().to_string());
        runtime.spawn(async move { clients.send(&key, &address, UNTIL_KILLED).await })
    };
    let answer = || runtime.block_on(sent).expect("a client does not panic");
    hold.wait();
    match step {
        Step::CutOff => {
            victim.proxy.set(Fault::Stall);
            payment.answers.extend(answer());
            victim.service.kill();
            // What was on its way will never arrive.
            victim.proxy.set(Fault::Reset);
            drop(hold);
            victim.proxy.set(Fault::None);
        }
        Step::Committing => {
            hold.pass();
            victim.service.kill();
            payment.answers.extend(answer());
        }
        _ => {
            victim.service.kill();
            drop(hold);
            payment.answers.extend(answer());
        }
    }
    payment
}

/// Causes faults in one instance at random moments.
pub(crate) struct Faults<'a> {
    pub(crate) clients: &'a Clients,
    pub(crate) runtime: &'a Runtime,
    pub(crate) random: Rng,
}

impl Faults<'_> {
    /// Kills an instance.
    pub(crate) fn kill(mut self, instance: &Instance, times: usize) {
        for _ in 0..times {
            self.wait(8);
            instance.service.kill();
            instance.service.restart();
        }
    }

    /// Cuts connections of an instance at random bytes.
    pub(crate) fn cut(mut self, instance: &Instance, times: usize) {
        for _ in 0..times {
            instance.proxy.cut_after(self.random.usize(..10_000));
            instance.proxy.await_cut();
        }
    }

    /// Kills the database; returns what it has logged.
    pub(crate) fn kill_database(mut self, postgres: &Postgres, times: usize) -> String {
        let mut log = String::new();
        for _ in 0..times {
            self.wait(40);
            postgres.kill();
            log += &postgres.log();
            postgres.restart();
        }
        log
    }

    fn wait(&mut self, at_most: usize) {
        let payments = self.random.usize(..at_most);
        self.runtime.block_on(self.clients.progress(payments, &mut self.random));
    }
}
