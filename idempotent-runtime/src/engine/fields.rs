//! [`Fields`]: lists of fields, hashed so that no two lists meet; and the two hashes.

use std::sync::LazyLock;

use highway::{HighwayHash as _, HighwayHasher, Key};

/// A digest of 128 bits.
pub(crate) type Digest = [u8; 16];

/// Which hash a digest is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digesting {
    /// BLAKE3: the same in every process, on every machine and in every release.
    Stable,
    /// `HighwayHash` under a random secret of this process, at a fraction of BLAKE3's work. It is a
    /// pseudorandom function: who does not know the secret finds no two inputs that meet. For what
    /// never leaves the process.
    Process,
}

impl Digesting {
    pub(crate) fn digest(self, bytes: &[u8]) -> Digest {
        match self {
            Self::Stable => truncate(blake3::hash(bytes)),
            Self::Process => {
                let [low, high] = HighwayHasher::new(*SECRET).hash128(bytes);
                (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
            }
        }
    }
}

static SECRET: LazyLock<Key> = LazyLock::new(|| {
    let random = || uuid::Uuid::new_v4().as_u64_pair();
    // Each pair has six bits that are not random.
    let ((a, b), (c, d), (e, f)) = (random(), random(), random());
    Key([a ^ f.rotate_left(32), b, c ^ e.rotate_left(32), d])
});

/// The first 128 bits of a hash.
pub(crate) fn truncate(hash: blake3::Hash) -> Digest {
    let (short, _) = hash.as_bytes().split_at(16);
    std::array::from_fn(|index| short[index])
}

/// A list of fields to be hashed, each with its length in front: no two lists give the same bytes.
pub(crate) struct Fields {
    /// The list, as long as it fits.
    buffer: [u8; Self::CAPACITY],
    length: usize,
    /// The whole list, once it does not fit.
    long: Vec<u8>,
}

impl Fields {
    /// Room for the fields of a usual request.
    const CAPACITY: usize = 256;

    /// An empty list. `version` tells what it is for: a new way to list the fields is a new one.
    pub(crate) fn new(version: u8) -> Self {
        let mut buffer = [0; Self::CAPACITY];
        buffer[0] = version;
        Self { buffer, length: 1, long: Vec::new() }
    }

    pub(crate) fn put(&mut self, field: &[u8]) {
        self.put_joined(&[field]);
    }

    /// One field made of `parts`.
    ///
    /// Nearly all fields are short: one byte says their length, nine that of the others.
    pub(crate) fn put_joined(&mut self, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let end = self.length + 1 + length;
        match (u8::try_from(length), self.buffer.get_mut(self.length..end)) {
            (Ok(short), Some([first, place @ ..])) if short < u8::MAX && self.long.is_empty() => {
                *first = short;
                let mut place = place;
                for part in parts {
                    let (this, rest) = place.split_at_mut(part.len());
                    this.copy_from_slice(part);
                    place = rest;
                }
                self.length = end;
            }
            _ => self.put_long(length, parts),
        }
    }

    #[cold]
    fn put_long(&mut self, length: usize, parts: &[&[u8]]) {
        if self.long.is_empty() {
            self.long.extend_from_slice(&self.buffer[..self.length]);
        }
        match u8::try_from(length) {
            Ok(length) if length < u8::MAX => self.long.push(length),
            _ => {
                self.long.push(u8::MAX);
                self.long.extend_from_slice(&(length as u64).to_le_bytes());
            }
        }
        for part in parts {
            self.long.extend_from_slice(part);
        }
    }

    pub(crate) fn digest(&self, digesting: Digesting) -> Digest {
        let all = if self.long.is_empty() { &self.buffer[..self.length] } else { &self.long };
        digesting.digest(all)
    }
}

/// What a list of [`Fields`] is for.
pub(crate) mod version {
    pub(crate) const STORE_KEY: u8 = 5;
    pub(crate) const REQUEST_FINGERPRINT: u8 = 6;
    pub(crate) const JSON_FINGERPRINT: u8 = 7;
    pub(crate) const MULTIPART_FINGERPRINT: u8 = 8;
    pub(crate) const PATH_FINGERPRINT: u8 = 9;
    pub(crate) const EXPRESSION_FINGERPRINT: u8 = 10;
    pub(crate) const DERIVED_KEY: u8 = 11;
    pub(crate) const JOB_FINGERPRINT: u8 = 12;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_hash_of_its_lengths_and_bytes_however_long_they_are() {
        const LENGTHS: [usize; 8] = [0, 7, 127, 254, 255, 300, 64 << 10, 200_000];
        for one in LENGTHS {
            for other in LENGTHS {
                let mut fields = Fields::new(version::STORE_KEY);
                let mut plain = vec![version::STORE_KEY];
                for (byte, length) in [one, other, one, 3].into_iter().enumerate() {
                    let field = vec![u8::try_from(byte).unwrap(); length];
                    let (first, second) = field.split_at(length / 3);
                    fields.put_joined(&[first, second]);
                    match u8::try_from(length) {
                        Ok(short) if short < 255 => plain.push(short),
                        _ => {
                            plain.push(255);
                            plain.extend((length as u64).to_le_bytes());
                        }
                    }
                    plain.extend(field);
                }
                let digest = fields.digest(Digesting::Stable);
                assert_eq!(digest, truncate(blake3::hash(&plain)), "{one} and {other} bytes");
                assert_eq!(fields.digest(Digesting::Process), Digesting::Process.digest(&plain));
            }
        }
    }

    #[test]
    fn the_hash_of_a_process_tells_apart_what_differs_by_a_bit() {
        let digest = |bytes: &[u8]| Digesting::Process.digest(bytes);
        let bytes = [7; 100];
        assert_eq!(digest(&bytes), digest(&[7; 100]));
        for index in 0..bytes.len() {
            let mut other = bytes;
            other[index] ^= 1;
            assert_ne!(digest(&other), digest(&bytes), "byte {index}");
            assert_ne!(digest(&bytes[..index]), digest(&bytes), "length {index}");
        }
    }
}
