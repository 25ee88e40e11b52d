//! [`Origin`]: who gave a response, for [`testing`](crate::testing).

use crate::engine::ProblemCode;

/// Who gave a response: among its extensions, with the feature `testing`. A replay has none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// The handler, which has run.
    Handler,
    /// The library, which has not run it.
    Refusal(ProblemCode),
}
