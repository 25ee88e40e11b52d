//! [`Known`]: last parameters whose extraction is a function of the request's bytes.

use std::{marker::PhantomData, ops::Deref};

use axum::{Json, extract::Request};
use bytes::Bytes;
use http::header;

use super::{
    fingerprint::essence,
    policy::{FingerprintSource, Policy, Stage},
};
use crate::store::Extracted;

/// What is known about a last parameter from its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is extracted before every replay.
    No,
    /// Axum's `Json<T>`.
    Json,
    /// `String` or `Bytes`.
    Plain,
}

impl Known {
    /// How the last parameter of `request` is extracted, if a replay may skip it because extracting
    /// the same bytes as the same type has succeeded before.
    ///
    /// Axum reads the whole `Content-Type`, the fingerprint only its essence, so the header must
    /// not contain anything else.
    pub(super) fn extraction<B>(
        self,
        policy: &Policy,
        request: &Request<B>,
        extracted: Extracted,
    ) -> Option<Extracted> {
        let is_whole_request = policy.fingerprint == FingerprintSource::Request
            && policy.evaluated == Stage::BeforeExtraction;
        let is_certain = match (self, request.headers().get(header::CONTENT_TYPE)) {
            (Self::No, _) | (Self::Json, None) => false,
            (Self::Plain, None) => true,
            (Self::Json | Self::Plain, Some(value)) => {
                let (value, essence) = (value.as_bytes(), essence(value.as_bytes()));
                let rest = value.strip_prefix(&*essence);
                rest.is_some_and(|rest| rest.is_empty() || rest == b"; charset=utf-8")
            }
        };
        (is_whole_request && is_certain).then_some(extracted)
    }
}

/// Finds out what is known about a type: `probe.known()` resolves to the method of one of the types
/// below or, through [`Deref`], to that of all other types. In a generic handler it always resolves
/// to the latter.
#[derive(Debug)]
pub struct Probe<E>(PhantomData<fn() -> E>);

impl<E> Probe<E> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Probe<Json<T>> {
    /// What is known about the type.
    #[must_use]
    pub fn known(&self) -> Known {
        Known::Json
    }
}

impl Probe<String> {
    /// What is known about the type.
    #[must_use]
    pub fn known(&self) -> Known {
        Known::Plain
    }
}

impl Probe<Bytes> {
    /// What is known about the type.
    #[must_use]
    pub fn known(&self) -> Known {
        Known::Plain
    }
}

/// Any other type.
#[derive(Debug)]
pub struct Unknown;

impl Unknown {
    /// What is known about the type.
    #[must_use]
    #[expect(clippy::unused_self, reason = "it answers for the probe that dereferences to it")]
    pub fn known(&self) -> Known {
        Known::No
    }
}

impl<E> Deref for Probe<E> {
    type Target = Unknown;

    fn deref(&self) -> &Unknown {
        &Unknown
    }
}
