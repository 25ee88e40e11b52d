//! [`Admission`]: what a request's head says, before its body is read.

use std::{mem::take, sync::Arc};

use axum::{RequestExt as _, extract::Request, response::Response};

use super::{
    arrival::Arrival,
    evaluated::Evaluated,
    idempotency::Idempotency,
    key::{self, Key},
    known::Known,
    policy::{KeySource, Policy, Stage},
    problem::Problem,
};
use crate::store::Extracted;

/// A request whose key was looked for.
pub(super) struct Admission {
    policy: &'static Policy,
    /// From the header.
    key: Result<Option<Key>, Problem>,
    evaluated: Evaluated,
}

impl Admission {
    pub(super) fn new(policy: &'static Policy, request: &Request) -> Self {
        let key = match policy.key {
            KeySource::Expression => Ok(None),
            KeySource::Header => match key::read(policy, request.headers()) {
                Ok(None) if policy.required => Err(Problem::missing_key(&policy.header_names()[0])),
                key => key,
            },
        };
        Self { policy, key, evaluated: Evaluated::default() }
    }

    /// Where the expressions are evaluated to, if they can be now and there may be a key to look up.
    pub(super) fn evaluated(&mut self) -> Option<&mut Evaluated> {
        let may_have_key = match &self.key {
            Ok(None) => self.policy.key == KeySource::Expression,
            Ok(Some(_)) => true,
            Err(_) => false,
        };
        let is_early = self.policy.evaluated == Stage::BeforeExtraction;
        (may_have_key && is_early).then_some(&mut self.evaluated)
    }

    /// `None` if the request has no key and needs none. `Err` is a refusal.
    pub(super) fn admit(
        self,
        known: Known,
        extracted: Extracted,
        request: &mut Request,
    ) -> Result<Option<Arrival>, Response> {
        let Self { policy, key, evaluated } = self;
        let key = key.and_then(|header| evaluated.key_or(header));
        let key =
            key.map_err(|problem| Idempotency::of_request(request.extensions()).respond(problem))?;
        let may_follow =
            policy.key == KeySource::Expression && policy.evaluated == Stage::AfterExtraction;
        if key.is_none() && !may_follow {
            return Ok(None);
        }
        let settings = Arc::clone(Idempotency::of_request(request.extensions()));
        let extracted = known.extraction(policy, request, extracted);
        *request = take(request).with_limited_body();
        Ok(Some(Arrival { policy, settings, key, evaluated, known, extracted }))
    }
}
