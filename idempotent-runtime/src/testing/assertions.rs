//! Assertions on a response: whether its handler ran for it. The panic messages describe the
//! response, and say where to look.

use std::fmt;

use http::{Response, StatusCode};

use crate::{
    engine::ProblemCode,
    http::{Origin, stored::REPLAYED},
};

/// Asserts that the response is a replay of a stored one, so its handler did not run.
///
/// ```
/// use http::Response;
/// use idempotent_runtime::testing::assert_replayed;
///
/// let retry = Response::builder().status(201).header("idempotent-replayed", "true").body(())?;
/// assert_replayed(&retry);
/// # Ok::<_, http::Error>(())
/// ```
///
/// # Panics
///
/// Panics if the response is not marked as a replay. The message contains its status and headers,
/// and says what to look at.
#[track_caller]
pub fn assert_replayed<B>(response: &Response<B>) {
    let seen = Seen::of(response);
    assert!(seen == Seen::Replay, "{}", Failure { expected: "a replay", response, seen });
}

/// Asserts that the handler ran for this response.
///
/// A replay fails it, and so does an answer from anywhere else, such as the library's 409, an
/// extractor's 401 or the router's 404.
///
/// A response that comes directly from a router or a handler carries in its extensions who
/// answered. If those are lost, for example over a socket, a success counts as the handler's and an
/// error as someone else's.
///
/// ```
/// use http::Response;
/// use idempotent_runtime::testing::assert_executed;
///
/// let first = Response::builder().status(201).body(())?;
/// assert_executed(&first);
/// # Ok::<_, http::Error>(())
/// ```
///
/// # Panics
///
/// Panics if the response did not come from the handler. The message contains its status and
/// headers, and says what to look at.
#[track_caller]
pub fn assert_executed<B>(response: &Response<B>) {
    let seen = Seen::of(response);
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let is_executed = seen == Seen::Run || (seen == Seen::Other && !is_error);
    assert!(is_executed, "{}", Failure { expected: "the handler's", response, seen });
}

/// What a response says about its origin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Replay,
    /// The handler ran.
    Run,
    /// The library refused to run it.
    Refusal(ProblemCode),
    /// It does not say.
    Other,
}

impl Seen {
    fn of<B>(response: &Response<B>) -> Self {
        if response.headers().get(REPLAYED).is_some_and(|value| value == "true") {
            return Self::Replay;
        }
        match response.extensions().get::<Origin>() {
            Some(Origin::Handler) => Self::Run,
            Some(Origin::Refusal(code)) => Self::Refusal(*code),
            None => Self::Other,
        }
    }

    /// What to look at if something else was expected of a response with this status.
    fn look_at(self, status: StatusCode) -> &'static str {
        match self {
            Self::Replay => {
                "the key: a request that should run needs a new one. Without a layer all \
                 handlers of the process share one store, and so do all of its tests"
            }
            Self::Run if status.is_success() || status.is_redirection() => {
                "whether an earlier request had the same key, principal and route, and was stored in \
                 the same store (each `MemoryStore::new()` has keys of its own); whether its ttl has \
                 passed. Without a key every request runs"
            }
            Self::Run => {
                "the attribute's `replay`: by default a response with this status is not stored, \
                 unless the handler says `Outcome::Final`"
            }
            Self::Refusal(code) => look_at_after(code),
            Self::Other => {
                "whether the request has reached a handler with `#[idempotent]`: a 404 or 405 is the \
                 router's, another error may be that of a layer or an extractor. Over a socket the \
                 handler's own errors look the same: assert on status and body"
            }
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replay => f.write_str("it is a replay"),
            Self::Run => f.write_str("the handler ran"),
            Self::Refusal(code) => write!(f, "the library answered with `{code}`"),
            Self::Other => f.write_str("it does not say who answered"),
        }
    }
}

/// What to look at after a refusal.
fn look_at_after(code: ProblemCode) -> &'static str {
    match code {
        ProblemCode::InvalidKey => "the key: it must be a UUID, unless `format` says otherwise",
        ProblemCode::ConflictingKeys => "the headers of the request: they have different keys",
        ProblemCode::MissingKey => "the headers of the request: the attribute says `required`",
        ProblemCode::RequestInProgress => {
            "the first request with the key: it is still running, and this one waited for it as \
             long as the attribute's `wait` allows"
        }
        ProblemCode::ResponseNotStored => {
            "the first response with the key: it is larger than `max_response_bytes`, or was not \
             complete within `max_capture_time`"
        }
        ProblemCode::OutcomeUnknown => {
            "the first run with the key: it answered with `Outcome::Unknown`, or a layer inside a \
             `RunBoundary` cut it short"
        }
        ProblemCode::KeyReused => {
            "the first request with the key: it differs in what the attribute's `fingerprint` \
             compares, by default method, path, query, content type and body"
        }
        ProblemCode::TooManyRuns => {
            "`max_detached_runs`: this many handlers are running whose callers have gone"
        }
        ProblemCode::TransactionFailed => "the handler's transaction: it could not be committed",
        ProblemCode::Misconfigured => {
            "the store: `Tx` needs a `PostgresStore`, without another store around it, and is taken \
             once"
        }
        ProblemCode::StoreUnavailable => {
            "the store: it failed, or did not answer within `store_timeout`. A `FailingStore` fails \
             until it is mended"
        }
    }
}

/// Why an assertion failed.
struct Failure<'r, B> {
    expected: &'static str,
    response: &'r Response<B>,
    seen: Seen,
}

impl<B> fmt::Display for Failure<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, response, seen } = self;
        writeln!(f, "the response is not {expected}: {seen}")?;
        writeln!(f, "    {}", response.status())?;
        for (name, value) in response.headers() {
            writeln!(f, "    {name}: {value:?}")?;
        }
        write!(f, "look at {}", seen.look_at(response.status()))
    }
}
