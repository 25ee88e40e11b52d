//! Faults, with real processes: instances of the service share one real store, or one has a file, and
//! either side is killed, paused, cut off or filled up.

#![cfg(unix)]

#[allow(dead_code, reason = "the tests of one instance use the rest")]
#[path = "../service/service.rs"]
mod service;

mod background;
mod crashes;
mod encryption;
mod fleet;
mod leases;
mod one_file;
mod outages;
mod sharing;
mod space;
mod standby;
mod start;
