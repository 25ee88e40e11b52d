//! Any bytes as idempotency key headers. On a stable toolchain:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| idempotent_runtime::fuzzing::read_key(data));
