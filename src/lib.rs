#![doc = include_str!("../README.md")]

pub use idempotent_macros::idempotent;
#[doc(inline)]
pub use idempotent_runtime::*;

#[doc(hidden)]
pub use idempotent_runtime::__private;

#[doc = include_str!("../docs/choosing-a-store.md")]
pub mod choosing_a_store {}
