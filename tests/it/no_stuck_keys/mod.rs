//! Guarantee *No stuck keys*: a panic or an error releases the key, as does a run that ends with its
//! runtime; a claim in a shared store holds for a lease; an instance that lost its claim overwrites
//! nothing.

mod dropped_runs;
mod late_claims;
mod leases;
mod lost_claims;
mod orphaned_claims;
mod panics;
