//! [`RedisStore`]: many processes, one Redis, Valkey or Redis Cluster.
//!
//! An operation is one key whose value is its state (`r`, running, or `s`, stored), the token, the
//! fingerprint and, once stored, the record. It expires with the lease or the ttl. A verb is one
//! Lua script, so it is atomic, and judged by the server's clock. A later release that changes the
//! layout takes other letters for the states: this one answers them with an error, never a miss.

mod cluster;
mod connect;
mod connection;

use std::{fmt, sync::Arc, time::Duration};

use ::redis::{
    ErrorKind, FromRedisValue, Script, ServerErrorKind, aio::ConnectionManager,
    cluster_async::ClusterConnection,
};
use bytes::Bytes;

use self::connection::Connection;
use super::{Claim, Store, StoreError, Token, poll::Pollers};
use crate::digest::{Fingerprint, StoreKey};

const RUNNING: u8 = b'r';
const STORED: u8 = b's';
/// State, token, fingerprint.
const HEAD: usize = 1 + 16 + 16;

/// A store that all instances of a service share: Redis 6.2 or later, Valkey, or a Redis Cluster.
///
/// ```no_run
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// use idempotent_runtime::{Idempotency, RedisStore};
///
/// let store = RedisStore::connect("redis://127.0.0.1:6379").await?.prefix("shop");
/// let idempotency = Idempotency::new(store);
/// # Ok(())
/// # }
/// ```
///
/// Every verb is one round trip, a claim that finds a stored response included; a script that the
/// server does not have, after its restart, costs one more. Leases and ttls are counted by the
/// server. Waiting requests poll, one for each key and process, every 15 to 250 ms.
///
/// # What the server has to do
///
/// - **`maxmemory-policy noeviction`**, or no `maxmemory`. Every key has an expiry, so the
///   `volatile-*` policies evict claims and stored responses as the `allkeys-*` policies do, and a
///   retry of an evicted one runs again. [`connect`](Self::connect) warns of it.
/// - **Full memory** then refuses new claims: 503, or an unprotected run under
///   [`OnStoreError::Execute`](crate::OnStoreError::Execute). Stored responses are replayed as
///   before. An operation that is running when the memory fills up cannot store its response: its
///   duplicates get 409 until the ttl has passed, and no second run.
/// - **Commands**: `EVAL`, `EVALSHA`, `GET`, `GETRANGE`, `SET`, `DEL`, `PEXPIRE` and `PTTL` on keys
///   that begin with the prefix, and `INFO` for the warning above.
///
/// # What a failure of Redis means
///
/// "At most one run" holds as long as the server loses no write that it acknowledged. Redis
/// acknowledges before a write is on disk or on a replica, unless it is configured otherwise:
///
/// | event | lost | consequence |
/// |---|---|---|
/// | restart without persistence | everything | retries of finished requests run again, and duplicates of running ones run beside them |
/// | crash, `appendfsync everysec` | about the last second | the same, for requests of that second |
/// | crash, `appendfsync always` | nothing | none |
/// | crash, snapshots (`save`) only | since the last snapshot | the same, for requests since then |
/// | failover to a replica, by Sentinel, Cluster or a provider | what was not replicated yet: the replication lag | the same, for requests of that time; `appendfsync` does not help |
/// | partition, the old primary still takes writes | what it took until it noticed | two runs, one on each side; `min-replicas-to-write` with a short `min-replicas-max-lag` bounds the time |
/// | clock of the server set forward | leases and ttls that have passed thereby | early second runs |
///
/// `WAIT` would narrow the window of a failover and not close it; this store does not use it. Where
/// a lost second costs money, use `appendfsync always` on a server without automatic failover, or
/// `PostgresStore` with a synchronous standby.
///
/// # Timeouts
///
/// The one limit of a call is [`Idempotency::store_timeout`](crate::Idempotency::store_timeout):
/// within it a broken connection is replaced and the call sent again, which the token makes safe. A
/// connection whose peer has vanished without a word is given up after five seconds.
///
/// In a cluster that [`connect_cluster`](Self::connect_cluster) has connected to, the keys of a
/// node that is dead or hangs fail within that limit, and those of the others do not notice. A
/// failover is followed about a second after the first call that failed or was given up on.
#[derive(Clone)]
pub struct RedisStore {
    connection: Connection,
    prefix: Arc<str>,
    pollers: Arc<Pollers>,
}

/// The script of one verb.
struct Verb {
    code: &'static str,
    hash: Box<str>,
}

impl Verb {
    fn new(code: &'static str) -> Self {
        Self { code, hash: Script::new(code).get_hash().into() }
    }
}

macro_rules! verbs {
    ($($name:ident = $file:literal;)*) => {
        $(static $name: std::sync::LazyLock<Verb> =
            std::sync::LazyLock::new(|| Verb::new(include_str!($file)));)*
    };
}

verbs! {
    CLAIM = "claim.lua";
    RENEW = "renew.lua";
    COMPLETE = "complete.lua";
    RELEASE = "release.lua";
}

