//! The connection: whatever happens to it, a later call gets one that works.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ::redis::{
    Client, Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind,
    aio::{ConnectionLike as _, ConnectionManager, ConnectionManagerConfig},
    cluster_async::ClusterConnection,
};

use super::cluster::Cluster;

/// A handle to a connection.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Own(Arc<Replaceable>),
    /// To one server, made by the user.
    Single(ConnectionManager),
    /// To the nodes of a cluster.
    OwnCluster(Arc<Cluster>),
    /// The same, made by the user. It finds the node of a command's key.
    Cluster(ClusterConnection),
}

impl Connection {
    /// Sends `command`, which concerns `key`, and once more where the connection broke under it:
    /// only then is it known to be broken, and replaced.
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        key: &str,
        command: &Cmd,
    ) -> RedisResult<T> {
        match self.send(key, command).await {
            Err(error) if error.is_connection_dropped() && !error.is_connection_refusal() => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "connection to Redis lost"
                );
                self.send(key, command).await
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
            Self::OwnCluster(cluster) => cluster.send_to_all(command).await,
            _ => vec![self.send("", command).await],
        }
    }

    async fn send<T: FromRedisValue>(&self, key: &str, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Own(connection) => connection.send(command).await,
            Self::OwnCluster(cluster) => cluster.send(key, command).await,
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

    /// One whose first call connects.
    pub(super) fn new(client: Client, config: ConnectionManagerConfig) -> RedisResult<Self> {
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?;
        let current = Mutex::new(Current { manager, since: Instant::now() });
        Ok(Self { client, config, current })
    }

    pub(super) async fn send<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let mut manager = self.manager();
        self.look_at(command.query_async(&mut manager).await)
    }

    /// Sends a command about a slot that is moving to this node of a cluster.
    pub(super) async fn send_asking<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let mut both = ::redis::pipe();
        both.cmd("ASKING").add_command(command.clone());
        let answers = self.manager().req_packed_commands(&both, 1, 1).await;
        let answer =
            answers.and_then(|mut answers| answers.pop().unwrap_or_default().extract_error());
        self.look_at(answer.and_then(|answer| Ok(T::from_redis_value(answer)?)))
    }

    fn manager(&self) -> ConnectionManager {
        self.with_current(|current| current.manager.clone())
    }

    /// Replaces the connection where it goes on refusing.
    fn look_at<T>(&self, result: RedisResult<T>) -> RedisResult<T> {
        if let Err(error) = &result
            && !error.is_io_error()
            && !error.is_cluster_error()
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
