//! What the benchmarks share: one [`Handler`] behind every [`Contender`], the requests it gets, and
//! the tables that are printed. What fails panics: a benchmark has no other use for an error.
#![expect(clippy::missing_panics_doc, reason = "said once, above")]

pub mod contender;
pub mod handler;
pub mod program;
pub mod request;
mod shared;
pub mod table;

pub use contender::{Contender, Service};
pub use handler::Handler;
