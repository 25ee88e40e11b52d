//! The page, in a real Chromium that clicks and types: what it sends, what it shows, and whether
//! everybody can use it.

#![cfg(unix)]

#[allow(dead_code, reason = "the tests without a browser use the rest")]
#[path = "../service/service.rs"]
mod service;

mod browser;
mod faults;
mod live;
mod looks;
mod sending;
