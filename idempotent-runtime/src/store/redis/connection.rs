//! What a [`RedisStore`](super::RedisStore) sends its commands to.

use std::{error::Error as StdError, fmt, io, ops::DerefMut, sync::Arc};

use ::redis::{
    Cmd, FromRedisValue, RedisResult, Value,
    aio::{ConnectionLike, ConnectionManager},
    cluster_async::ClusterConnection,
};

use super::{cluster::Cluster, failure::Failure, sentinel::Watched, server::Server};
use crate::store::BoxFuture;

/// Your own connection, for [`RedisStore::new`](super::RedisStore::new).
///
/// It is created from a [`ConnectionManager`], from a [`ClusterConnection`], or from a pool, by
/// [`from_pool`](Self::from_pool). Their timeouts, reconnects and retries apply in addition to
/// [`store_timeout`](crate::Idempotency::store_timeout).
///
/// For a cluster prefer [`RedisStore::connect_cluster`](super::RedisStore::connect_cluster): in
/// redis 1.8 a `ClusterConnection` does not answer for any node while it looks for a dead one, and
/// a burst of calls at that moment can stop it for good. It also resends commands on its own, up to
/// its `retries` setting: a [`forget`](crate::Store::forget), which has no token, could thus free
/// what came after it.
///
/// ```no_run
/// # async fn connect() -> redis::RedisResult<()> {
/// use idempotent_runtime::{RedisConnection, RedisStore};
///
/// let client = redis::Client::open("redis://127.0.0.1:6379")?;
/// let connection: RedisConnection = client.get_connection_manager().await?.into();
/// let store = RedisStore::new(connection);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisConnection(Connection);

impl RedisConnection {
    /// A pool, such as one of `deadpool-redis` or `bb8-redis`: `get` is called for each command and
    /// returns a connection for it.
    ///
    /// If `get` fails, the command counts as not sent. Commands run concurrently, and each occupies
    /// a connection for one round trip, so size the pool for the requests that are served at once.
    ///
    /// ```no_run
    /// # fn store() -> Result<(), Box<dyn std::error::Error>> {
    /// use deadpool_redis::{Config, Runtime};
    /// use idempotent_runtime::{RedisConnection, RedisStore};
    ///
    /// let pool = Config::from_url("redis://127.0.0.1").create_pool(Some(Runtime::Tokio1))?;
    /// let store = RedisStore::new(RedisConnection::from_pool(move || {
    ///     let pool = pool.clone();
    ///     async move { pool.get().await } // with bb8-redis: `pool.get_owned().await`
    /// }));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_pool<F, C, E>(get: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<C, E>> + Send + 'static,
        C: DerefMut<Target: ConnectionLike + Send + Sized> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
    {
        Self(Connection::Lent(Arc::new(move |command| {
            let connection = get();
            Box::pin(async move {
                let mut connection = connection
                    .await
                    .map_err(|error| Failure::not_sent(io::Error::other(error).into()))?;
                // It may resend commands on its own, and report only the last error.
                command.query_async(&mut *connection).await.map_err(Failure::unknown)
            })
        })))
    }

    pub(super) fn into_inner(self) -> Connection {
        self.0
    }
}

impl From<ConnectionManager> for RedisConnection {
    fn from(connection: ConnectionManager) -> Self {
        Self(Connection::Managed(connection))
    }
}

impl From<ClusterConnection> for RedisConnection {
    fn from(connection: ClusterConnection) -> Self {
        Self(Connection::ManagedCluster(connection))
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection").finish_non_exhaustive()
    }
}

/// A handle to a connection.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Server(Arc<Server>),
    /// To one server, created by the user.
    Managed(ConnectionManager),
    /// To the nodes of a cluster.
    Cluster(Arc<Cluster>),
    /// The same, created by the user. It finds the node of a command's key.
    ManagedCluster(ClusterConnection),
    /// To the server that Sentinels name.
    Watched(Arc<Watched>),
    /// One of the user's for each command.
    Lent(Arc<Lend>),
}

/// Sends a command over a connection of the user's.
type Lend = dyn Fn(Cmd) -> BoxFuture<'static, Result<Value, Failure>> + Send + Sync;

/// How often a command is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// Twice if the connection broke during the first: only then is it known to be broken, and
    /// replaced.
    Again,
    /// Once: the server may have received it, and a second one could do something else.
    Once,
}

impl Connection {
    /// Sends `command`, which is about `key`.
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        key: &str,
        command: &Cmd,
        sending: Sending,
    ) -> Result<T, Failure> {
        match self.send(key, command, sending).await {
            Err(lost) if lost.is_lost_connection() && sending == Sending::Again => {
                tracing::debug!(
                    target: crate::TARGET,
                    error = &lost.error as &dyn std::error::Error,
                    "connection to Redis lost"
                );
                self.send(key, command, sending).await.map_err(|failure| failure.after(&lost))
            }
            result => result,
        }
    }

    /// Sends `command` to every server behind it.
    pub(super) async fn query_all<T: FromRedisValue + Send + 'static>(
        &self,
        command: &Cmd,
    ) -> Vec<RedisResult<T>> {
        match self {
            Self::Cluster(cluster) => cluster.send_to_all(command).await,
            _ => {
                vec![self.send("", command, Sending::Again).await.map_err(|failure| failure.error)]
            }
        }
    }

    async fn send<T: FromRedisValue>(
        &self,
        key: &str,
        command: &Cmd,
        sending: Sending,
    ) -> Result<T, Failure> {
        match self {
            Self::Server(server) => Ok(server.send(command).await?),
            Self::Cluster(cluster) => cluster.send(key, command, sending).await,
            Self::Managed(connection) => Ok(command.query_async(&mut connection.clone()).await?),
            // It resends commands on its own, and reports only the last error.
            Self::ManagedCluster(connection) => {
                command.query_async(&mut connection.clone()).await.map_err(Failure::unknown)
            }
            Self::Watched(watched) => watched.send(command).await,
            Self::Lent(lend) => {
                let answer = lend(command.clone()).await?;
                T::from_redis_value(answer).map_err(|error| Failure::unknown(error.into()))
            }
        }
    }
}
