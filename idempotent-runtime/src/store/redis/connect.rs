//! Connecting, so that a wrong address is said at once and nothing but the runtime's time limit
//! rules later.

use std::{sync::Arc, time::Duration};

use ::redis::{
    Client, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo as _, RedisError,
    RedisResult, Value,
    aio::ConnectionManagerConfig,
    cluster::ClusterClient,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use super::{
    RedisStore,
    connection::{Connection, Replaceable, ReplaceableCluster},
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
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(ATTEMPT_LIMIT))
                .set_response_timeout(None)
                .set_min_delay(FIRST_PAUSE)
                .set_max_delay(MAX_PAUSE)
                .set_number_of_retries(ATTEMPTS);
            let connection = Replaceable::connect(Client::open(info)?, config).await?;
            Ok(Self::new(Connection::Own(Arc::new(connection))))
        })
        .await
    }

    /// Connects to a Redis Cluster, of which `urls` name at least one node.
    ///
    /// An operation is one key, so it lives on one node, and the others serve theirs while that
    /// one is down.
    /// A node that says nothing for five seconds is given up on, also where `store_timeout` is
    /// longer.
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
        let pause = |pause: Duration| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        within(&addresses.join(", "), async {
            let client = ClusterClient::builder(nodes)
                .tcp_settings(tcp_settings())
                .connection_timeout(ATTEMPT_LIMIT)
                // Also of the client's own questions about the slots, which no caller's limit ends.
                .response_timeout(SILENCE_LIMIT)
                .overall_response_timeout(None)
                .min_retry_wait(pause(FIRST_PAUSE))
                .max_retry_wait(pause(MAX_PAUSE))
                .build()?;
            let connection = ReplaceableCluster::connect(client).await?;
            Ok(Self::new(Connection::OwnCluster(Arc::new(connection))))
        })
        .await
    }

    /// Says in the log where the server may evict what this store keeps.
    async fn warn_of_eviction(&self) {
        let mut info = ::redis::cmd("INFO");
        info.arg("memory");
        // A cluster's client asks all nodes.
        let policies = match self.connection.query(&info).await {
            Ok(answers) => policies(&answers),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "Redis does not tell its `maxmemory-policy`; it should be `noeviction`"
                );
                return;
            }
        };
        if policies.is_empty() {
            tracing::debug!(
                "Redis does not tell its `maxmemory-policy`; it should be `noeviction`"
            );
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

/// The policies that answers to `INFO memory` name: one text, or a map of them by node.
fn policies(answers: &Value) -> Vec<String> {
    match answers {
        Value::Map(answers) => answers.iter().flat_map(|(_, answer)| policies(answer)).collect(),
        Value::Array(answers) => answers.iter().flat_map(policies).collect(),
        answer => {
            let text = String::from_redis_value_ref(answer).unwrap_or_default();
            let policy =
                |line: &str| line.trim().strip_prefix("maxmemory_policy:").map(String::from);
            text.lines().filter_map(policy).collect()
        }
    }
}
