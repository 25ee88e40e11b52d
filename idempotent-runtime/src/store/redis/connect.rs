//! Connecting: a wrong address is reported at once, and later calls are limited by nothing but the
//! runtime's timeout.

use std::{sync::Arc, time::Duration};

use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    RedisResult,
    aio::ConnectionManagerConfig,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use super::{
    cluster::Cluster,
    connection::Connection,
    eviction::warn_of_eviction,
    sentinel::{Watched, names_none},
    server::Server,
};
use crate::store::{ConnectError, cause::Cause};

/// The limit of connecting to a server or a cluster.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The limit of one attempt to connect, TLS and authentication included.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(1);
/// A peer that acknowledges nothing for this long counts as gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// The pauses between attempts to connect. Calls wait in the meantime, so the pauses are short, and
/// end in an error that names the cause before the runtime's own limit cuts them off.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(100);
const ATTEMPTS: usize = 6;

/// Connects to one server.
pub(super) async fn connect(url: &str) -> Result<Connection, ConnectError> {
    let info = info(url)?;
    let address = info.addr().to_string();
    within(&address, async {
        let client = Client::open(info)?;
        // Without retries, so that permanent errors such as a rejected certificate are reported at
        // once. The connection that is kept does retry.
        let once = AsyncConnectionConfig::new().set_connection_timeout(None);
        Box::pin(client.get_multiplexed_async_connection_with_config(&once)).await?;
        Ok(Connection::Server(Arc::new(Server::new(client, config())?)))
    })
    .await
}

/// Connects to a cluster, given the `urls` of some of its nodes.
pub(super) async fn connect_cluster(
    urls: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<Connection, ConnectError> {
    let nodes = urls.into_iter().map(|url| info(url.as_ref())).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = nodes.first().cloned() else {
        return Err(ConnectError::new("no Redis Cluster node was given: pass at least one URL"));
    };
    let addresses: Vec<_> = nodes.iter().map(|node| node.addr().to_string()).collect();
    within(&addresses.join("`, `"), async {
        let cluster = Cluster::connect(first, &nodes, config()).await?;
        Ok(Connection::Cluster(Arc::new(cluster)))
    })
    .await
}

/// Connects to the server that `sentinels` know by the host of `url`.
pub(super) async fn connect_sentinel(
    url: &str,
    sentinels: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<Connection, ConnectError> {
    let named = info(url)?;
    let sentinels =
        sentinels.into_iter().map(|url| info(url.as_ref())).collect::<Result<Vec<_>, _>>()?;
    if sentinels.is_empty() {
        return Err(ConnectError::new("no Redis Sentinel was given: pass at least one URL"));
    }
    let addresses: Vec<_> = sentinels.iter().map(|it| it.addr().to_string()).collect();
    within(&addresses.join("`, `"), async {
        let watched = Watched::connect(&named, sentinels, config()).await?;
        Ok(Connection::Watched(Arc::new(watched)))
    })
    .await
}

/// Connects and checks the server, within [`CONNECT_LIMIT`].
async fn within(
    address: &str,
    connect: impl Future<Output = RedisResult<Connection>>,
) -> Result<Connection, ConnectError> {
    let connect = async {
        let connection = connect.await?;
        warn_of_eviction(&connection).await;
        RedisResult::Ok(connection)
    };
    match tokio::time::timeout(CONNECT_LIMIT, connect).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) if names_none(&error) => {
            let message = format!(
                "the Sentinel at `{address}` names no server that is up: the host in the first URL \
                 must be the name that the Sentinels have for it, such as `redis://mymaster`"
            );
            Err(ConnectError::new(message).because(Cause(error)))
        }
        Ok(Err(error)) => Err(ConnectError::unreachable("Redis", address).because(Cause(error))),
        Err(elapsed) => Err(ConnectError::silent("Redis", address, CONNECT_LIMIT).because(elapsed)),
    }
}

fn info(url: &str) -> Result<ConnectionInfo, ConnectError> {
    let info = url.into_connection_info().map_err(|error| {
        let message =
            "the URL of the Redis server is not valid: it has the form `redis://host:6379/0`";
        ConnectError::new(message).because(Cause(error))
    })?;
    if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        use rustls::crypto::{CryptoProvider, ring};
        // Without one, a process that has several built in would panic.
        if CryptoProvider::get_default().is_none() {
            // An error means that another thread was first.
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
