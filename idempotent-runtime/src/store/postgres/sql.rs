//! The SQL: one statement per verb, and what its row means.

use std::{sync::Arc, time::Duration};

use sqlx::{Error, Row as _, postgres::PgRow};

use super::{
    source::Session,
    statement::{Argument, Protocol, Statement},
};
use crate::store::{Attempt, Claim, Fingerprint, Forgotten, KeyState, StoreKey};

/// How many rows one [`Statements::purge`] deletes at most.
pub(crate) const PURGE_BATCH: i64 = 500;

/// Precedes a statement in the same message, which is one transaction, and lifts its time limit.
pub(crate) const UNBOUNDED: &str = "SET LOCAL statement_timeout = 0;\n";

/// The statements for one table.
///
/// A transaction that claims a key holds the key's advisory lock, and nobody else sees its row.
/// Whoever claims, reads or waits outside a transaction tries to share that lock: if it is not
/// free, a transaction has the key, and an insert would wait for its end.
#[derive(Debug)]
pub(crate) struct Statements {
    protocol: Protocol,
    locks: Locks,
    claim: Arc<str>,
    renew: Arc<str>,
    complete: Arc<str>,
    release: Arc<str>,
    read: Arc<str>,
    forget: Arc<str>,
    is_running: Arc<str>,
    is_locked: Arc<str>,
    purge: Arc<str>,
}

