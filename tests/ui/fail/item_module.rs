//! A module.
use idempotent_axum::idempotent;

#[idempotent]
mod handlers {}

fn main() {}
