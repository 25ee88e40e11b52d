//! [`RedisStore`]: many processes, one Redis, Valkey or Redis Cluster, with Sentinels or without.
//!
//! An operation is one key, which expires with the lease or the ttl. Each method is one Lua script,
//! so it is atomic and judged by the server's clock.

mod builder;
mod cluster;
mod connect;
mod connection;
mod entry;
mod eviction;
mod failure;
mod rediscovery;
mod rights;
mod script;
mod sentinel;
mod server;

use std::{fmt, sync::Arc, time::Duration};

use ::redis::FromRedisValue;
use bytes::Bytes;

pub use self::{builder::RedisStoreBuilder, connection::RedisConnection};
use self::{
    connection::{Connection, Sending},
    entry::{Entry, claimed_by, held_by, milliseconds},
    script::Script,
};
use super::{Attempt, Claim, Forgotten, Hold, KeyState, Pollers, Store, StoreError, StoreKey};

/// A store that all instances of a service share: Redis 6.2 or later, Valkey, or a Redis Cluster.
///
/// ```no_run
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// use idempotent_runtime::{Idempotency, RedisStore};
///
/// let store = RedisStore::connect("redis://127.0.0.1:6379").await?;
/// let idempotency = Idempotency::new(store);
/// # Ok(())
/// # }
/// ```
///
/// Every method is one round trip, including a claim that finds a stored response; a script that
/// the server no longer has, after a restart, costs one more. Leases and ttls are measured by the
/// server. Waiting requests poll, one for each key and process, every 15 to 250 ms.
///
/// # Server requirements
///
/// - **`maxmemory-policy noeviction`**, or no `maxmemory`. Every key has an expiry, so the
///   `volatile-*` policies evict claims and stored responses just like the `allkeys-*` policies,
///   and a retry of an evicted one runs again. [`connect`](Self::connect) warns about it.
/// - **When the memory is full**, new claims are refused: 503, or an unprotected run under
///   [`OnStoreError::Execute`](crate::OnStoreError::Execute). Stored responses are replayed as
///   before. An operation that is running when the memory fills up cannot store its response: its
///   duplicates get 409 until the ttl has passed, and it does not run a second time.
/// - **Commands**: `EVAL`, `EVALSHA`, `GET`, `GETRANGE`, `SET`, `DEL`, `PEXPIRE` and `PTTL` on keys
///   that begin with the prefix, and `INFO` for the warning above.
///
/// # If Redis fails
///
/// "At most one run" holds as long as the server loses no write that it has acknowledged. Unless
/// configured otherwise, Redis acknowledges a write before it is on disk or on a replica:
///
/// | event | lost | consequence |
/// |---|---|---|
/// | restart without persistence | everything | retries of finished requests run again, and duplicates of running ones run alongside them |
/// | crash, `appendfsync everysec` | about the last second | the same, for requests of that second |
/// | crash, `appendfsync always` | nothing | none |
/// | crash, snapshots (`save`) only | since the last snapshot | the same, for requests since then |
/// | failover to a replica, by Sentinel, Cluster or a provider | what was not replicated yet: the replication lag | the same, for requests of that time; `appendfsync` does not help |
/// | partition in which the old primary still accepts writes | what it accepted until it noticed | two runs, one on each side; `min-replicas-to-write` with a short `min-replicas-max-lag` bounds the time |
/// | server clock set forward | leases and ttls that this makes expire | early second runs |
///
/// `WAIT` would narrow the window of a failover but not close it; this store does not use it. If
/// losing a second costs money, use `appendfsync always` on a server without automatic failover, or
/// `PostgresStore` with a synchronous standby.
///
/// # Timeouts
///
/// The only limit for a call is [`Idempotency::store_timeout`](crate::Idempotency::store_timeout):
/// within it a broken connection is replaced and the call is resent, which the token makes safe. A
/// connection whose peer has silently vanished is abandoned after five seconds.
///
/// In a cluster that [`connect_cluster`](Self::connect_cluster) has connected to, keys on a node
/// that is down or hangs fail within that limit, and those on other nodes are not affected. A
/// failover is followed about a second after the first call that failed or was abandoned, as it is
/// with [`connect_sentinel`](Self::connect_sentinel).
#[derive(Clone)]
pub struct RedisStore {
    connection: Connection,
    prefix: Arc<str>,
    pollers: Arc<Pollers>,
}

impl RedisStore {
    fn name(&self, key: StoreKey) -> String {
        format!("{}:{key}", self.prefix)
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        key: StoreKey,
        arguments: &[&[u8]],
    ) -> Result<T, StoreError> {
        let name = self.name(key);
        Ok(script.run(&self.connection, &name, arguments, Sending::Again).await?)
    }

    /// Whether `key` is claimed; also `false` if that is unknown.
    async fn is_running(&self, key: StoreKey) -> bool {
        self.look(key).await.is_ok_and(|state| *state == [entry::RUNNING])
    }

    /// The first byte of what `key` holds.
    async fn look(&self, key: StoreKey) -> Result<Bytes, StoreError> {
        let name = self.name(key);
        let mut state = ::redis::cmd("GETRANGE");
        state.arg(&name).arg(0).arg(0);
        Ok(self.connection.query(&name, &state, Sending::Again).await?)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        let arguments = [&claimed_by(attempt)[..], &milliseconds(lease)];
        let (entry, left): (Bytes, i64) = self.run(&script::CLAIM, attempt.key, &arguments).await?;
        Ok(Entry::parse(&entry, left)?.claim(attempt.token, lease))
    }

    async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
        let arguments = [&held_by(attempt.token)[..], &milliseconds(lease)];
        let is_held = self.run(&script::RENEW, attempt.key, &arguments).await?;
        Ok(if is_held { Hold::Held } else { Hold::Lost })
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        let key = attempt.key;
        let arguments = [&attempt.token.as_bytes()[..], &record, &milliseconds(ttl)];
        match self.run(&script::COMPLETE, key, &arguments).await? {
            1 => Ok(Hold::Held),
            0 => Ok(Hold::Lost),
            _ => {
                tracing::error!(
                    target: crate::TARGET,
                    %key, "Redis has no memory left for a response: its duplicates get 409"
                );
                // The runtime then stores a note without the response, for which there is room.
                Err(StoreError::too_large())
            }
        }
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        let _: i64 = self.run(&script::RELEASE, attempt.key, &[&held_by(attempt.token)]).await?;
        Ok(())
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        self.pollers.wait(key, at_most, || self.is_running(key)).await;
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        let (entry, left): (Option<Bytes>, i64) = self.run(&script::READ, key, &[]).await?;
        match entry {
            Some(entry) => Ok(Entry::parse(&entry, left)?.state()),
            None => Ok(KeyState::Absent),
        }
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        let argument: &[u8] = if even_if_running { b"1" } else { b"0" };
        let (connection, name, arguments) = (&self.connection, self.name(key), [argument]);
        let forget = script::FORGET.run(connection, &name, &arguments, Sending::Once);
        let (outcome, left): (String, i64) = forget.await?;
        match &*outcome {
            "freed" => Ok(Forgotten::Freed),
            "absent" => Ok(Forgotten::Absent),
            "running" => Ok(Forgotten::StillRunning { lease_left: entry::time_left(left) }),
            _ => Err(StoreError::foreign_entry()),
        }
    }
}
