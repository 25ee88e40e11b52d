//! What a client sees: which keys are read, which requests are the same, what it gets for each
//! state of its key, and how its bodies and responses come through.

mod bodies;
mod fingerprints;
mod keys;
mod looks;
mod outcome;
mod problems;
mod refusals;
mod responses;
mod same_requests;
mod table;
