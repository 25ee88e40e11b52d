//! [`Connections`]: the store's own connections.
//!
//! - **They are not shared.** A pool is asked how to connect, each time again, and never for a
//!   connection: handlers that hold all of the pool's take none from here.
//! - **No call opens one.** A separate task does, with its own limit, so that a caller that goes
//!   away leaves a connection behind for the next one. Otherwise a service whose calls come faster
//!   than connections open would never get one.
//! - **Whoever holds a key goes first.** Renewals, completions and releases get a connection before
//!   claims and reads, and some are kept free for them.
//! - **Everything is bounded**: the connections, how many are being opened, how many calls wait,
//!   and for how long. A call that gets none was certainly not sent.
//! - **The server's sessions count, not only ours.** One that waits for a lock or a standby does
//!   not notice that its client has gone, so a connection that was given up counts for a while
//!   longer. Once as many were given up as there may be connections, the others are kept until the
//!   server answers.

use std::{
    collections::VecDeque,
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Connection as _, Error, PgConnection};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{connection::Connection, error, source::Source};
use crate::store::{cause::Cause, jittered};

/// The limit of one attempt to open a connection.
pub(super) const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// The maximum number of connections being opened at once.
const MAX_OPENING: usize = 4;
/// How many calls of each kind may wait for each connection.
const WAITING_PER_CONNECTION: usize = 32;
/// The pause after a failed attempt, which doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// How long calls wait for a server that refuses connections: it may only be restarting. After that
/// they wait for one more attempt.
const GRACE: Duration = Duration::from_millis(500);
/// How long a connection that was given up counts: its session may still be working.
const GIVEN_UP_FOR: Duration = Duration::from_secs(60);
/// How long a connection may be idle, and how old it may get.
const MAX_IDLE: Duration = Duration::from_secs(10 * 60);
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To look at a key or to claim it. Such calls leave some connections to the others.
    Ask,
    /// To renew, complete or release a claim.
    Hold,
}

/// The connections of a store.
pub(super) struct Connections {
    source: Source,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// At least 2.
    pub(super) connections: usize,
    /// How long a call waits for a connection.
    pub(super) wait: Duration,
    /// How long the server may take to finish an abandoned call.
    pub(super) abandoned: Duration,
}

impl Limits {
    /// How many connections [`Purpose::Ask`] may use at once.
    fn asking(&self) -> usize {
        self.connections - self.connections.div_ceil(4)
    }

    fn waiting(&self) -> usize {
        self.connections * WAITING_PER_CONNECTION
    }
}

#[derive(Default)]
struct State {
    /// The most recently used one is the last.
    idle: Vec<Idle>,
    /// All that the server may see: idle, in use or being opened.
    open: usize,
    opening: usize,
    /// Those in use for [`Purpose::Ask`].
    asking: usize,
    /// When connections were given up whose sessions may not have ended, oldest first.
    given_up: VecDeque<Instant>,
    askers: VecDeque<Waiter>,
    holders: VecDeque<Waiter>,
    /// Failed attempts to open one since the last success.
    failures: u32,
    failing_since: Option<Instant>,
    last_failure: Option<Arc<Cause<Error>>>,
}

type Waiter = oneshot::Sender<Result<Connection, Arc<Cause<Error>>>>;

/// A connection to the server.
pub(super) struct Live {
    pub(super) connection: PgConnection,
    opened: Instant,
}

impl Live {
    fn new(connection: PgConnection) -> Self {
        Self { connection, opened: Instant::now() }
    }
}

struct Idle {
    live: Live,
    since: Instant,
}

impl Idle {
    fn is_stale(&self) -> bool {
        self.since.elapsed() > MAX_IDLE || self.live.opened.elapsed() > MAX_AGE
    }
}

