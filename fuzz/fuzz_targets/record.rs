//! Any bytes as a stored record. On a stable toolchain:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| idempotent_runtime::fuzzing::decode_record(data));
