//! [`Transaction`]: a claim, a handler's rows and its record, committed together or not at all.
//!
//! ```text
//! begin    BEGIN; SET LOCAL …       with the mark of this one transaction
//! claim    the key's advisory lock, and its row: the work is done, its outcome unknown
//! (body)   the handler's statements, through the slot
//! record   the row again, if the transaction still carries its mark
//! commit   COMMIT; if its answer is lost, resolve finds out
//! ```
//!
//! The table is only written, by `INSERT … ON CONFLICT`, and never read here: under `SERIALIZABLE`
//! a transaction that reads it, or finds a row to update, conflicts with the next one that writes
//! to the same page. The row's first content is what has to remain if the handler commits on its
//! own: it must never run again.
//!
//! Dropping a transaction rolls it back: the connection is closed.

mod begin;
mod claim;
mod complete;
mod resolve;
mod slot;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use sqlx::PgConnection;

pub(crate) use self::{
    begin::{Begun, Isolation, Wanted},
    complete::Failure,
    resolve::Fate,
    slot::{Slot, Taken},
};
use super::{connection::Connection, connections::Connections, run::Inner, statement::Protocol};
use crate::store::{StoreError, Token};

/// What every transaction of a store needs.
pub(super) struct Transactions {
    connections: Arc<Connections>,
    protocol: Protocol,
    claim: Arc<str>,
    record: Arc<str>,
    check: Arc<str>,
    is_stored: Arc<str>,
}

impl Transactions {
    pub(super) fn new(connections: Arc<Connections>, protocol: Protocol, table: &str) -> Self {
        Self {
            connections,
            protocol,
            claim: claim::sql(table).into(),
            record: complete::sql(table).into(),
            check: complete::CHECK.into(),
            is_stored: resolve::sql(table).into(),
        }
    }
}

/// An open transaction.
pub(crate) struct Transaction {
    store: Arc<Inner>,
    connection: Connection,
    /// Distinguishes it from any other that a handler may begin on the connection.
    mark: Token,
}

impl Transaction {
    fn describe(&self, error: sqlx::Error) -> StoreError {
        self.store.describe(error)
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transaction")
    }
}