impl RedisStore {
    /// Keys begin with `prefix` and a colon. Default: `idempotent`.
    ///
    /// Services with equal prefixes share their keys where the scopes of their handlers are equal.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<Arc<str>>) -> Self {
        // Pollers of their own: a key under another prefix is another key.
        Self { prefix: prefix.into(), pollers: Arc::default(), ..self }
    }

    fn new(connection: Connection) -> Self {
        Self { connection, prefix: "idempotent".into(), pollers: Arc::default() }
    }

    fn name(&self, key: StoreKey) -> String {
        format!("{}:{key}", self.prefix)
    }

    async fn call<T: FromRedisValue>(
        &self,
        verb: &Verb,
        key: StoreKey,
        arguments: &[&[u8]],
    ) -> Result<T, StoreError> {
        let name = self.name(key);
        let command = |eval: &str, script: &str| {
            let mut command = ::redis::cmd(eval);
            command.arg(script).arg(1).arg(&name).arg(arguments);
            command
        };
        let result = match self.connection.query(&name, &command("EVALSHA", &verb.hash)).await {
            // The server was restarted or has dropped the script. `EVAL` runs it and keeps it.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.connection.query(&name, &command("EVAL", verb.code)).await
            }
            result => result,
        };
        result.map_err(StoreError::new)
    }

    /// Whether `key` is claimed; false also where that cannot be told.
    async fn is_running(&self, key: StoreKey) -> bool {
        let name = self.name(key);
        let mut state = ::redis::cmd("GETRANGE");
        state.arg(&name).arg(0).arg(0);
        self.connection.query(&name, &state).await.is_ok_and(|state: Bytes| *state == [RUNNING])
    }
}

/// Uses a connection of yours. Its response timeout and its reconnecting apply beside
/// [`store_timeout`](crate::Idempotency::store_timeout).
impl From<ConnectionManager> for RedisStore {
    fn from(connection: ConnectionManager) -> Self {
        Self::new(Connection::Single(connection))
    }
}

/// Uses a connection of yours. Its response timeout and its retries apply beside
/// [`store_timeout`](crate::Idempotency::store_timeout).
///
/// Prefer [`connect_cluster`](RedisStore::connect_cluster). In redis 1.8 such a connection answers
/// for no node while it looks for one that is dead, and a burst of calls at that moment can stop it
/// for good.
impl From<ClusterConnection> for RedisStore {
    fn from(connection: ClusterConnection) -> Self {
        Self::new(Connection::Cluster(connection))
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    async fn claim(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        let claim = [&running(token)[..], fingerprint.as_bytes()].concat();
        let (entry, left): (Bytes, i64) =
            self.call(&CLAIM, key, &[&claim, &milliseconds(lease)]).await?;
        read(&entry, left, token, lease)
    }

    async fn renew(
        &self,
        key: StoreKey,
        token: Token,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        self.call(&RENEW, key, &[&running(token), &milliseconds(lease)]).await
    }

    async fn complete(
        &self,
        key: StoreKey,
        token: Token,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let arguments = [&token.as_bytes()[..], &record, &milliseconds(ttl)];
        match self.call(&COMPLETE, key, &arguments).await? {
            1 => Ok(true),
            0 => Ok(false),
            _ => {
                tracing::error!(%key, "Redis has no memory for a response: its duplicates get 409");
                // The runtime then stores a note without the response, for which there is room.
                Err(StoreError::too_large())
            }
        }
    }

    async fn release(&self, key: StoreKey, token: Token) -> Result<(), StoreError> {
        let _: i64 = self.call(&RELEASE, key, &[&running(token)]).await?;
        Ok(())
    }

    async fn wait(&self, key: StoreKey, _attempt: u32, at_most: Duration) {
        self.pollers.wait(key, at_most, || self.is_running(key)).await;
    }
}

/// The head of a claim, without its fingerprint.
fn running(token: Token) -> [u8; 17] {
    let mut head = [RUNNING; 17];
    head[1..].copy_from_slice(token.as_bytes());
    head
}

/// What the entry of a key says to the holder of `token`, when `left` milliseconds of it are left.
fn read(entry: &Bytes, left: i64, token: Token, lease: Duration) -> Result<Claim, StoreError> {
    let bytes = |range: std::ops::Range<usize>| {
        entry.get(range).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
    };
    match (entry.first(), bytes(1..17), bytes(17..HEAD).map(Fingerprint::from_bytes)) {
        (Some(&RUNNING), Some(holder), Some(_)) if holder == *token.as_bytes() => {
            Ok(Claim::Claimed { lease: Some(lease) })
        }
        (Some(&RUNNING), Some(_), Some(fingerprint)) => {
            // Negative only where somebody took the key's expiry away.
            let lease_left = u64::try_from(left).ok().map(Duration::from_millis);
            Ok(Claim::Running { fingerprint, lease_left })
        }
        (Some(&STORED), Some(_), Some(fingerprint)) => {
            Ok(Claim::Stored { fingerprint, record: entry.slice(HEAD..) })
        }
        _ => Err(StoreError::new("the key in Redis holds something this release does not know")),
    }
}

/// As Redis takes a time: in decimal, never 0, and far from the overflow of its clock.
fn milliseconds(time: Duration) -> Vec<u8> {
    const MAX: u128 = i64::MAX as u128 / 4;
    time.as_millis().clamp(1, MAX).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_redis_accepts() {
        assert_eq!(milliseconds(Duration::ZERO), b"1");
        assert_eq!(milliseconds(Duration::from_micros(1500)), b"1");
        assert_eq!(milliseconds(Duration::from_hours(1)), b"3600000");
        assert_eq!(milliseconds(Duration::MAX), b"2305843009213693951");
    }

    #[test]
    fn an_unknown_entry_is_an_error_and_never_a_miss() {
        let read = |entry: &[u8]| {
            read(&Bytes::copy_from_slice(entry), 1, Token::random(), Duration::from_secs(1))
        };
        for entry in [&b""[..], b"r", b"s0123456789abcdef", &[b't'; HEAD], &[b'R'; 2 * HEAD]] {
            assert!(read(entry).is_err(), "{entry:?}");
        }
        assert!(
            matches!(read(&[b's'; HEAD]), Ok(Claim::Stored { record, .. }) if record.is_empty())
        );
        assert!(matches!(read(&[b'r'; HEAD]), Ok(Claim::Running { .. })));
    }
}
