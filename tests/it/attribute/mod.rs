//! The attribute: its options, what its expressions see, and the handlers it can be put on.

mod direct_calls;
mod expressions;
mod guards;
mod handlers;
mod idempotency_key;
mod options;
mod scopes;
