//! What a [`RedisStore`](super::RedisStore) sends its commands to.

use std::{fmt, sync::Arc};

use ::redis::{
    Cmd, FromRedisValue, RedisResult, aio::ConnectionManager, cluster_async::ClusterConnection,
};

use super::{cluster::Cluster, failure::Failure, server::Server};

/// Your own connection, for [`RedisStore::new`](super::RedisStore::new).
///
/// It is created from a [`ConnectionManager`] or a [`ClusterConnection`]. Their response timeouts,
/// reconnects and retries apply in addition to
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
}

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
        }
    }
}
