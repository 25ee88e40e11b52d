//! The payload of a sealed record: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), with a random nonce
//! for each record.
//!
//! ```text
//! length of the key's id 1 | id | nonce 24 | ciphertext | tag 16
//! ```
//!
//! The envelope up to its checksum (and so the kind), the store key and the fingerprint are
//! authenticated along with the plaintext: a record only opens where it was sealed for.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes};
use chacha20poly1305::{
    AeadInOut as _, KeyInit as _, Tag, XChaCha20Poly1305, XNonce, aead::Generate as _,
};
use zeroize::Zeroize as _;

use crate::{
    engine::record::{Draft, Envelope, Unreadable},
    store::{Fingerprint, StoreError, StoreKey},
};

const NONCE: usize = 24;
const TAG: usize = 16;

/// What a record belongs to.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) key: StoreKey,
    pub(super) fingerprint: Fingerprint,
}

impl Place {
    fn authenticated(self, envelope: &Envelope) -> [u8; 5 + 16 + 16] {
        let mut bytes = [0; 37];
        bytes[..5].copy_from_slice(&envelope.sealed_head());
        bytes[5..21].copy_from_slice(self.key.as_bytes());
        bytes[21..].copy_from_slice(self.fingerprint.as_bytes());
        bytes
    }
}

/// A key with its id. Wiped when dropped.
#[derive(Clone)]
pub(super) struct Key {
    id: Arc<str>,
    id_length: u8,
    cipher: XChaCha20Poly1305,
}

/// A sealed payload, as far as it can be read without the key.
pub(super) struct Sealed<'a> {
    pub(super) id: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// `None` if the bytes are corrupt.
    pub(super) fn read(payload: &'a [u8]) -> Option<Self> {
        let (length, rest) = payload.split_first()?;
        let (id, payload) = rest.split_at_checked(usize::from(*length))?;
        Some(Self { id, payload })
    }
}

