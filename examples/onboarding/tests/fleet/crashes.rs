//! Instances that are killed at random moments, and started again.

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    fleet::{Backend, Invite, SLACK, instance_with_lease, on_each_store, runs},
    service::{BEGUN, Service},
};

on_each_store! { a_killed_instance_loses_no_response_and_only_its_own_run_is_repeated }

/// In parallel, because a key waits for a lease if its instance died.
const LANES: usize = 5;
/// A hundred kills over both stores.
const ROUNDS: usize = 10;
const LATENCY: Duration = Duration::from_millis(60);
const LEASE: Duration = Duration::from_secs(1);

/// When a kill came.
#[derive(Debug, PartialEq, Eq)]
enum Moment {
    /// No handler had begun.
    Before,
    /// A handler had begun, and its response was not stored: it ran again.
    During,
    /// The response was stored; the caller may have had it.
    After,
}

async fn a_killed_instance_loses_no_response_and_only_its_own_run_is_repeated(backend: Backend) {
    let url: Arc<str> = backend.url().into();
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        let url = Arc::clone(&url);
        lanes.spawn(async move {
            let survivor = start(&url).await;
            let mut moments = Vec::new();
            for _ in 0..ROUNDS {
                moments.push(kill(start(&url).await, &survivor).await);
            }
            moments
        });
    }
    let moments: Vec<_> = lanes.join_all().await.into_iter().flatten().collect();
    let count = |moment| moments.iter().filter(|&of| *of == moment).count();
    // Bypasses the test harness's capture: whoever runs the tests should see it.
    let _ = writeln!(
        io::stderr(),
        "{}: {} kills: {} before a handler began, {} after its response was stored, {} mid-handler \
         and thus run twice",
        backend.name(),
        moments.len(),
        count(Moment::Before),
        count(Moment::After),
        count(Moment::During),
    );
}

async fn start(url: &str) -> Service {
    instance_with_lease(url, &format!("{LATENCY:?}"), &format!("{LEASE:?}")).await
}

/// Kills `victim` at a random moment of a request, which is then retried elsewhere.
async fn kill(victim: Service, survivor: &Service) -> Moment {
    let invite = Invite::new();
    let request = invite.request(&victim);
    let caller = tokio::spawn(crate::fleet::exchange(request));
    // From before the request arrives to after its response.
    let [random, ..] = *uuid::Uuid::new_v4().as_bytes();
    tokio::time::sleep(LATENCY * u32::from(random) / 170).await;
    victim.signal("KILL").await;
    let (_, log) = victim.ended().await;
    let killed = Instant::now();
    let answer = caller.await.expect("the caller does not panic").ok();

    let retry = invite.to(survivor).await;
    assert!(killed.elapsed() < LEASE + SLACK, "stuck for {:?}", killed.elapsed());
    assert_eq!(retry.status, 201, "{retry:?}");
    let (begun, again) = (log.matches(BEGUN).count(), runs(&invite, &[survivor]).await);
    assert!(begun <= 1 && again <= 1, "{begun} runs, then {again}");
    assert_eq!(retry.replayed, again == 0, "a replay is of a run elsewhere");
    if let Some(answer) = answer {
        assert_eq!((answer.status, &answer.body), (201, &retry.body), "a response that was lost");
    }
    let last = invite.to(survivor).await;
    assert!(last.replayed && last.body == retry.body);
    match (begun, again) {
        (0, 1) => Moment::Before,
        (1, 0) => {
            let id = retry.body.split('"').find(|part| part.starts_with("ent_"));
            assert!(log.contains(id.expect("an entity has an id")), "the victim's response");
            Moment::After
        }
        (1, 1) => Moment::During,
        runs => panic!("runs: {runs:?}"),
    }
}
