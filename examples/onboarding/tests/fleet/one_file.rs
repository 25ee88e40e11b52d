//! One instance and its file: killed under load, started twice, restarted, and on a full disk.

use std::{
    collections::HashSet,
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use test_servers::Disk;
use tokio::task::{JoinSet, block_in_place};

use crate::{
    fleet::{Answer, Invite, exchange, in_time, instance, instance_with_lease, runs},
    service::{BEGUN, Service, program, refusal},
};

/// In parallel, each with its own file.
const LANES: usize = 4;
/// A hundred kills over all lanes.
const KILLS: usize = 25;
const CLIENTS: usize = 4;
const LATENCY: Duration = Duration::from_millis(20);
/// The time within which a kill comes.
const LIFE: Duration = Duration::from_millis(200);

/// What the log says once storing a response has failed for good.
const GIVEN_UP: &str = "a response could not be stored: a retry of its request runs again";

fn url(disk: &Disk) -> String {
    format!("sqlite:{}", disk.path().join("idempotency.db").display())
}

async fn start(disk: &Disk) -> Service {
    instance(&url(disk), &format!("{LATENCY:?}")).await
}

/// What the clients of one life have sent.
#[derive(Default)]
struct Sent {
    answered: Vec<(Invite, Answer)>,
    unanswered: Vec<Invite>,
}

/// Sends one request after the other until no answer comes.
async fn send(service: Arc<Service>, is_killed: Arc<AtomicBool>) -> Sent {
    let mut sent = Sent::default();
    loop {
        let invite = Invite::new();
        match invite.try_to(&service).await {
            Ok(answer) => {
                assert_eq!((answer.status, answer.replayed), (201, false), "{answer:?}");
                sent.answered.push((invite, answer));
            }
            Err(error) => {
                assert!(is_killed.load(Ordering::SeqCst), "before it was killed: {error}");
                sent.unanswered.push(invite);
                return sent;
            }
        }
        let (invite, first) = &sent.answered[sent.answered.len() / 2];
        match invite.try_to(&service).await {
            Ok(again) => assert!(again.replayed && again.body == first.body, "{again:?}"),
            Err(error) => {
                assert!(is_killed.load(Ordering::SeqCst), "before it was killed: {error}");
                return sent;
            }
        }
    }
}

/// The ids of the entities that a log says were created.
fn created(log: &str) -> impl Iterator<Item = String> {
    let words = log.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ent_")).map(str::to_owned)
}

fn id(answer: &Answer) -> String {
    created(&answer.body).next().expect("an entity has an id")
}

/// Figures of a lane.
#[derive(Default)]
struct Met {
    stored: usize,
    /// Of the requests that a kill left unanswered.
    replayed: usize,
    run_again: usize,
}

/// Kills the instance under load, again and again, and checks each time what the next one knows.
async fn lane(disk: Arc<Disk>) -> Met {
    let (mut met, mut known) = (Met::default(), HashSet::new());
    let mut kept: Vec<(Invite, Answer)> = Vec::new();
    let mut unanswered = Vec::new();
    for life in 0..=KILLS {
        let service = Arc::new(start(&disk).await);
        for invite in std::mem::take(&mut unanswered) {
            let invite: Invite = invite;
            // At once: no lease holds it.
            let answer = invite.to(&service).await;
            assert_eq!(answer.status, 201, "a stuck key: {answer:?}");
            if answer.replayed {
                assert!(known.contains(&id(&answer)), "the response of an earlier life");
                met.replayed += 1;
            } else {
                met.run_again += 1;
            }
            kept.push((invite, answer));
        }
        for (invite, first) in &kept {
            let again = invite.to(&service).await;
            assert!(again.replayed && again.body == first.body, "lost: {first:?}, now {again:?}");
        }
        if life == KILLS {
            met.stored = kept.len();
            break;
        }
        let is_killed = Arc::<AtomicBool>::default();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(send(Arc::clone(&service), Arc::clone(&is_killed)));
        }
        let [random, ..] = *uuid::Uuid::new_v4().as_bytes();
        tokio::time::sleep(LIFE * u32::from(random) / 256).await;
        is_killed.store(true, Ordering::SeqCst);
        service.signal("KILL").await;
        for sent in clients.join_all().await {
            kept.extend(sent.answered);
            unanswered.extend(sent.unanswered);
        }
        let service = Arc::into_inner(service).expect("no client has it any more");
        let (_, log) = service.ended().await;
        known.extend(created(&log));
    }
    met
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_under_load_lose_no_response_and_leave_no_key_stuck() {
    in_time(async {
        let mut lanes = JoinSet::new();
        for _ in 0..LANES {
            lanes.spawn(lane(Arc::new(Disk::new())));
        }
        let met = lanes.join_all().await;
        let sum = |figure: fn(&Met) -> usize| met.iter().map(figure).sum::<usize>();
        let (replayed, run_again) = (sum(|met| met.replayed), sum(|met| met.run_again));
        assert!(replayed + run_again > 0, "the kills met no request");
        // Bypasses the test harness's capture: whoever runs the tests should see it.
        let _ = writeln!(
            io::stderr(),
            "SQLite: {} kills: {} responses stored, none lost; of those without an answer \
             {replayed} were stored, and {run_again} ran again",
            LANES * KILLS,
            sum(|met| met.stored),
        );
    })
    .await;
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_file() {
    let disk = Disk::new();
    let first = start(&disk).await;
    let invite = Invite::new();
    let answer = invite.to(&first).await;
    let line = refusal(program(&[("ONBOARDING_STORE", &url(&disk))])).await;
    assert!(line.starts_with("onboarding: ONBOARDING_STORE: "), "{line}");
    let holder = format!("in use by process {} (`onboarding`)", first.pid());
    assert!(line.contains(&holder) && line.contains("idempotency.db"), "{line}");
    let replay = invite.to(&first).await;
    assert!(replay.replayed && replay.body == answer.body, "the first goes on");

    // As soon as it has ended, one way or another.
    first.signal("KILL").await;
    first.ended().await;
    let second = start(&disk).await;
    assert_eq!(invite.to(&second).await.body, answer.body);
}

#[tokio::test]
async fn a_restart_keeps_what_is_stored() {
    let disk = Disk::new();
    let first = start(&disk).await;
    let (stored, in_flight) = (Invite::new(), Invite::new());
    let answer = stored.to(&first).await;
    let caller = tokio::spawn(exchange(in_flight.request(&first)));
    while first.log().matches(BEGUN).count() < 2 {
        tokio::task::yield_now().await;
    }
    first.signal("TERM").await;
    let last = caller.await.expect("the caller does not panic").expect("it is answered");
    let (status, log) = first.ended().await;
    assert!(status.success(), "{status}: {log}");
    let second = start(&disk).await;
    for (invite, answer) in [(stored, answer), (in_flight, last)] {
        let replay = invite.to(&second).await;
        assert!(replay.replayed && replay.body == answer.body, "{replay:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_replays_what_it_has_and_takes_nothing_new() {
    in_time(async {
        let disk = Disk::small();
        let service = instance(&url(&disk), "500ms").await;
        let (stored, running, new) = (Invite::new(), Invite::new(), Invite::new());
        let first = stored.to(&service).await;
        let caller = tokio::spawn(exchange(running.request(&service)));
        while service.log().matches(BEGUN).count() < 2 {
            tokio::task::yield_now().await;
        }
        block_in_place(|| disk.fill());
        let answer = caller.await.expect("the caller does not panic").expect("it answers");
        assert_eq!((answer.status, answer.replayed), (201, false), "the real response");
        service.logged("its disk is full: make room; stored responses are kept").await;

        let replay = stored.to(&service).await;
        assert!(replay.replayed && replay.body == first.body);
        let refused = new.to(&service).await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.body.contains("store_unavailable"), "{refused:?}");

        block_in_place(|| disk.free());
        let replay = running.retried(&[&service]).await;
        assert!(replay.replayed && replay.body == answer.body, "stored in the background");
        assert_eq!(new.retried(&[&service]).await.status, 201);
        for invite in [&stored, &running, &new] {
            assert_eq!(runs(invite, &[&service]).await, 1);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_is_never_stored_holds_its_key_for_a_lease_and_no_longer() {
    in_time(async {
        let disk = Disk::small();
        let service = instance_with_lease(&url(&disk), "200ms", "3s").await;
        let invite = Invite::new();
        let caller = tokio::spawn(exchange(invite.request(&service)));
        service.logged(BEGUN).await;
        block_in_place(|| disk.fill());
        let answer = caller.await.expect("the caller does not panic").expect("it answers");
        assert_eq!((answer.status, answer.replayed), (201, false), "the real response");
        service.logged(GIVEN_UP).await;
        block_in_place(|| disk.free());
        assert_eq!(invite.retried(&[&service]).await.status, 201);
        assert_eq!(runs(&invite, &[&service]).await, 2);
    })
    .await;
}