/// Times come from `clock_timestamp()`: `now()` stands still within a transaction, which may wait
/// for a lock.
impl Statements {
    /// The statements for `table`, a quoted name.
    pub(crate) fn new(session: Session, table: &str) -> Self {
        let settings = session.settings_of_a_statement();
        let live = "expires > clock_timestamp()";
        let left = "ceil(extract(epoch FROM expires - clock_timestamp()) * 1000)::int8";
        let held = format!("key = $1 AND token = $2 AND record IS NULL AND {live}");
        let is_free = |lock| format!("pg_try_advisory_xact_lock_shared({lock})");

        // `found` reads what others hold. Only if that is nothing is a row inserted or an expired
        // one replaced: `ON CONFLICT` locks the row and judges its newest version, so that one of
        // many wins. The others do not get a row of their own, and get none at all if their
        // snapshot is older than the winner's row.
        let claim = format!(
            "WITH found AS (
                SELECT fingerprint, record, expires FROM {table}
                WHERE key = $1 AND {live} AND NOT (token = $3 AND record IS NULL)
            ), free AS (
                SELECT WHERE NOT EXISTS (SELECT FROM found) AND {is_free}
            ), claimed AS (
                INSERT INTO {table} AS old (key, fingerprint, token, expires, operation, created)
                SELECT $1, $2, $3, {lease}, $6, clock_timestamp() FROM free
                ON CONFLICT (key) DO UPDATE
                SET fingerprint = excluded.fingerprint, token = excluded.token, record = NULL,
                    expires = {lease}, operation = excluded.operation, created = excluded.created
                WHERE old.expires <= clock_timestamp()
                    OR (old.token = excluded.token AND old.record IS NULL)
                RETURNING fingerprint
            )
            SELECT fingerprint, record, {left}, false FROM found
            UNION ALL SELECT fingerprint, NULL, NULL, true FROM claimed
            UNION ALL SELECT NULL, NULL, NULL, false
            WHERE NOT EXISTS (SELECT FROM found) AND NOT EXISTS (SELECT FROM free)",
            lease = from_now("$4"),
            is_free = is_free("$5"),
        );
        let renew =
            format!("UPDATE {table} SET expires = {} WHERE {held} RETURNING true", from_now("$3"));
        // A record of this token is rewritten unchanged: a second look at the row after the update
        // would use an older snapshot than the update, and miss a record that was just committed.
        let complete = format!(
            "UPDATE {table} SET record = coalesce(record, $3),
                expires = CASE WHEN record IS NULL THEN {ttl} ELSE expires END
            WHERE key = $1 AND token = $2 AND {live} RETURNING true",
            ttl = from_now("$4"),
        );
        // A lapsed claim is left to whoever claims next: a transaction may be doing so.
        let release = format!("DELETE FROM {table} WHERE {held}");
        let read = format!(
            "WITH found AS (
                SELECT fingerprint, record, {left} AS milliseconds FROM {table}
                WHERE key = $1 AND {live}
            )
            SELECT fingerprint, record, milliseconds FROM found
            UNION ALL SELECT NULL, NULL, NULL
            WHERE NOT EXISTS (SELECT FROM found) AND NOT {is_free}",
            is_free = is_free("$2"),
        );
        // As with a claim, the deletion judges the newest version of the row that it locks, and
        // `found` an older one if someone else has just changed it.
        let forget = format!(
            "WITH found AS (
                SELECT record IS NULL AS is_running, {left} AS milliseconds FROM {table}
                WHERE key = $1 AND {live}
            ), gone AS (
                DELETE FROM {table} WHERE key = $1 AND {live} AND (record IS NOT NULL OR $2)
                RETURNING true
            )
            SELECT EXISTS (SELECT FROM gone),
                coalesce((SELECT is_running FROM found), CASE WHEN NOT {is_free} THEN true END),
                (SELECT milliseconds FROM found)",
            is_free = is_free("$3"),
        );
        let is_running = format!(
            "SELECT true WHERE EXISTS (
                SELECT FROM {table} WHERE key = $1 AND record IS NULL AND {live}
            ) OR NOT {is_free}",
            is_free = is_free("$2"),
        );
        // `clock_timestamp()` cannot use the index, and an older time deletes nothing too early.
        // Locking a row judges its newest version, so a row that has become live meanwhile is kept.
        // The deletion judges again: neither a `ctid` nor, with inheritance, a key is unique across
        // all the tables that may be behind this one.
        let expired = "expires <= statement_timestamp()";
        let purge = format!(
            "WITH gone AS (
                DELETE FROM {table} WHERE {expired} AND key = ANY (ARRAY(
                    SELECT key FROM {table} WHERE {expired}
                    ORDER BY expires LIMIT {PURGE_BATCH} FOR UPDATE SKIP LOCKED))
                RETURNING true
            ) SELECT count(*) FROM gone"
        );
        let verb = |sql: String| format!("{settings}{sql}").into();
        Self {
            protocol: session.protocol,
            locks: Locks::new(table),
            claim: verb(claim),
            renew: verb(renew),
            complete: verb(complete),
            release: verb(release),
            read: verb(read),
            forget: verb(forget),
            is_running: verb(is_running),
            is_locked: verb(format!("SELECT true WHERE NOT {}", is_free("$1"))),
            purge: format!("{UNBOUNDED}{purge}").into(),
        }
    }

    /// Claims or reads: [`found_by_claim`] interprets the row.
    pub(crate) fn claim<'a>(&'a self, attempt: &'a Attempt, lease: Duration) -> Statement<'a> {
        self.statement(
            &self.claim,
            vec![
                Argument::Bytes(attempt.key.as_bytes()),
                Argument::Bytes(attempt.fingerprint.as_bytes()),
                Argument::Bytes(attempt.token.as_bytes()),
                Argument::millis(lease),
                self.lock(&attempt.key),
                Argument::operation(attempt),
            ],
        )
    }

    /// Extends the claim to `lease` from now, and returns a row if it is still held.
    pub(crate) fn renew<'a>(&'a self, attempt: &'a Attempt, lease: Duration) -> Statement<'a> {
        self.statement(&self.renew, [held_by(attempt), vec![Argument::millis(lease)]].concat())
    }

    /// Returns a row if the record is stored, now or before.
    pub(crate) fn complete<'a>(
        &'a self,
        attempt: &'a Attempt,
        record: &'a [u8],
        ttl: Duration,
    ) -> Statement<'a> {
        let arguments = vec![Argument::Bytes(record), Argument::millis(ttl)];
        self.statement(&self.complete, [held_by(attempt), arguments].concat())
    }

    /// Deletes the claim.
    pub(crate) fn release<'a>(&'a self, attempt: &'a Attempt) -> Statement<'a> {
        self.statement(&self.release, held_by(attempt))
    }

    /// Returns the row that [`state`] reads.
    pub(crate) fn read<'a>(&'a self, key: &'a StoreKey) -> Statement<'a> {
        self.statement(&self.read, vec![Argument::Bytes(key.as_bytes()), self.lock(key)])
    }

    /// Deletes the row of `key` unless it is a claim and `even_if_running` is not set:
    /// [`forgotten`] interprets the row.
    pub(crate) fn forget<'a>(&'a self, key: &'a StoreKey, even_if_running: bool) -> Statement<'a> {
        let key_bytes = Argument::Bytes(key.as_bytes());
        let arguments = vec![key_bytes, Argument::Bool(even_if_running), self.lock(key)];
        self.statement(&self.forget, arguments)
    }

    /// Returns a row if anyone holds a claim on `key`.
    pub(crate) fn is_running<'a>(&'a self, key: &'a StoreKey) -> Statement<'a> {
        self.statement(&self.is_running, vec![Argument::Bytes(key.as_bytes()), self.lock(key)])
    }

    /// Returns a row if a transaction holds the lock of `key`.
    pub(crate) fn is_locked(&self, key: &StoreKey) -> Statement<'_> {
        self.statement(&self.is_locked, vec![self.lock(key)])
    }

    /// Deletes up to [`PURGE_BATCH`] expired rows that nobody else is deleting, and returns their
    /// number.
    pub(crate) fn purge(&self) -> Statement<'_> {
        Statement { protocol: Protocol::Simple, sql: &self.purge, arguments: Vec::new() }
    }

    pub(super) fn lock(&self, key: &StoreKey) -> Argument<'static> {
        Argument::Lock(self.locks.of(key))
    }

    fn statement<'a>(&self, sql: &'a Arc<str>, arguments: Vec<Argument<'a>>) -> Statement<'a> {
        Statement { protocol: self.protocol, sql, arguments }
    }
}