impl Key {
    /// # Panics
    ///
    /// Panics if `id` is empty or longer than 255 bytes.
    pub(super) fn new(id: Arc<str>, mut key: [u8; 32]) -> Self {
        let id_length = u8::try_from(id.len()).ok().filter(|length| *length > 0);
        let id_length = id_length
            .expect("the id of a sealing key must have 1 to 255 bytes, such as \"2026-11\"");
        let cipher = XChaCha20Poly1305::new((&key).into());
        key.zeroize();
        Self { id, id_length, cipher }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The record of `envelope`, sealed.
    pub(super) fn seal(&self, place: Place, envelope: &Envelope) -> Result<Bytes, StoreError> {
        let nonce = XNonce::try_generate().map_err(|error| {
            StoreError::described("the system provided no random nonce to seal a record with")
                .because(error)
        })?;
        self.seal_with(&nonce, place, envelope)
    }

    fn seal_with(
        &self,
        nonce: &XNonce,
        place: Place,
        envelope: &Envelope,
    ) -> Result<Bytes, StoreError> {
        let plain = envelope.payload();
        let before = 1 + self.id.len() + NONCE;
        let mut draft = Draft::sealed(envelope.kind(), before + plain.len() + TAG);
        let bytes = draft.payload();
        bytes.put_u8(self.id_length);
        bytes.put_slice(self.id.as_bytes());
        bytes.put_slice(nonce);
        let start = bytes.len();
        bytes.put_slice(plain);
        let authenticated = place.authenticated(envelope);
        let buffer = &mut bytes[start..];
        let tag = self.cipher.encrypt_inout_detached(nonce, &authenticated, buffer.into());
        // Past 256 GiB.
        let tag = tag.map_err(|_| StoreError::too_large())?;
        bytes.put_slice(&tag);
        Ok(draft.checked())
    }

    /// The contents of `sealed`, from the record of `envelope`.
    pub(super) fn open(
        &self,
        place: Place,
        envelope: &Envelope,
        sealed: &[u8],
    ) -> Result<Bytes, Unreadable> {
        let parts = sealed.split_first_chunk::<NONCE>().and_then(|(nonce, rest)| {
            rest.split_last_chunk::<TAG>().map(|(ciphertext, tag)| (nonce, ciphertext, tag))
        });
        let (nonce, ciphertext, tag) = parts.ok_or(Unreadable::Corrupt)?;
        let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
        let mut plain = ciphertext.to_vec();
        let authenticated = place.authenticated(envelope);
        let buffer = plain.as_mut_slice();
        let opened =
            self.cipher.decrypt_inout_detached(&nonce, &authenticated, buffer.into(), &tag);
        opened.map_err(|_| Unreadable::NotOpened)?;
        Ok(plain.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::record::{self, Record};

    const PLACE: Place =
        Place { key: StoreKey::from_bytes([1; 16]), fingerprint: Fingerprint::from_bytes([2; 16]) };

    fn key() -> Key {
        Key::new("2026-11".into(), [7; 32])
    }

    fn record(text: &str) -> Bytes {
        let mut draft = Draft::value(text.len());
        draft.payload().put_slice(text.as_bytes());
        draft.unchecked()
    }

    fn open(key: &Key, place: Place, record: Bytes) -> Result<Record, Unreadable> {
        let envelope = Envelope::read(record, false)?;
        let sealed = Sealed::read(envelope.payload()).ok_or(Unreadable::Corrupt)?;
        let payload = key.open(place, &envelope, sealed.payload)?;
        envelope.opened(payload).into_record()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    }

    /// Created with another implementation, libsodium's
    /// `crypto_aead_xchacha20poly1305_ietf_encrypt`, through `PyNaCl`.
    #[test]
    fn a_sealed_record_has_these_bytes() {
        let nonce = XNonce::from([3; NONCE]);
        let envelope = Envelope::of_own(&record("\"paid\""));
        let sealed = key().seal_with(&nonce, PLACE, &envelope).unwrap();
        assert_eq!(hex(&sealed), GOLDEN);
        assert_eq!(sealed.len(), record("\"paid\"").len() + 41 + "2026-11".len());
        assert_eq!(open(&key(), PLACE, sealed), Ok(Record::Value("\"paid\"".into())));
    }

    const GOLDEN: &str = "69410204017dcfd52f07323032362d31310303030303030303030303\
        03030303030303030303030303a6762a721103c6859ada320891b78e316448af274320";

    #[test]
    fn what_was_sealed_opens_in_its_place_with_its_key_alone() {
        for record in [record("\"paid\""), record::not_stored(), record::unknown()] {
            let sealed = key().seal(PLACE, &Envelope::of_own(&record)).unwrap();
            let plain = Envelope::of_own(&record).into_record();
            assert_eq!(open(&key(), PLACE, sealed.clone()), plain);

            let moved = Place { key: StoreKey::from_bytes([9; 16]), ..PLACE };
            let of_another = Place { fingerprint: Fingerprint::from_bytes([9; 16]), ..PLACE };
            for (key, place) in
                [(key(), moved), (key(), of_another), (Key::new("2026-11".into(), [8; 32]), PLACE)]
            {
                assert_eq!(open(&key, place, sealed.clone()), Err(Unreadable::NotOpened));
            }
        }
    }

    /// Not even by someone who can compute a checksum.
    #[test]
    fn no_byte_behind_the_checksum_can_be_changed_and_no_kind() {
        let sealed = key().seal(PLACE, &Envelope::of_own(&record("\"paid\""))).unwrap();
        let id = record::ENVELOPE + 1..record::ENVELOPE + 1 + key().id().len();
        for at in std::iter::once(3).chain(id.end..sealed.len()) {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            let checked = crate::fuzzing::with_checksum(changed);
            assert_eq!(open(&key(), PLACE, checked), Err(Unreadable::NotOpened), "byte {at}");
        }
        for length in record::ENVELOPE..sealed.len() {
            let cut = crate::fuzzing::with_checksum(sealed[..length].to_vec());
            let error = open(&key(), PLACE, cut).unwrap_err();
            assert!(matches!(error, Unreadable::Corrupt | Unreadable::NotOpened), "{length} bytes");
        }
    }

    #[test]
    fn nonces_are_never_the_same() {
        let envelope = Envelope::of_own(&record::unknown());
        let seal = || key().seal(PLACE, &envelope).unwrap();
        let sealed: std::collections::BTreeSet<_> = (0..1000).map(|_| seal()).collect();
        assert_eq!(sealed.len(), 1000);
    }
}
