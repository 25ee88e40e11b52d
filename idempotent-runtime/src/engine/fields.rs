//! [`Fields`]: lists of fields, hashed so that no two lists collide; and the two hashes.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use highway::{HighwayHash as _, HighwayHasher, Key};
use zeroize::{Zeroize as _, Zeroizing};

/// A 128-bit digest.
pub(crate) type Digest = [u8; 16];

/// Which hash to use for a digest.
#[derive(Debug, Clone)]
pub(crate) enum Digesting {
    /// BLAKE3: the same in every process, on every machine and in every release.
    Stable,
    /// Keyed BLAKE3: the same in every process that has the secret. Without it, nobody can compute
    /// the digest of a guess.
    Keyed(DigestSecret),
    /// `HighwayHash` keyed with a random secret of this process, at a fraction of BLAKE3's cost. It
    /// is a pseudorandom function: without the secret, nobody can find two inputs that collide. For
    /// values that never leave the process.
    Process,
}

impl Digesting {
    pub(crate) fn digest(&self, bytes: &[u8]) -> Digest {
        match self {
            Self::Stable => truncate(blake3::hash(bytes)),
            Self::Keyed(DigestSecret(secret)) => truncate(blake3::keyed_hash(secret, bytes)),
            Self::Process => {
                let [low, high] = HighwayHasher::new(*SECRET).hash128(bytes);
                (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
            }
        }
    }
}

/// The secret for a service's digests. Wiped when its last handle is dropped, and never shown.
#[derive(Clone)]
pub(crate) struct DigestSecret(Arc<Zeroizing<[u8; 32]>>);

impl DigestSecret {
    pub(crate) fn new(mut secret: [u8; 32]) -> Self {
        // Filled in place: a move would leave a copy behind.
        let mut place = Arc::new(Zeroizing::new([0; 32]));
        if let Some(place) = Arc::get_mut(&mut place) {
            place.copy_from_slice(&secret);
        }
        secret.zeroize();
        Self(place)
    }
}

impl fmt::Debug for DigestSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestSecret(…)")
    }
}

static SECRET: LazyLock<Key> = LazyLock::new(|| {
    let random = || uuid::Uuid::new_v4().as_u64_pair();
    // Six bits of each pair are not random.
    let ((a, b), (c, d), (e, f)) = (random(), random(), random());
    Key([a ^ f.rotate_left(32), b, c ^ e.rotate_left(32), d])
});

/// The first 128 bits of a hash.
pub(crate) fn truncate(hash: blake3::Hash) -> Digest {
    let (short, _) = hash.as_bytes().split_at(16);
    std::array::from_fn(|index| short[index])
}

/// A list of fields to hash, each prefixed with its length: no two lists produce the same bytes.
pub(crate) struct Fields {
    /// The list, as long as it fits.
    buffer: [u8; Self::CAPACITY],
    length: usize,
    /// The whole list, once it no longer fits.
    long: Vec<u8>,
}

impl Fields {
    /// Room for the fields of a typical request.
    const CAPACITY: usize = 256;

    /// An empty list. `version` identifies its purpose: a different way to list the fields needs a
    /// new version.
    pub(crate) fn new(version: u8) -> Self {
        let mut buffer = [0; Self::CAPACITY];
        buffer[0] = version;
        Self { buffer, length: 1, long: Vec::new() }
    }

    pub(crate) fn put(&mut self, field: &[u8]) {
        self.put_joined(&[field]);
    }

    /// Adds one field made of `parts`.
    ///
    /// Nearly all fields are short: one byte holds their length, nine hold that of the others.
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

    pub(crate) fn digest(&self, digesting: &Digesting) -> Digest {
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
                let digest = fields.digest(&Digesting::Stable);
                assert_eq!(digest, truncate(blake3::hash(&plain)), "{one} and {other} bytes");
                let secret = [7; 32];
                let keyed = fields.digest(&Digesting::Keyed(DigestSecret::new(secret)));
                assert_eq!(keyed, truncate(blake3::keyed_hash(&secret, &plain)));
                assert_eq!(fields.digest(&Digesting::Process), Digesting::Process.digest(&plain));
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
