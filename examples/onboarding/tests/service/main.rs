//! Tests of the real program: each starts it on a free port and speaks HTTP to it over TCP.
//! Signals and a shell are part of that, so they run on Unix.

#![cfg(unix)]

mod admin_api;
mod document;
mod events;
mod members_api;
mod onboarding_api;
mod process;
mod readme;
mod service;
