//! [`Near`]: this process's copies of what a shared store holds, so that a replay needs no store.
//!
//! A stored record does not change until its ttl passes, so a copy that lives no longer than that
//! is correct:
//!
//! - It is made of what the store has confirmed that it holds: after a `complete` that was answered
//!   `Held` or a commit, and from a record that a claim or a read returned. Never after an error.
//! - Its time counts from before the first call that may have stored it, or from before the call
//!   that reported its remaining time, and ends after [`LONGEST`] at the latest.
//! - Only what is replayed is copied, an answer or a value. For a note, the store is asked every
//!   time: an unknown outcome is what people look into and then `forget`, and that has to take
//!   effect on every instance at once.
//! - It is made of the opened record, and contains everything that decides about a replay:
//!   fingerprint, form, and how the last parameter was extracted.
//! - None is made of a call that began before the end of a `forget`, since it may have been
//!   answered before.

#[cfg(feature = "near-cache")]
mod cache;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

#[cfg(feature = "near-cache")]
use self::cache::Cache;
use super::{
    ask::Found,
    event::Replayed,
    job::Job,
    record::{self, Form, Record},
    settings::Engine,
};
use crate::store::{Extracted, Fingerprint, StoreKey};

/// The maximum time a copy is kept: what another instance forgets may be replayed here for this
/// long.
const LONGEST: Duration = Duration::from_secs(10 * 60);
/// How much a store may round a time: the rest of a millisecond, and as much of its clock.
const ROUNDING: Duration = Duration::from_millis(2);

/// This process's copies, if it keeps any.
#[derive(Clone, Default)]
pub(super) struct Near(Option<Arc<Copies>>);

struct Copies {
    cache: Cache,
    /// How often a key was forgotten. Locked for reading while a copy is made, for writing while
    /// one is dropped.
    forgotten: RwLock<u64>,
}

/// A record that can be replayed.
#[derive(Clone)]
struct Copied {
    fingerprint: Fingerprint,
    form: Form,
    answer: Bytes,
    /// How the last parameter of a request with this fingerprint was extracted, if a replay may
    /// skip that.
    extracted: Option<Extracted>,
    until: Instant,
}

/// The moment before a store call whose result can be copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    at: Instant,
    forgotten: u64,
}

impl Near {
    /// Copies that take up at most `max_bytes` in total.
    #[cfg(feature = "near-cache")]
    pub(super) fn new(max_bytes: usize) -> Self {
        let copies = Copies { cache: Cache::new(max_bytes), forgotten: RwLock::default() };
        Self(Some(Arc::new(copies)))
    }

    /// How many bytes the copies may take up; `None` if none are kept.
    #[cfg(feature = "near-cache")]
    pub(super) fn max_bytes(&self) -> Option<u64> {
        self.0.as_deref().map(|copies| copies.cache.max_bytes())
    }

    /// The moment before a store call; `None` if no copies are kept.
    pub(super) fn moment(&self) -> Option<Moment> {
        let forgotten = self.0.as_deref()?.forgotten.read();
        let forgotten = *forgotten.unwrap_or_else(PoisonError::into_inner);
        Some(Moment { at: Instant::now(), forgotten })
    }

    /// The copy for `key`, if it is currently valid.
    fn get(&self, key: StoreKey) -> Option<Copied> {
        let copied = self.0.as_deref()?.cache.get(key)?;
        (Instant::now() < copied.until).then_some(copied)
    }

    /// Keeps the result of `copy` for `key`, which the store holds for `time` from `moment` on.
    fn keep(
        &self,
        key: StoreKey,
        moment: Moment,
        time: Duration,
        copy: impl FnOnce(Instant) -> Copied,
    ) {
        let Some(copies) = self.0.as_deref() else { return };
        let until = moment.at + time.saturating_sub(ROUNDING).min(LONGEST);
        let forgotten = copies.forgotten.read().unwrap_or_else(PoisonError::into_inner);
        if *forgotten == moment.forgotten && Instant::now() < until {
            copies.cache.insert(key, copy(until));
        }
    }

