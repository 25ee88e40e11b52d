//! Connecting, so that a wrong address is said at once and nothing but the runtime's time limit
//! rules later.

use std::{sync::Arc, time::Duration};

use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    RedisError, RedisResult,
    aio::ConnectionManagerConfig,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use super::{
    RedisStore,
    cluster::Cluster,
    connection::{Connection, Replaceable},
};
use crate::store::StoreError;

/// The limit of `connect` and `connect_cluster`.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The limit of one attempt to connect, TLS and authentication included.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(1);
/// A peer that acknowledges nothing for this long is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// Between attempts to connect. Calls wait meanwhile, so the pauses are short and end in an error
/// that names the cause before the runtime's own limit cuts them off.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(100);
const ATTEMPTS: usize = 6;

const UNTOLD: &str = "Redis does not tell its `maxmemory-policy`; it should be `noeviction`";

impl RedisStore {
    /// Connects to one server: `redis://host:6379/0`, `rediss://user:password@host`,
    /// `unix:///run/redis.sock`.
    ///
    /// `rediss://` trusts the certificates that the system trusts. Where the process has no rustls
    /// crypto provider, the first such connection installs `ring`.
    ///
    /// # Errors
    ///
    /// The URL is not valid, or no server answers at that address within two seconds.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, StoreError> {
        let info = info(url.as_ref())?;
        let address = info.addr().to_string();
        within(&address, async {
            let client = Client::open(info)?;
            // Once, so that what will not go away is said at once, a refused certificate say. The
            // connection that stays tries again.
            let once = AsyncConnectionConfig::new().set_connection_timeout(None);
            Box::pin(client.get_multiplexed_async_connection_with_config(&once)).await?;
            let connection = Replaceable::new(client, config())?;
            Ok(Self::new(Connection::Own(Arc::new(connection))))
        })
        .await
    }

    /// Connects to a Redis Cluster, of which `urls` name at least one node. All nodes are
    /// reached as the first of them: with its user, its password and its TLS.
    ///
    /// An operation is one key, so it lives on one node. Each node has a connection of its own:
    /// while one is dead or hangs, its keys are out of reach and the others' are served as before.
    ///
    /// # Errors
    ///
    /// A URL is not valid, or no node answers within two seconds.
    pub async fn connect_cluster(
        urls: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, StoreError> {
        let nodes =
            urls.into_iter().map(|url| info(url.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<_> = nodes.iter().map(|node| node.addr().to_string()).collect();
        within(&addresses.join(", "), async {
            let cluster = Cluster::connect(nodes, config()).await?;
            Ok(Self::new(Connection::OwnCluster(Arc::new(cluster))))
        })
        .await
    }

    /// Says in the log where the server may evict what this store keeps.
    async fn warn_of_eviction(&self) {
        let mut info = ::redis::cmd("INFO");
        info.arg("memory");
        let mut policies = Vec::new();
        for answer in self.connection.query_all::<String>(&info).await {
            match answer.map(|answer| policy(&answer)) {
                Ok(Some(policy)) => policies.push(policy),
                Ok(None) => tracing::debug!(UNTOLD),
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, UNTOLD);
                }
            }
        }
        if let Some(policy) = policies.iter().find(|policy| *policy != "noeviction") {
            tracing::warn!(
                policy,
                "Redis may evict claims and stored responses, whose requests then run again: set \
                 `maxmemory-policy` to `noeviction`"
            );
        }
    }
}

fn info(url: &str) -> Result<ConnectionInfo, StoreError> {
    let info = url.into_connection_info().map_err(|error| unreachable("an invalid URL", error))?;
    if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        use rustls::crypto::{CryptoProvider, ring};
        // Without one, a process that has several built in would panic.
        if CryptoProvider::get_default().is_none() {
            // An error says that another thread was first.
            let _ = ring::default_provider().install_default();
        }
    }
    Ok(info.set_tcp_settings(tcp_settings()))
}

fn config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(ATTEMPT_LIMIT))
        .set_response_timeout(None)
        .set_min_delay(FIRST_PAUSE)
        .set_max_delay(MAX_PAUSE)
        .set_number_of_retries(ATTEMPTS)
}

fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(SILENCE_LIMIT);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let settings = settings.set_user_timeout(SILENCE_LIMIT);
    settings
}

/// No connection to the store at `address`, which names no password.
fn unreachable(
    address: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    StoreError::described(format!("cannot connect to the idempotency store at {address}"))
        .because(source)
}

/// Connects and looks at the server, within [`CONNECT_LIMIT`].
async fn within(
    address: &str,
    connect: impl Future<Output = RedisResult<RedisStore>>,
) -> Result<RedisStore, StoreError> {
    let connect = async {
        let store = connect.await?;
        store.warn_of_eviction().await;
        Ok::<_, RedisError>(store)
    };
    match tokio::time::timeout(CONNECT_LIMIT, connect).await {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(error)) => Err(unreachable(address, error)),
        Err(elapsed) => Err(unreachable(address, elapsed)),
    }
}

/// The policy that an answer to `INFO memory` names.
fn policy(answer: &str) -> Option<String> {
    answer.lines().find_map(|line| line.trim().strip_prefix("maxmemory_policy:")).map(String::from)
}
