//! Telling what was decided: the listeners, the request's span and the log. Every decision passes
//! here, once.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tracing::Span;

use super::{
    ask::{Found, Refusal},
    event::{Decision, Event, Replayed, StoreCall, StoreResult, StoreVerb},
    job::Job,
    settings::Engine,
};
use crate::store::{StoreError, StoreKey};

/// Whether anybody in this process listens: all that a request without a key looks at while nobody
/// does.
static IS_HEARD: AtomicBool = AtomicBool::new(false);

/// Whether anybody in this process listens.
pub(crate) fn is_heard() -> bool {
    IS_HEARD.load(Ordering::Relaxed)
}

type Listener = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// Who is told.
#[derive(Clone, Default)]
pub(super) struct Listeners(Vec<Listener>);

impl Listeners {
    pub(super) fn add(&mut self, listener: impl Fn(&Event<'_>) + Send + Sync + 'static) {
        self.0.push(Arc::new(listener));
        IS_HEARD.store(true, Ordering::Relaxed);
    }

    #[cold]
    fn tell(&self, event: &Event<'_>) {
        for listener in &self.0 {
            // Whatever it leaves half done is its own: nothing else is shared with it.
            if catch_unwind(AssertUnwindSafe(|| listener(event))).is_err() {
                tracing::error!(
                    target: crate::TARGET,
                    "a listener of idempotency events has panicked"
                );
            }
        }
    }
}

/// What is needed to tell what becomes of a job.
#[derive(Clone)]
pub(crate) struct Watch {
    /// The span of its request, if it is enabled: the outcome is recorded there.
    pub(crate) span: Option<Arc<Span>>,
    /// The status in an answer that was stored.
    pub(crate) status: fn(&[u8]) -> Option<u16>,
    /// How long it has waited for others with its key.
    pub(super) waited: Option<Duration>,
}

impl Watch {
    pub(crate) fn new(span: Option<Arc<Span>>, status: fn(&[u8]) -> Option<u16>) -> Self {
        Self { span, status, waited: None }
    }

    pub(super) fn has_waited(&mut self, time: Duration) {
        self.waited = Some(self.waited.unwrap_or_default() + time);
    }
}

/// No span, and answers without a status.
impl Default for Watch {
    fn default() -> Self {
        Self::new(None, |_| None)
    }
}

impl Engine {
    /// Tells `listener` of everything that is decided from now on.
    pub(crate) fn listen(&mut self, listener: impl Fn(&Event<'_>) + Send + Sync + 'static) {
        self.listeners.add(listener);
    }

    /// Whether anybody listens to this engine.
    pub(crate) fn is_heard(&self) -> bool {
        !self.listeners.0.is_empty()
    }

    /// The time, if anybody is to be told how long something takes.
    pub(super) fn clock(&self) -> Option<Instant> {
        let is_asked =
            self.is_heard() || tracing::enabled!(target: crate::TARGET, tracing::Level::DEBUG);
        is_asked.then(Instant::now)
    }

    /// Tells a decision about the request with this span.
    pub(crate) fn tell(&self, span: Option<&Span>, event: &Event<'_>) {
        if let Some(decision) = event.decision() {
            if let Some(span) = span.filter(|_| decision.is_answer()) {
                span.record("outcome", decision.as_str());
            }
            // It may be made outside of the span, by a boundary, or after the request.
            let _entered = span.map(Span::enter);
            log(decision, event);
        }
        if self.is_heard() {
            self.listeners.tell(event);
        }
    }

    /// Tells a decision about a request without a key.
    #[cold]
    pub(crate) fn tell_without_key(&self, operation: Option<&str>) {
        if self.is_heard() {
            self.listeners.tell(&Event::decided(operation, None, Decision::WithoutKey));
        }
    }

    /// Tells that a request without a key was refused.
    #[cfg(feature = "postgres")]
    pub(crate) fn tell_refused(&self, operation: Option<&str>, refusal: Refusal) {
        self.tell(None, &Event::decided(operation, None, refusal.decision()));
    }

    /// Begins to time a call of the store.
    pub(super) fn timed<'c>(
        &'c self,
        verb: StoreVerb,
        operation: Option<&'c str>,
        key: Option<StoreKey>,
    ) -> Timed<'c> {
        let since = self.is_heard().then(Instant::now);
        Timed { engine: self, verb, operation, key, since }
    }
}

impl Job {
    /// Tells a decision about it.
    pub(super) fn tell(&self, decision: Decision, status: Option<u16>, run_time: Option<Duration>) {
        let event = Event::decided(self.attempt.operation_name(), Some(self.attempt.key), decision)
            .with_status(status)
            .with_times(run_time, self.watch.waited.filter(|_| decision.is_answer()));
        self.engine.tell(self.watch.span.as_deref(), &event);
    }

