//! Guarantee *Exactly once, in PostgreSQL*: what a handler writes with `Tx`, its claim and its response
//! are there together or not at all, on real servers.

mod bank;
mod outcomes;
mod together;

use bank::{App, Bank, insert};
