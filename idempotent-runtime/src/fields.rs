//! [`Fields`]: lists of fields, hashed so that no two lists meet.

/// The first 128 bits of a hash.
pub(crate) fn truncate(hash: blake3::Hash) -> [u8; 16] {
    let (short, _) = hash.as_bytes().split_at(16);
    std::array::from_fn(|index| short[index])
}

/// A list of fields to be hashed, each with its length in front: no two lists give the same bytes.
pub(crate) struct Fields {
    /// The last ones, as many as fit.
    buffer: [u8; Self::CAPACITY],
    length: usize,
    /// Those before, once the buffer was full.
    long: Vec<u8>,
    /// Those before them, once a field was too long to be copied.
    hasher: Option<Box<blake3::Hasher>>,
}

impl Fields {
    /// Room for the fields of a usual request.
    const CAPACITY: usize = 256;
    /// The longest field that is copied: BLAKE3 takes bytes in one piece twice as fast as after
    /// others, which a copy is worth up to here.
    const COPIED: usize = 64 << 10;

    /// An empty list. `version` tells what it is for: a new way to list the fields is a new one.
    pub(crate) fn new(version: u8) -> Self {
        let mut buffer = [0; Self::CAPACITY];
        buffer[0] = version;
        Self { buffer, length: 1, long: Vec::new(), hasher: None }
    }

    /// Nearly all fields are short: one byte says their length, nine that of the others.
    pub(crate) fn put(&mut self, field: &[u8]) {
        let end = self.length + 1 + field.len();
        match (u8::try_from(field.len()), self.buffer.get_mut(self.length..end)) {
            (Ok(length), Some([first, rest @ ..])) if length < u8::MAX => {
                *first = length;
                rest.copy_from_slice(field);
                self.length = end;
            }
            (Ok(length), _) if length < u8::MAX => self.spill(&[length], field),
            _ => {
                let mut length = [u8::MAX; 9];
                length[1..].copy_from_slice(&(field.len() as u64).to_le_bytes());
                self.spill(&length, field);
            }
        }
    }

    fn spill(&mut self, length: &[u8], field: &[u8]) {
        // With room for what the buffer holds in the end.
        self.long.reserve(2 * Self::CAPACITY + field.len().min(Self::COPIED));
        self.long.extend_from_slice(&self.buffer[..self.length]);
        self.long.extend_from_slice(length);
        if field.len() <= Self::COPIED {
            self.long.extend_from_slice(field);
        } else {
            self.hasher.get_or_insert_default().update(&self.long).update(field);
            self.long.clear();
        }
        self.length = 0;
    }

    pub(crate) fn hash(&mut self) -> blake3::Hash {
        let rest = &self.buffer[..self.length];
        if let Some(hasher) = &mut self.hasher {
            return hasher.update(&self.long).update(rest).finalize();
        }
        if self.long.is_empty() {
            return blake3::hash(rest);
        }
        self.long.extend_from_slice(rest);
        blake3::hash(&self.long)
    }
}

/// What a list of [`Fields`] is for.
pub(crate) mod version {
    pub(crate) const STORE_KEY: u8 = 1;
    pub(crate) const REQUEST_FINGERPRINT: u8 = 2;
    pub(crate) const EXPRESSION_FINGERPRINT: u8 = 3;
    pub(crate) const DERIVED_KEY: u8 = 4;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_hash_of_its_lengths_and_bytes_however_long_they_are() {
        const LENGTHS: [usize; 8] = [0, 7, 254, 255, 300, 64 << 10, (64 << 10) + 1, 200_000];
        for one in LENGTHS {
            for other in LENGTHS {
                let mut fields = Fields::new(version::STORE_KEY);
                let mut plain = vec![version::STORE_KEY];
                for (byte, length) in [one, other, one, 3].into_iter().enumerate() {
                    let field = vec![u8::try_from(byte).unwrap(); length];
                    fields.put(&field);
                    match u8::try_from(length) {
                        Ok(short) if short < 255 => plain.push(short),
                        _ => {
                            plain.push(255);
                            plain.extend((length as u64).to_le_bytes());
                        }
                    }
                    plain.extend(field);
                }
                assert_eq!(fields.hash(), blake3::hash(&plain), "{one} and {other} bytes");
            }
        }
    }
}
