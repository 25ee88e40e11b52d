//! Keys named by hand: looked at, freed, and run under without a request.

mod jobs;
mod keys;
