//! An outage passes: while a store is out of reach, requests with keys get 503 or run unprotected,
//! as `OnStoreError` says, and nothing that was stored runs again.

mod bounds;
mod claims;
mod foreign;
mod servers;
