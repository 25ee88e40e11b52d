//! The connection: whatever happens to it, a later call gets one that works.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ::redis::{
    Client, Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
};

/// A handle to a connection.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Own(Arc<Replaceable>),
    /// To one server, made by the user.
    Single(ConnectionManager),
    /// To the nodes of a cluster. It finds the node of a command's key.
    OwnCluster(Arc<ReplaceableCluster>),
    /// The same, made by the user.
    Cluster(ClusterConnection),
}

impl Connection {
    /// Sends `command`, and once more where the connection broke under it: only then is it known
    /// to be broken, and replaced.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self.send(command).await {
            Err(error) if error.is_connection_dropped() && !error.is_connection_refusal() => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "connection to Redis lost"
                );
                self.send(command).await
            }
            result => result,
        }
    }

    async fn send<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Own(connection) => connection.send(command).await,
            Self::OwnCluster(connection) => connection.send(command).await,
            Self::Single(connection) => command.query_async(&mut connection.clone()).await,
            Self::Cluster(connection) => command.query_async(&mut connection.clone()).await,
        }
    }
}

/// A connection manager, and how to make another one.
///
/// A manager replaces a connection that breaks. It keeps one to a server that has become a
/// replica, and it keeps a login that was refused, for ever: then the manager is replaced.
pub(super) struct Replaceable {
    client: Client,
    config: ConnectionManagerConfig,
    current: Mutex<Current>,
}

struct Current {
    manager: ConnectionManager,
    since: Instant,
}

impl Replaceable {
    /// The limit to how often a server that goes on refusing is asked for a new connection.
    const REPLACE_EVERY: Duration = Duration::from_secs(1);

    pub(super) async fn connect(
        client: Client,
        config: ConnectionManagerConfig,
    ) -> RedisResult<Self> {
        let manager = ConnectionManager::new_with_config(client.clone(), config.clone()).await?;
        let current = Mutex::new(Current { manager, since: Instant::now() });
        Ok(Self { client, config, current })
    }

    async fn send<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let mut manager = self.with_current(|current| current.manager.clone());
        let result = command.query_async(&mut manager).await;
        if let Err(error) = &result
            && !error.is_io_error()
            && error.kind() != ErrorKind::Server(ServerErrorKind::NoScript)
        {
            self.replace();
        }
        result
    }

    /// The next call connects. Those under way go on with what they have.
    fn replace(&self) {
        self.with_current(|current| {
            if current.since.elapsed() < Self::REPLACE_EVERY {
                return;
            }
            let (client, config) = (self.client.clone(), self.config.clone());
            if let Ok(manager) = ConnectionManager::new_lazy_with_config(client, config) {
                *current = Current { manager, since: Instant::now() };
            }
        });
    }

    fn with_current<T>(&self, f: impl FnOnce(&mut Current) -> T) -> T {
        // Nothing in a critical section panics half way through a change.
        f(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A cluster's connection, and how to make another one.
///
/// After a node was restarted, a connection may never answer again for that node's keys. A call
/// that was given up on after a while says so: then the connection is replaced.
pub(super) struct ReplaceableCluster {
    client: ClusterClient,
    current: Mutex<CurrentCluster>,
}

struct CurrentCluster {
    connection: ClusterConnection,
    /// When it was made, or when making the next one began.
    since: Instant,
}

impl ReplaceableCluster {
    /// A call that was given up on sooner says nothing: its caller may just have gone away.
    const PATIENCE: Duration = Duration::from_millis(500);
    /// The limit to how often a new connection is made while a node stays away.
    const REPLACE_EVERY: Duration = Duration::from_secs(3);

    pub(super) async fn connect(client: ClusterClient) -> RedisResult<Self> {
        let connection = client.get_async_connection().await?;
        let current = Mutex::new(CurrentCluster { connection, since: Instant::now() });
        Ok(Self { client, current })
    }

    async fn send<T: FromRedisValue>(self: &Arc<Self>, command: &Cmd) -> RedisResult<T> {
        let mut connection = self.current().connection.clone();
        let given_up = GivenUp { cluster: self, since: Instant::now() };
        let result = command.query_async(&mut connection).await;
        std::mem::forget(given_up);
        result
    }

    /// Makes a new connection in the background; the calls go on with the old one until then.
    fn replace(self: &Arc<Self>) {
        let mut current = self.current();
        if current.since.elapsed() < Self::REPLACE_EVERY {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        current.since = Instant::now();
        drop(current);
        let this = Arc::clone(self);
        runtime.spawn(async move {
            let connect = this.client.get_async_connection();
            if let Ok(Ok(connection)) = tokio::time::timeout(Self::REPLACE_EVERY, connect).await {
                this.current().connection = connection;
            }
        });
    }

    fn current(&self) -> MutexGuard<'_, CurrentCluster> {
        // Nothing in a critical section panics half way through a change.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropped where a call did not come to its end.
struct GivenUp<'a> {
    cluster: &'a Arc<ReplaceableCluster>,
    since: Instant,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= ReplaceableCluster::PATIENCE {
            self.cluster.replace();
        }
    }
}
