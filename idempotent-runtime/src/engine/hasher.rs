//! [`StableHasher`]: the hash of a fingerprint's value.

use std::hash::Hasher;

use super::fields::{Digest, truncate, version};

/// A [`Hasher`] with the same result in every process and on every machine: fixed width,
/// little-endian, BLAKE3.
#[derive(Debug)]
pub struct StableHasher(blake3::Hasher);

impl StableHasher {
    pub(crate) fn new() -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[version::EXPRESSION_FINGERPRINT]);
        Self(hasher)
    }

    pub(crate) fn digest(&self) -> Digest {
        truncate(self.0.finalize())
    }
}

macro_rules! write_little_endian {
    ($($name:ident($int:ty)),*) => {
        $(fn $name(&mut self, value: $int) {
            self.0.update(&value.to_le_bytes());
        })*
    };
}

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    write_little_endian!(
        write_u8(u8),
        write_u16(u16),
        write_u32(u32),
        write_u64(u64),
        write_u128(u128),
        write_i8(i8),
        write_i16(i16),
        write_i32(i32),
        write_i64(i64),
        write_i128(i128)
    );

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_i64(value as i64);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.finalize();
        let (first, _) = digest.as_bytes().split_at(8);
        first.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}