    /// Tells what it found, unless that is a claim: of this its end is told.
    pub(super) fn told(&self, found: Found) -> Found {
        match &found {
            Found::Claimed(_) => {}
            Found::Unprotected => self.tell(Decision::Unprotected, None, None),
            Found::Stored(answer) => {
                self.tell(self.replayed(), (self.watch.status)(answer), None);
            }
            Found::Refused(refusal) => self.tell(refusal.decision(), None, None),
        }
        found
    }

    /// That it gets what its store holds.
    pub(super) fn replayed(&self) -> Decision {
        let is_memory = self.engine.store.is_memory();
        Decision::Replayed(if is_memory { Replayed::Memory } else { Replayed::Store })
    }

    /// Begins to time a call of the store.
    pub(super) fn timed(&self, verb: StoreVerb) -> Timed<'_> {
        self.engine.timed(verb, self.attempt.operation_name(), Some(self.attempt.key))
    }
}

impl Refusal {
    pub(super) fn decision(self) -> Decision {
        Decision::Refused(self.code())
    }
}

/// A call of the store that is being timed. Dropped before it has ended, it has no answer.
pub(super) struct Timed<'c> {
    engine: &'c Engine,
    verb: StoreVerb,
    operation: Option<&'c str>,
    key: Option<StoreKey>,
    /// `None` if nobody listens, or it has ended.
    since: Option<Instant>,
}

impl Timed<'_> {
    pub(super) fn end<T, E: IsAnswer>(mut self, result: Result<T, E>) -> Result<T, E> {
        let has_answered = result.as_ref().err().is_none_or(IsAnswer::is_answer);
        self.tell(if has_answered { StoreResult::Ok } else { StoreResult::Error });
        result
    }

    fn tell(&mut self, result: StoreResult) {
        if let Some(since) = self.since.take() {
            let call = StoreCall { verb: self.verb, result, time: since.elapsed() };
            self.engine.listeners.tell(&Event::called(self.operation, self.key, call));
        }
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.tell(StoreResult::Unanswered);
    }
}

/// An error that may be the store's answer.
pub(super) trait IsAnswer {
    /// Whether the store is well, and says no.
    fn is_answer(&self) -> bool;
}

impl IsAnswer for StoreError {
    fn is_answer(&self) -> bool {
        !self.is_outage()
    }
}

impl IsAnswer for Refusal {
    fn is_answer(&self) -> bool {
        false
    }
}

#[cfg(feature = "postgres")]
impl IsAnswer for crate::store::postgres::Failure {
    fn is_answer(&self) -> bool {
        matches!(self, Self::Ended)
    }
}

/// Says it in the log, at a level that tells what to do about it.
fn log(decision: Decision, event: &Event<'_>) {
    macro_rules! say {
        ($level:ident, $message:literal $(, $name:ident = $value:expr)*) => {
            tracing::$level!(
                target: crate::TARGET,
                operation = event.operation(),
                key = event.key().map(tracing::field::display),
                status = event.status(),
                run = event.run_time().map(tracing::field::debug),
                wait = event.wait_time().map(tracing::field::debug),
                $($name = $value,)*
                $message
            )
        };
    }

    match decision {
        // It runs as if the attribute were absent.
        Decision::WithoutKey => {}
        Decision::Unprotected => {
            say!(warn, "a handler runs unprotected: the store is out of reach");
        }
        Decision::Stored => say!(debug, "response stored"),
        Decision::NotStorable => say!(
            warn,
            "a response cannot be stored, so duplicates of its request get 409: raise \
             `max_response_bytes` or `max_capture_time`, or answer with less"
        ),
        Decision::Unknown => say!(debug, "outcome not known: duplicates get 409"),
        Decision::Released => say!(debug, "key released: a retry runs again"),
        Decision::Unstored => say!(debug, "response not stored yet: it is tried again"),
        Decision::Replayed(Replayed::Look) => {
            say!(debug, "response replayed, its request not extracted again", from = "look");
        }
        Decision::Replayed(from) => say!(debug, "response replayed", from = from.as_str()),
        Decision::Refused(code) => {
            say!(debug, "idempotent request refused", code = code.as_str());
        }
        Decision::ClaimLost => say!(
            warn,
            "an idempotency claim was lost before its response was stored: a retry may have run \
             beside it"
        ),
        Decision::StoredLate => say!(debug, "response stored after all"),
        Decision::GivenUp => {
            say!(error, "a response could not be stored: a retry of its request runs again");
        }
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} listeners", self.0.len())
    }
}
