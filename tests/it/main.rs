//! What the library promises, through real routers and real sockets, as one program: a module for
//! each guarantee of the README, then the attribute, HTTP, boundaries of runs, keys by hand, outages, the
//! near cache, sealing, the README itself, settings and sizes.
//!
//! The tests run side by side. Each has its own store, keys and captured events.

mod attribute;
mod bounded_memory;
mod by_hand;
mod capacity;
mod events;
#[cfg(feature = "postgres")]
mod exactly_once;
mod examples;
mod http;
mod install;
#[cfg(feature = "near-cache")]
mod near_cache;
mod never_cancelled;
mod no_stuck_keys;
mod nothing_leaks;
mod one_run;
mod outages;
mod readme;
mod run_boundary;
#[cfg(feature = "seal")]
mod sealing;
mod service;
mod settings;
mod sizes;
mod stored_before_sent;
#[cfg(feature = "testing")]
mod testing;