impl Connections {
    /// Those that `source` opens, and one that is open already.
    pub(super) fn new(source: Source, limits: Limits, first: Option<PgConnection>) -> Arc<Self> {
        let mut state = State::default();
        if let Some(connection) = first {
            state.open = 1;
            state.put(Some(Live::new(connection)));
        }
        Arc::new(Self { source, limits, state: Mutex::new(state) })
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// A connection for one call. If this fails, nothing was sent.
    pub(super) async fn get(
        self: &Arc<Self>,
        purpose: Purpose,
    ) -> Result<Connection, NoConnection> {
        self.get_within(self.limits.wait, purpose).await
    }

    /// The same with the caller's limit.
    pub(super) async fn get_within(
        self: &Arc<Self>,
        limit: Duration,
        purpose: Purpose,
    ) -> Result<Connection, NoConnection> {
        let (waiter, given) = oneshot::channel();
        self.enqueue(purpose, waiter)?;
        match timeout(limit, given).await {
            Ok(Ok(Ok(connection))) => Ok(connection),
            Ok(Ok(Err(error))) => Err(NoConnection::Failed(error)),
            // The runtime that was opening one has ended.
            Ok(Err(_)) => Err(NoConnection::Failed(Arc::new(Cause(Error::PoolClosed)))),
            Err(_) => Err(match self.state().last_failure.clone() {
                Some(error) => NoConnection::Failed(error),
                None => NoConnection::Busy(limit),
            }),
        }
    }

    fn enqueue(self: &Arc<Self>, purpose: Purpose, waiter: Waiter) -> Result<(), NoConnection> {
        let bound = self.limits.waiting();
        self.change(|state| {
            let queue = state.queue(purpose);
            if queue.len() >= bound {
                queue.retain(|waiter| !waiter.is_closed());
                if queue.len() >= bound {
                    return Err(NoConnection::Crowd(bound));
                }
            }
            queue.push_back(waiter);
            Ok(())
        })
    }

    /// Takes back a connection in a known state, or the place of a closed one.
    pub(super) fn take_back(self: &Arc<Self>, purpose: Purpose, live: Option<Live>) {
        self.change(|state| {
            if purpose == Purpose::Ask {
                state.asking -= 1;
            }
            state.put(live);
        });
    }

    /// Whether a connection to a silent server may be given up.
    pub(super) fn may_give_up(&self) -> bool {
        let most = self.limits.connections;
        let mut state = self.state();
        while state.given_up.front().is_some_and(|since| since.elapsed() > GIVEN_UP_FOR) {
            state.given_up.pop_front();
        }
        let has_room = state.given_up.len() < most;
        if has_room {
            state.given_up.push_back(Instant::now());
        }
        has_room
    }

    /// Changes the state, then hands idle connections to waiters and opens missing ones.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let changed = change(&mut state);
        self.serve(&mut state);
        let old = state.take_stale();
        // Outside a runtime nothing can be opened, and nobody can wait for it.
        let runtime = Handle::try_current().ok();
        let missing = runtime.as_ref().map_or(0, |_| state.reserve_missing(self.limits));
        drop(state);
        let Some(runtime) = runtime else { return changed };
        for _ in 0..missing {
            runtime.spawn(Opening::new(Arc::clone(self)).run());
        }
        if let Some(old) = old {
            runtime.spawn(timeout(OPEN_LIMIT, old.connection.close()));
        }
        changed
    }

