//! [`Origin`]: who produced a response, for [`testing`](crate::testing).

use crate::engine::ProblemCode;

/// Who produced a response. It is among the response's extensions, with the feature `testing`. A
/// replay has none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// The handler, which ran.
    Handler,
    /// The library, which did not run it.
    Refusal(ProblemCode),
}
