//! Guarantee *No stuck keys*: a panic, an error or an unstorable response releases the key; a
//! claim in a shared store holds for a lease; an instance that lost its claim overwrites nothing.

mod late_claims;
mod leases;
mod lost_claims;
mod orphaned_claims;
mod panics;
