//! [`Renewal`]: keeps a claim held while its run is in progress.
//!
//! One task per runtime renews all of the runtime's claims. It is already waiting for its timer
//! when a handler blocks a thread, so any other thread of the runtime can pick it up; a task that
//! had only just been spawned or woken would be queued behind the handler on the blocked thread. On
//! a single-threaded runtime, a handler that blocks for longer than the lease loses its claim.

use std::{
    collections::{BTreeSet, HashMap},
    future::{Future as _, poll_fn},
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::{
    runtime::{Handle, Id},
    sync::Notify,
    task::yield_now,
    time::{Instant, Sleep, sleep_until},
};

use super::{background::FIRST_BACKOFF, event::Decision, job::Job};
use crate::store::{BoxFuture, Hold, StoreError};

/// Renews a claim each third of its lease until it is dropped.
pub(super) struct Renewal {
    claims: Arc<Claims>,
    number: u64,
    /// Whether the task was woken for it.
    has_woken: bool,
}

impl Renewal {
    /// # Panics
    ///
    /// Panics if called outside of a Tokio runtime.
    pub(super) fn start(job: &Job, lease: Duration) -> Self {
        let claims = Claims::of_runtime();
        let (number, has_woken) = claims.add(job.clone(), lease);
        Self { claims, number, has_woken }
    }

    /// Ends the renewal; returns whether the claim was still held, as far as is known.
    pub(super) fn end(self) -> bool {
        self.claims.lock().remove(self.number)
    }

    /// Lets the task set its timer, if it has to.
    pub(super) async fn begin(&self) {
        if self.has_woken {
            yield_now().await;
        }
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.claims.lock().remove(self.number);
    }
}

/// The claims that one runtime renews.
#[derive(Default)]
struct Claims {
    table: Mutex<Table>,
    /// Notified when a claim is due before all others.
    earlier: Notify,
}

#[derive(Default)]
struct Table {
    last_number: u64,
    claims: HashMap<u64, Claim>,
    /// When each claim is to be renewed, except those being renewed right now.
    due: BTreeSet<(Instant, u64)>,
}

struct Claim {
    job: Job,
    lease: Duration,
    due: Instant,
}

impl Table {
    /// Returns whether it is due before all others.
    fn schedule(&mut self, number: u64, pause: Duration) -> bool {
        let Some(claim) = self.claims.get_mut(&number) else { return false };
        // A lease may be beyond the range of the clock.
        let Some(due) = Instant::now().checked_add(pause) else { return false };
        claim.due = due;
        self.due.insert((due, number));
        self.due.first() == Some(&(due, number))
    }

    /// Returns whether it was there.
    fn remove(&mut self, number: u64) -> bool {
        let Some(claim) = self.claims.remove(&number) else { return false };
        self.due.remove(&(claim.due, number));
        true
    }

    fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes a claim that is due.
    fn pop_due(&mut self) -> Option<(u64, &Claim)> {
        let (due, number) = *self.due.first()?;
        if due > Instant::now() {
            return None;
        }
        self.due.remove(&(due, number));
        Some((number, self.claims.get(&number)?))
    }
}

/// A store may grant less than requested; renewals always have a pause between them.
fn third(lease: Duration) -> Duration {
    (lease / 3).max(Duration::from_millis(1))
}

type Renewed = (u64, Duration, Result<Hold, StoreError>);

impl Claims {
    /// The claims of the runtime that this is called in.
    fn of_runtime() -> Arc<Self> {
        static ALL: Mutex<Option<HashMap<Id, Arc<Claims>>>> = Mutex::new(None);

        /// Dropped with its runtime.
        struct Duty(Id);

        impl Drop for Duty {
            fn drop(&mut self) {
                let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
                all.as_mut().and_then(|all| all.remove(&self.0));
            }
        }

        let runtime = Handle::current();
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.get_or_insert_default();
        let claims = all.entry(runtime.id()).or_insert_with(|| {
            let (claims, duty) = (Arc::<Self>::default(), Duty(runtime.id()));
            let renewed = Arc::clone(&claims);
            runtime.spawn(async move {
                let _duty = duty;
                renewed.renew().await;
            });
            claims
        });
        Arc::clone(claims)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing in a critical section panics halfway through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the claim's number, and whether the task was woken.
    fn add(&self, job: Job, lease: Duration) -> (u64, bool) {
        let mut table = self.lock();
        table.last_number += 1;
        let number = table.last_number;
        table.claims.insert(number, Claim { job, lease, due: Instant::now() });
        let is_first = table.schedule(number, third(lease));
        drop(table);
        if is_first {
            self.earlier.notify_one();
        }
        (number, is_first)
    }

    /// Renews what is due, all at once, so that a slow call does not delay the others.
    async fn renew(&self) {
        let mut calls = FuturesUnordered::new();
        loop {
            let next_due = self.lock().next_due();
            let mut timer = pin!(next_due.map(sleep_until));
            let mut earlier = pin!(self.earlier.notified());
            poll_fn(|cx| {
                while let Poll::Ready(Some(renewed)) = calls.poll_next_unpin(cx) {
                    self.renewed(renewed);
                }
                let is_due = has_elapsed(timer.as_mut(), cx);
                // What was just renewed may be due next.
                let is_other = self.lock().next_due() != next_due;
                if is_due || is_other || earlier.as_mut().poll(cx).is_ready() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            let mut table = self.lock();
            while let Some((number, claim)) = table.pop_due() {
                calls.push(call(number, claim));
            }
        }
    }

    fn renewed(&self, (number, lease, result): Renewed) {
        let mut table = self.lock();
        let Some(claim) = table.claims.get(&number) else { return };
        match result {
            Ok(Hold::Held) => {
                table.schedule(number, third(lease));
            }
            Ok(Hold::Lost) => {
                let job = claim.job.clone();
                table.remove(number);
                // A listener must not be called with the lock held.
                drop(table);
                job.tell(Decision::ClaimLost, None, None);
            }
            Err(error) => {
                tracing::debug!(
                    target: crate::TARGET,
                    error = &error as &dyn std::error::Error,
                    "renewing an idempotency claim failed, retrying"
                );
                table.schedule(number, FIRST_BACKOFF.min(third(lease)));
            }
        }
    }
}

/// A call that renews `claim`. A panic counts as a failed call: the other claims do not depend on
/// it.
fn call(number: u64, claim: &Claim) -> BoxFuture<'static, Renewed> {
    let (job, lease) = (claim.job.clone(), claim.lease);
    Box::pin(async move {
        let renewed = AssertUnwindSafe(job.renew(lease)).catch_unwind().await;
        let renewed = renewed.unwrap_or_else(|_| Err(StoreError::described("`renew` panicked")));
        (number, lease, renewed)
    })
}

fn has_elapsed(timer: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>) -> bool {
    timer.as_pin_mut().is_some_and(|timer| timer.poll(cx).is_ready())
}
