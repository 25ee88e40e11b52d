//! Beginning a transaction.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr as _};
use sqlx_core::{database::Database, transaction::TransactionManager as _};
use tokio::time::Instant;

use super::{super::PostgresStore, Transaction};
use crate::store::{
    StoreError, Token,
    postgres::{
        connections::{NoConnection, Purpose},
        error,
        statement::Protocol,
    },
};

/// sqlx's own count of nested transactions: a handler's `tx.begin()` creates savepoints.
pub(super) type Manager = <Postgres as Database>::TransactionManager;

/// What a transaction sees of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Isolation {
    fn sql(self) -> &'static str {
        match self {
            Self::ReadCommitted => "READ COMMITTED",
            Self::RepeatableRead => "REPEATABLE READ",
            Self::Serializable => "SERIALIZABLE",
        }
    }
}

/// The transaction to begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) isolation: Isolation,
    /// What it carries to distinguish it from others.
    pub(crate) mark: Token,
    /// Whether a claim follows, within the verbs' limit.
    pub(crate) is_claim_next: bool,
    /// Its session ends about this long after its client's host has vanished.
    pub(crate) lease: Duration,
}

/// The result of beginning a transaction.
pub(crate) enum Begun {
    Open(Transaction),
    /// All are in use, and none became free in time.
    NoneFree,
}

impl PostgresStore {
    /// Begins the `wanted` transaction within `limit`.
    pub(crate) async fn begin(&self, wanted: Wanted, limit: Duration) -> Result<Begun, StoreError> {
        let store = &self.inner;
        let connections = &store.transactions.connections;
        let deadline = Instant::now() + limit;
        let left = || deadline.saturating_duration_since(Instant::now());
        let sql = self.begin_sql(wanted);
        // After a server restart all connections may be dead.
        let mut tries_left = connections.limits().connections;
        loop {
            let mut connection = match connections.get_within(left(), Purpose::Hold).await {
                Ok(connection) => connection,
                Err(NoConnection::Busy(_) | NoConnection::Crowd(_)) => return Ok(Begun::NoneFree),
                Err(error) => return Err(StoreError::not_sent(error)),
            };
            connection.close_once_answered_unless_settled();
            let statement = AssertSqlSafe(sql.clone()).into_sql_str();
            let begin = Manager::begin(&mut connection, Some(statement));
            let Ok(result) = tokio::time::timeout(left(), begin).await else {
                return Err(StoreError::timed_out());
            };
            match result {
                Ok(()) => {
                    let (store, mark) = (store.clone(), wanted.mark);
                    return Ok(Begun::Open(Transaction { store, connection, mark }));
                }
                Err(error) if tries_left > 0 && error::is_passing(&error) => {
                    tracing::debug!(
                        target: crate::TARGET,
                        error = &error as &dyn std::error::Error,
                        "beginning a transaction failed, trying again"
                    );
                    tries_left -= 1;
                }
                Err(error) => return Err(store.describe(error)),
            }
        }
    }

    /// One message.
    fn begin_sql(&self, wanted: Wanted) -> String {
        let Wanted { isolation, mark, is_claim_next, lease } = wanted;
        let store = &self.inner;
        // A pooler's session may hold other clients' statements under the names of this one's.
        let forget = match store.transactions.protocol {
            Protocol::Extended => "",
            Protocol::Simple => "DEALLOCATE ALL;\n",
        };
        // The claim lifts it.
        let limit = store.statement_timeout.filter(|_| is_claim_next);
        let limit = limit.map_or_else(String::new, |limit| {
            format!("SET LOCAL statement_timeout = {};\n", limit.as_millis().max(1))
        });
        let Keepalives { idle, interval, count, unacknowledged } = Keepalives::of(lease);
        format!(
            "BEGIN ISOLATION LEVEL {isolation};
{forget}{limit}SET LOCAL idempotent_axum.tx = '{mark:032x}';
SET LOCAL tcp_keepalives_idle = {idle};
SET LOCAL tcp_keepalives_interval = {interval};
SET LOCAL tcp_keepalives_count = {count};
SET LOCAL tcp_user_timeout = {unacknowledged}",
            isolation = isolation.sql(),
            mark = u128::from_be_bytes(*mark.as_bytes()),
        )
    }
}

/// How the server finds out that a client's host has vanished. By default that takes two hours.
#[derive(Debug, PartialEq, Eq)]
struct Keepalives {
    /// Seconds until the first probe, and between two.
    idle: u64,
    interval: u64,
    count: u64,
    /// How many milliseconds data may go unacknowledged.
    unacknowledged: u128,
}

impl Keepalives {
    /// The kernel takes whole seconds, at most 32,767.
    const LONGEST: Duration = Duration::from_secs(32_767);

    fn of(lease: Duration) -> Self {
        let lease = lease.clamp(Duration::from_secs(1), Self::LONGEST);
        let seconds = lease.as_secs();
        Self {
            idle: (seconds / 3).max(1),
            interval: (seconds / 6).max(1),
            count: 4.min(seconds),
            unacknowledged: lease.as_millis(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vanished_host_is_given_up_after_about_a_lease() {
        for seconds in [6, 30, 600, 30_000] {
            let Keepalives { idle, interval, count, unacknowledged } =
                Keepalives::of(Duration::from_secs(seconds));
            let given_up = idle + interval * count;
            assert!(given_up <= seconds && given_up > seconds * 4 / 5, "{given_up} of {seconds} s");
            assert_eq!(unacknowledged, u128::from(seconds) * 1000);
        }
    }

    #[test]
    fn the_shortest_and_the_longest_lease_are_what_a_kernel_takes() {
        let short = Keepalives::of(Duration::from_millis(1));
        assert_eq!(short, Keepalives { idle: 1, interval: 1, count: 1, unacknowledged: 1000 });
        let long = Keepalives::of(Duration::MAX);
        assert!(long.idle < 32_768 && long.interval < 32_768, "{long:?}");
    }
}
