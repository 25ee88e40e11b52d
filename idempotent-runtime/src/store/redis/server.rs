//! One server: whatever happens to the connection, a later call gets a working one.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ::redis::{
    Client, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind,
    aio::{ConnectionLike as _, ConnectionManager, ConnectionManagerConfig},
};

/// A connection manager, and how to create a new one.
///
/// A manager replaces a connection that breaks. It does not replace a connection to a server that
/// has become a replica, or a login that was refused: in those cases the manager itself is
/// replaced.
pub(super) struct Server {
    client: Client,
    config: ConnectionManagerConfig,
    current: Mutex<Current>,
}

struct Current {
    manager: ConnectionManager,
    since: Instant,
}

impl Server {
    /// How often a server that keeps refusing is asked for a new connection at most.
    const REPLACE_EVERY: Duration = Duration::from_secs(1);

    /// A server that the first call connects to.
    pub(super) fn new(client: Client, config: ConnectionManagerConfig) -> RedisResult<Self> {
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?;
        let current = Mutex::new(Current { manager, since: Instant::now() });
        Ok(Self { client, config, current })
    }

    pub(super) async fn send<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let answer = command.query_async(&mut self.manager()).await;
        answer.inspect_err(|error| self.replace_after(error))
    }

    /// Sends a command for a slot that is moving to this node of a cluster.
    pub(super) async fn send_asking<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let mut both = ::redis::pipe();
        both.cmd("ASKING").add_command(command.clone());
        let answers = self.manager().req_packed_commands(&both, 1, 1).await;
        let answer =
            answers.and_then(|mut answers| answers.pop().unwrap_or_default().extract_error());
        let answer = answer.and_then(|answer| Ok(T::from_redis_value(answer)?));
        answer.inspect_err(|error| self.replace_after(error))
    }

    fn manager(&self) -> ConnectionManager {
        self.with_current(|current| current.manager.clone())
    }

    /// Replaces the connection if `error` is one that it would keep returning.
    fn replace_after(&self, error: &RedisError) {
        if !error.is_io_error()
            && !error.is_cluster_error()
            && error.kind() != ErrorKind::Server(ServerErrorKind::NoScript)
        {
            self.replace();
        }
    }

    /// The next call connects. Those in progress continue with what they have.
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
        // Nothing in a critical section panics halfway through a change.
        f(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
