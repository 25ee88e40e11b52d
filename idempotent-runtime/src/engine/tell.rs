//! Reports what was decided to the listeners, the request's span and the log. Every decision passes
//! through here, once.

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

/// Whether anything in this process listens: all that a request without a key checks while nothing
/// does.
static IS_HEARD: AtomicBool = AtomicBool::new(false);

/// Whether anything in this process listens.
pub(crate) fn is_heard() -> bool {
    IS_HEARD.load(Ordering::Relaxed)
}

type Listener = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// The listeners.
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
            // Whatever it leaves half done is its own: it shares nothing else.
            if catch_unwind(AssertUnwindSafe(|| listener(event))).is_err() {
                tracing::error!(
                    target: crate::TARGET,
                    "a listener for idempotency events panicked"
                );
            }
        }
    }
}

/// What it takes to report what happens to a job.
#[derive(Clone)]
pub(crate) struct Watch {
    /// The span of its request, if it is enabled: the outcome is recorded there.
    pub(crate) span: Option<Arc<Span>>,
    /// Reads the status from an answer that was stored.
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
    /// Calls `listener` for everything that is decided from now on.
    pub(crate) fn listen(&mut self, listener: impl Fn(&Event<'_>) + Send + Sync + 'static) {
        self.listeners.add(listener);
    }

    /// Whether anything listens to this engine.
    pub(crate) fn is_heard(&self) -> bool {
        !self.listeners.0.is_empty()
    }

    /// The current time, if anything listens for how long things take.
    pub(super) fn clock(&self) -> Option<Instant> {
        let is_asked =
            self.is_heard() || tracing::enabled!(target: crate::TARGET, tracing::Level::DEBUG);
        is_asked.then(Instant::now)
    }

    /// Reports a decision about the request with this span.
    pub(crate) fn tell(&self, span: Option<&Span>, event: &Event<'_>) {
        if let Some(decision) = event.decision() {
            if let Some(span) = span.filter(|_| decision.is_answer()) {
                span.record("outcome", decision.as_str());
            }
            // The decision may be made outside of the span, by a boundary, or after the request.
            let _entered = span.map(Span::enter);
            log(decision, event);
        }
        if self.is_heard() {
            self.listeners.tell(event);
        }
    }

    /// Reports a decision about a request without a key.
    #[cold]
    pub(crate) fn tell_without_key(&self, operation: Option<&str>) {
        if self.is_heard() {
            self.listeners.tell(&Event::decided(operation, None, Decision::WithoutKey));
        }
    }

    /// Reports that a request without a key was refused.
    #[cfg(feature = "postgres")]
    pub(crate) fn tell_refused(&self, operation: Option<&str>, refusal: Refusal) {
        self.tell(None, &Event::decided(operation, None, refusal.decision()));
    }

    /// Starts timing a call to the store.
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
    /// Reports a decision about this job.
    pub(super) fn tell(&self, decision: Decision, status: Option<u16>, run_time: Option<Duration>) {
        let event = Event::decided(self.attempt.operation_name(), Some(self.attempt.key), decision)
            .with_status(status)
            .with_times(run_time, self.watch.waited.filter(|_| decision.is_answer()));
        self.engine.tell(self.watch.span.as_deref(), &event);
    }

    /// Reports what was found, unless that is a claim: then the end of the run is reported.
    pub(super) fn told(&self, found: Found) -> Found {
        match &found {
            Found::Claimed(_) => {}
            Found::Unprotected => self.tell(Decision::Unprotected, None, None),
            Found::Stored(answer, from) => {
                self.tell(Decision::Replayed(*from), (self.watch.status)(answer), None);
            }
            Found::Refused(refusal) => self.tell(refusal.decision(), None, None),
        }
        found
    }

    /// The source of what its store holds.
    pub(super) fn source(&self) -> Replayed {
        if self.engine.store.is_memory() { Replayed::Memory } else { Replayed::Store }
    }

    /// Starts timing a call to the store.
    pub(super) fn timed(&self, verb: StoreVerb) -> Timed<'_> {
        self.engine.timed(verb, self.attempt.operation_name(), Some(self.attempt.key))
    }
}

impl Refusal {
    pub(super) fn decision(self) -> Decision {
        Decision::Refused(self.code())
    }
}

/// A call to the store that is being timed. If it is dropped before it has finished, it counts as
/// unanswered.
pub(super) struct Timed<'c> {
    engine: &'c Engine,
    verb: StoreVerb,
    operation: Option<&'c str>,
    key: Option<StoreKey>,
    /// `None` if nothing listens, or the call has finished.
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

/// An error that may be an answer from the store.
pub(super) trait IsAnswer {
    /// Whether the store is healthy and has refused.
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

/// Writes the event to the log, at a level that reflects what to do about it.
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
            say!(warn, "a handler runs unprotected: the store is unreachable");
        }
        Decision::Stored => say!(debug, "response stored"),
        Decision::NotStorable => say!(
            warn,
            "a response cannot be stored, so duplicates of its request get 409: raise \
             `max_response_bytes` or `max_capture_time`, or answer with less"
        ),
        Decision::Unknown => say!(debug, "outcome unknown: duplicates get 409"),
        Decision::Released => say!(debug, "key released: a retry runs again"),
        Decision::Unstored => say!(debug, "response not stored yet: retrying in the background"),
        Decision::Replayed(Replayed::Look) => {
            say!(debug, "response replayed without extracting its request again", from = "look");
        }
        Decision::Replayed(from) => say!(debug, "response replayed", from = from.as_str()),
        Decision::Refused(code) => {
            say!(debug, "idempotent request refused", code = code.as_str());
        }
        Decision::ClaimLost => say!(
            warn,
            "an idempotency claim was lost before its response was stored: a retry may have run \
             alongside it"
        ),
        Decision::StoredLate => say!(debug, "response stored late"),
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