    /// Hands idle connections to waiters.
    fn serve(self: &Arc<Self>, state: &mut State) {
        while let Some(purpose) = state.next_served(self.limits.asking()) {
            let Some(Idle { live, since }) = state.idle.pop() else { break };
            let waiter = state.queue(purpose).pop_front().expect("one is served next");
            let connection = Connection::new(Arc::clone(self), purpose, live);
            if let Err(Ok(mut connection)) = waiter.send(Ok(connection)) {
                // It has just left.
                state.idle.extend(connection.take().map(|live| Idle { live, since }));
            } else if purpose == Purpose::Ask {
                state.asking += 1;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in a critical section panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn queue(&mut self, purpose: Purpose) -> &mut VecDeque<Waiter> {
        match purpose {
            Purpose::Ask => &mut self.askers,
            Purpose::Hold => &mut self.holders,
        }
    }

    /// Whose turn it is. Waiters that have left are removed.
    fn next_served(&mut self, max_asking: usize) -> Option<Purpose> {
        [Purpose::Hold, Purpose::Ask].into_iter().find(|&purpose| {
            if purpose == Purpose::Ask && self.asking >= max_asking {
                return false;
            }
            let queue = self.queue(purpose);
            while queue.front().is_some_and(Waiter::is_closed) {
                queue.pop_front();
            }
            !queue.is_empty()
        })
    }

    /// Adds a connection to the idle ones, or counts one fewer.
    fn put(&mut self, live: Option<Live>) {
        match live {
            Some(live) => self.idle.push(Idle { live, since: Instant::now() }),
            None => self.open -= 1,
        }
    }

    /// A connection to close, at most one at a time.
    fn take_stale(&mut self) -> Option<Live> {
        // The first has been idle the longest.
        self.idle.first().is_some_and(Idle::is_stale).then(|| {
            self.open -= 1;
            self.idle.remove(0).live
        })
    }

    /// How many connections to open; they already count.
    fn reserve_missing(&mut self, limits: Limits) -> usize {
        let asking = self.askers.len().min(limits.asking().saturating_sub(self.asking));
        let wanted = (self.holders.len() + asking).min(MAX_OPENING);
        let room = limits.connections - self.open;
        let missing = wanted.saturating_sub(self.opening).min(room);
        self.opening += missing;
        self.open += missing;
        missing
    }

    fn has_waiters(&mut self) -> bool {
        for queue in [&mut self.askers, &mut self.holders] {
            queue.retain(|waiter| !waiter.is_closed());
        }
        !self.askers.is_empty() || !self.holders.is_empty()
    }
}

/// A connection that is being opened. It counts until it is dropped.
struct Opening {
    connections: Arc<Connections>,
    opened: Option<Live>,
    /// False if its runtime has ended: nothing more can be opened in it.
    is_done: bool,
}

impl Opening {
    fn new(connections: Arc<Connections>) -> Self {
        Self { connections, opened: None, is_done: false }
    }

    async fn run(mut self) {
        self.opened = self.open().await;
        self.is_done = true;
    }

    /// Tries until it succeeds or nobody is waiting.
    async fn open(&self) -> Option<Live> {
        loop {
            let failures = self.connections.state().failures;
            if failures > 0 {
                sleep(pause(failures)).await;
            }
            let attempt = self.connections.source.open(failures > 0);
            let error = match timeout(OPEN_LIMIT, attempt).await {
                Ok(Ok(connection)) => return Some(Live::new(connection)),
                Ok(Err(error)) => error,
                Err(_) => Error::Io(std::io::ErrorKind::TimedOut.into()),
            };
            tracing::debug!(
                target: crate::TARGET,
                error = &error as &dyn StdError,
                "opening a connection to PostgreSQL failed"
            );
            if !self.fail(error) {
                return None;
            }
        }
    }

    /// Notes a failure, and returns whether to try again.
    fn fail(&self, error: Error) -> bool {
        let mut state = self.connections.state();
        state.failures = state.failures.saturating_add(1);
        let since = *state.failing_since.get_or_insert_with(Instant::now);
        let may_pass = error::is_passing_refusal(&error) && since.elapsed() < GRACE;
        let error = Arc::new(Cause(error));
        state.last_failure = Some(Arc::clone(&error));
        if !may_pass && state.open == state.opening {
            // No connection can come back to the waiters, so waiting would gain nothing.
            let State { askers, holders, .. } = &mut *state;
            for waiter in askers.drain(..).chain(holders.drain(..)) {
                let _ = waiter.send(Err(Arc::clone(&error)));
            }
        }
        state.has_waiters()
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let (opened, connections) = (self.opened.take(), &self.connections);
        let end = |state: &mut State| {
            state.opening -= 1;
            if opened.is_some() {
                state.failures = 0;
                state.failing_since = None;
                state.last_failure = None;
            }
            state.put(opened);
        };
        if self.is_done {
            connections.change(end);
        } else {
            end(&mut connections.state());
        }
    }
}

/// The pause before the next attempt.
fn pause(failures: u32) -> Duration {
    jittered(FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_PAUSE))
}

/// Why a call got no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    /// None could be opened.
    Failed(Arc<Cause<Error>>),
    /// None was free in time.
    Busy(Duration),
    /// Too many calls are waiting already.
    Crowd(usize),
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) if error::is_refused_by_pooler(&error.0) => {
                f.write_str(error::POOLER)
            }
            Self::Failed(_) => f.write_str("no connection to PostgreSQL could be opened"),
            Self::Busy(limit) => {
                write!(f, "no connection to PostgreSQL was free within {limit:?}")
            }
            Self::Crowd(bound) => {
                write!(f, "{bound} calls wait for a connection to PostgreSQL already")
            }
        }
    }
}

impl StdError for NoConnection {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::Busy(_) | Self::Crowd(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_second_within_a_quarter() {
        let pauses = |failures| (0..1000).map(move |_| pause(failures));
        assert!(pauses(1).all(|pause| pause <= FIRST_PAUSE * 5 / 4));
        assert!(pauses(u32::MAX).all(|pause| pause >= MAX_PAUSE * 3 / 4));
        assert!(pauses(u32::MAX).all(|pause| pause <= MAX_PAUSE * 5 / 4));
    }

    #[test]
    fn some_connections_are_left_to_those_who_hold_a_key() {
        let asking = |connections| {
            let limit = Duration::from_secs(1);
            Limits { connections, wait: limit, abandoned: limit }.asking()
        };
        assert_eq!([2, 3, 4, 5, 10, 100].map(asking), [1, 2, 3, 3, 7, 75]);
    }
}
