//! How each fault is done.

use std::{thread, time::Duration};

use fastrand::Rng;
use test_servers::{Fault, Proxy, Way};
use tokio::runtime::Runtime;

use crate::{
    load::{Clients, Payment},
    matrix::Step,
    scene::{Instance, Scene},
};

/// How long a payment may take whose instance is held back until it is killed.
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

/// Makes a payment on a new instance that has no other, and kills the instance at the step.
pub(crate) fn kill_at(
    step: Step,
    victim: &Instance,
    clients: &Clients,
    runtime: &Runtime,
    random: &mut Rng,
) -> Payment {
    let mut payment = Payment::new(random);
    // One that has not prepared a statement yet: its text is what is waited for.
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
            // What was on its way never arrives.
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

/// Kills an instance at random moments.
pub(crate) fn kill(instance: &Instance, times: usize, mut random: Rng) {
    for _ in 0..times {
        thread::sleep(Duration::from_millis(random.u64(10..400)));
        instance.service.kill();
        instance.service.restart();
    }
}

/// Kills the database at random moments; gives what it has logged.
pub(crate) fn kill_server(scene: &Scene, times: usize, random: &mut Rng) -> String {
    let mut log = String::new();
    for _ in 0..times {
        thread::sleep(Duration::from_millis(random.u64(100..600)));
        scene.postgres.kill();
        log += &scene.postgres.log();
        scene.postgres.restart();
    }
    log
}

/// Cuts connections of an instance at random bytes.
pub(crate) fn cut(instance: &Instance, times: usize, mut random: Rng) {
    for _ in 0..times {
        instance.proxy.cut_after(random.usize(..8000));
        instance.proxy.await_cut();
    }
}