    /// Drops the copy for `key`, now and again when the returned value is dropped.
    pub(super) fn forgetting(&self, key: StoreKey) -> Forgetting<'_> {
        self.remove(key);
        Forgetting { near: self, key }
    }

    fn remove(&self, key: StoreKey) {
        let Some(copies) = self.0.as_deref() else { return };
        let mut forgotten = copies.forgotten.write().unwrap_or_else(PoisonError::into_inner);
        *forgotten += 1;
        copies.cache.remove(key);
    }
}

/// A key that is being forgotten.
pub(super) struct Forgetting<'n> {
    near: &'n Near,
    key: StoreKey,
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        self.near.remove(self.key);
    }
}

impl Job {
    /// What the copy for this job's key says, if there is one.
    pub(super) fn near(&self) -> Option<Found> {
        let Copied { fingerprint, form, answer, .. } = self.engine.near.get(self.attempt.key)?;
        Some(match self.refusal_of_other(form, fingerprint) {
            Some(refusal) => Found::Refused(refusal),
            None => Found::Stored(answer, Replayed::Near),
        })
    }

    /// Copies the answer that the store returned for this job, and holds for `expires_in` since
    /// `moment`.
    pub(super) fn copy_replayed(
        &self,
        moment: Option<Moment>,
        answer: &Bytes,
        expires_in: Duration,
    ) {
        let Some(moment) = moment else { return };
        self.engine.near.keep(self.attempt.key, moment, expires_in, |until| {
            // A client's buffer may be larger than what is read from it.
            self.copied(self.form, Bytes::copy_from_slice(answer), until)
        });
    }

    /// Copies the record that this job stored, first passed to the store at `moment`.
    pub(super) fn copy_stored(&self, moment: Option<Moment>, record: &Bytes) {
        let Some(moment) = moment else { return };
        let (form, answer) = match record::open(record.clone(), true) {
            Ok(Record::Answer(answer)) => (Form::Answer, answer),
            Ok(Record::Value(value)) => (Form::Value, value),
            Ok(Record::NotStored | Record::Unknown) | Err(_) => return,
        };
        self.engine
            .near
            .keep(self.attempt.key, moment, self.ttl, |until| self.copied(form, answer, until));
    }

    fn copied(&self, form: Form, answer: Bytes, until: Instant) -> Copied {
        let (fingerprint, extracted) = (self.attempt.fingerprint, self.extracted);
        Copied { fingerprint, form, answer, extracted, until }
    }
}

impl Engine {
    /// Keeps copies of what a shared store holds, in at most `max_bytes` in total.
    #[cfg(feature = "near-cache")]
    pub(crate) fn keep_copies(&mut self, max_bytes: usize) {
        let is_kept = !self.store.is_memory() && max_bytes > 0;
        self.near = if is_kept { Near::new(max_bytes) } else { Near::default() };
    }

    /// How many bytes the copies may take up; `None` if none are kept.
    #[cfg(feature = "near-cache")]
    pub(crate) fn max_copied_bytes(&self) -> Option<u64> {
        self.near.max_bytes()
    }

    /// The answer that this process holds for a request whose last parameter need not be extracted,
    /// and where it is held.
    pub(crate) fn look(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        extracted: Extracted,
    ) -> Option<(Bytes, Replayed)> {
        if let Some(record) = self.store.look(key, fingerprint, extracted) {
            let Ok(Record::Answer(answer)) = record::open(record, true) else { return None };
            return Some((answer, Replayed::Look));
        }
        let copied = self.near.get(key)?;
        let is_same = copied.form == Form::Answer
            && copied.fingerprint == fingerprint
            && copied.extracted.is_some_and(|by| by() == extracted());
        is_same.then_some((copied.answer, Replayed::Near))
    }
}

/// There is no cache.
#[cfg(not(feature = "near-cache"))]
enum Cache {}

#[cfg(not(feature = "near-cache"))]
impl Cache {
    fn get(&self, _: StoreKey) -> Option<Copied> {
        match *self {}
    }

    fn insert(&self, _: StoreKey, _: Copied) {
        match *self {}
    }

    fn remove(&self, _: StoreKey) {
        match *self {}
    }
}

#[cfg(all(test, feature = "near-cache"))]
mod tests;