/// The time `milliseconds` from now.
pub(super) fn from_now(milliseconds: &str) -> String {
    format!("clock_timestamp() + {milliseconds} * interval '1 millisecond'")
}

/// The numbers of the advisory locks of one table's keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Locks(i64);

impl Locks {
    pub(super) fn new(table: &str) -> Self {
        Self(first(blake3::hash(table.as_bytes()).as_bytes()))
    }

    /// Keys are digests: their first 64 bits are enough to tell apart those of one time.
    pub(super) fn of(self, key: &StoreKey) -> i64 {
        self.0 ^ first(key.as_bytes())
    }
}

fn first(bytes: &[u8]) -> i64 {
    bytes.first_chunk().copied().map(i64::from_be_bytes).expect("a digest has 8 bytes")
}

fn held_by(attempt: &Attempt) -> Vec<Argument<'_>> {
    vec![Argument::Bytes(attempt.key.as_bytes()), Argument::Bytes(attempt.token.as_bytes())]
}

/// What a claim for `lease` found or made; `None` if someone else came first: look again.
pub(crate) fn found_by_claim(row: Option<&PgRow>, lease: Duration) -> Result<Option<Claim>, Error> {
    let Some(row) = row else { return Ok(None) };
    if row.try_get(3)? {
        return Ok(Some(Claim::Claimed { lease: Some(lease) }));
    }
    Ok(match state(Some(row))? {
        KeyState::Absent => None,
        KeyState::Running { fingerprint, lease_left } => {
            Some(Claim::Running { fingerprint, lease_left })
        }
        KeyState::Stored { fingerprint, record, expires_in } => {
            Some(Claim::Stored { fingerprint, record, expires_in })
        }
    })
}

/// The meaning of a row of fingerprint, record and milliseconds left. All three are NULL if a
/// transaction has the key.
pub(crate) fn state(row: Option<&PgRow>) -> Result<KeyState, Error> {
    let Some(row) = row else { return Ok(KeyState::Absent) };
    let Some(fingerprint) = row.try_get::<Option<_>, _>(0)? else {
        return Ok(KeyState::Running { fingerprint: None, lease_left: None });
    };
    let fingerprint = Fingerprint::from_bytes(fingerprint);
    let left = time_left(row.try_get(2)?);
    Ok(match row.try_get::<Option<Vec<u8>>, _>(1)? {
        Some(record) => KeyState::Stored { fingerprint, record: record.into(), expires_in: left },
        None => KeyState::Running { fingerprint: Some(fingerprint), lease_left: Some(left) },
    })
}

/// What [`Statements::forget`] did; `None` if someone else changed the row meanwhile: look again. A
/// transaction that has the key cannot be made to release it.
pub(crate) fn forgotten(
    row: Option<&PgRow>,
    even_if_running: bool,
) -> Result<Option<Forgotten>, Error> {
    let row = row.ok_or(Error::RowNotFound)?;
    if row.try_get(0)? {
        return Ok(Some(Forgotten::Freed));
    }
    let left: Option<i64> = row.try_get(2)?;
    Ok(match row.try_get(1)? {
        None => Some(Forgotten::Absent),
        Some(true) if !even_if_running || left.is_none() => {
            Some(Forgotten::StillRunning { lease_left: left.map(time_left) })
        }
        Some(_) => None,
    })
}

/// It may have passed while this was answered, and waiting for zero time would spin.
fn time_left(milliseconds: i64) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0).max(1))
}
