//! The correct uses of `ui/pass` again, here under the lints they deny, including Clippy's.
#![allow(dead_code, reason = "their `main` is called in the test of their own")]

mod deps {
    //! What `macro_rules.rs` names with `$crate`.
    pub(crate) use idempotent_axum as library;
}

#[path = "ui/pass/arities.rs"]
mod arities;
#[path = "ui/pass/expressions.rs"]
mod expressions;
#[path = "ui/pass/generics.rs"]
mod generics;
#[path = "ui/pass/macro_rules.rs"]
mod macro_rules;
#[path = "ui/pass/names.rs"]
mod names;
#[path = "ui/pass/no_prelude.rs"]
mod no_prelude;
#[path = "ui/pass/openapi.rs"]
mod openapi;
#[path = "ui/pass/openapi_above.rs"]
mod openapi_above;
#[path = "ui/pass/other_attributes.rs"]
mod other_attributes;
#[path = "ui/pass/parameters.rs"]
mod parameters;
#[path = "ui/pass/routers.rs"]
mod routers;
