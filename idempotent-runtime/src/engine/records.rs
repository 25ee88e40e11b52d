//! Records on their way between this process, which has them in plaintext, and the store, which has
//! them sealed if the service seals.

use bytes::Bytes;

use super::{
    record::{Draft, Envelope, Record, Unreadable},
    settings::Engine,
};
use crate::store::{Attempt, Fingerprint, StoreError, StoreKey};

impl Engine {
    /// The record of `draft` as this process keeps it. It needs no checksum if it stays here, or if
    /// sealing adds one.
    pub(crate) fn finish(&self, draft: Draft) -> Bytes {
        #[cfg(feature = "seal")]
        if self.seals.is_on() {
            return draft.unchecked();
        }
        if self.store.is_memory() { draft.unchecked() } else { draft.checked() }
    }

    /// `record` as a shared store should keep it for this attempt.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be sealed.
    #[cfg_attr(
        not(feature = "seal"),
        expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "it seals nothing")
    )]
    pub(super) fn write_record(
        &self,
        attempt: &Attempt,
        record: &Bytes,
    ) -> Result<Bytes, StoreError> {
        #[cfg(feature = "seal")]
        if let Some(sealed) = self.seals.seal(attempt, record) {
            return sealed;
        }
        #[cfg(not(feature = "seal"))]
        let _ = attempt;
        Ok(record.clone())
    }

    /// Reads the record that the store holds under `key` with `fingerprint`.
    #[cfg_attr(not(feature = "seal"), expect(unused_variables, reason = "it opens nothing"))]
    pub(super) fn read_record(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        record: Bytes,
    ) -> Result<Record, Unreadable> {
        let is_memory = self.store.is_memory();
        let envelope = Envelope::read(record, is_memory)?;
        #[cfg(feature = "seal")]
        let envelope =
            if is_memory { envelope } else { self.seals.open(key, fingerprint, envelope)? };
        envelope.into_record()
    }
}
