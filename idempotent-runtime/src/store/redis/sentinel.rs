//! A server that Sentinels watch: after a failover, calls go to the one that they name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, RedisError,
    RedisResult, ServerErrorKind, TlsMode,
    aio::ConnectionManagerConfig,
    sentinel::{Sentinel, SentinelNodeConnectionInfo},
};
use tokio::{task::JoinSet, time::timeout};

use super::{
    failure::Failure,
    rediscovery::{QUESTION_LIMIT, Rediscovery, unless_abandoned},
    server::Server,
};

/// The server that the Sentinels name, and how to ask them again.
pub(super) struct Watched {
    /// What the Sentinels call it.
    name: String,
    /// How to connect to it, wherever it is.
    node: SentinelNodeConnectionInfo,
    sentinels: Vec<ConnectionInfo>,
    config: ConnectionManagerConfig,
    current: Mutex<Arc<Primary>>,
    rediscovery: Rediscovery,
}

struct Primary {
    address: ConnectionAddr,
    server: Server,
}

impl Watched {
    /// Connects to the server that `sentinels` know by the host of `named`, with the other settings
    /// in `named`.
    pub(super) async fn connect(
        named: &ConnectionInfo,
        sentinels: Vec<ConnectionInfo>,
        config: ConnectionManagerConfig,
    ) -> RedisResult<Self> {
        let node = SentinelNodeConnectionInfo::default()
            .set_redis_connection_info(named.redis_settings().clone())
            .set_tcp_settings(named.tcp_settings().clone());
        let (name, node) = match named.addr() {
            ConnectionAddr::Tcp(name, _) => (name.clone(), node),
            ConnectionAddr::TcpTls { host, insecure, .. } => {
                let mode = if *insecure { TlsMode::Insecure } else { TlsMode::Secure };
                (host.clone(), node.set_tls_mode(mode))
            }
            _ => return Err(invalid("the URL must have the name of the server as its host")),
        };
        let found = find(&name, &node, &sentinels).await?;
        let current = Mutex::new(Arc::new(Primary::new(found, config.clone())?));
        Ok(Self { name, node, sentinels, config, current, rediscovery: Rediscovery::new() })
    }

    pub(super) async fn send<T: FromRedisValue>(
        self: &Arc<Self>,
        command: &Cmd,
    ) -> Result<T, Failure> {
        let primary = Arc::clone(&self.current());
        let answer = primary.server.send(command);
        let answer = unless_abandoned(answer, || self.look_again_soon()).await;
        answer.map_err(|error| {
            if may_have_moved(&error) {
                self.look_again_soon();
            }
            Failure::from(error)
        })
    }

    fn look_again_soon(self: &Arc<Self>) {
        let this = Arc::clone(self);
        self.rediscovery.soon(async move {
            let found = find(&this.name, &this.node, &this.sentinels).await?;
            if found.get_connection_info().addr() != &this.current().address {
                let primary = Arc::new(Primary::new(found, this.config.clone())?);
                tracing::info!(
                    target: crate::TARGET,
                    from = %this.current().address,
                    to = %primary.address,
                    "Redis failover followed"
                );
                *this.current() = primary;
            }
            Ok(())
        });
    }

    fn current(&self) -> MutexGuard<'_, Arc<Primary>> {
        // Nothing in a critical section panics.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Primary {
    fn new(client: Client, config: ConnectionManagerConfig) -> RedisResult<Self> {
        let address = client.get_connection_info().addr().clone();
        Ok(Self { address, server: Server::new(client, config)? })
    }
}

/// Asks all Sentinels at once, so that one that hangs does not hold anything up, and takes the
/// first that names a server which says itself that it is the primary.
async fn find(
    name: &str,
    node: &SentinelNodeConnectionInfo,
    sentinels: &[ConnectionInfo],
) -> RedisResult<Client> {
    let ask = |sentinel: &ConnectionInfo| {
        let (sentinel, name, node) = (sentinel.clone(), name.to_owned(), node.clone());
        async move {
            let mut sentinel = Sentinel::build(vec![sentinel])?;
            let told = sentinel.async_master_for(&name, Some(&node));
            let told = timeout(QUESTION_LIMIT, told).await;
            told.unwrap_or_else(|elapsed| Err(std::io::Error::from(elapsed).into()))
        }
    };
    let mut answers: JoinSet<RedisResult<Client>> = sentinels.iter().map(ask).collect();
    let mut failure = invalid("no Sentinel is known");
    while let Some(answer) = answers.join_next().await {
        match answer {
            Ok(Ok(primary)) => return Ok(primary),
            // What one Sentinel has said tells more than that another is not there.
            Ok(Err(error)) if !names_none(&failure) => failure = error,
            // A task that panicked counts as a Sentinel that did not answer.
            _ => {}
        }
    }
    Err(failure)
}

/// Whether the Sentinel that was asked knows no such server, or none that is up.
pub(super) fn names_none(error: &RedisError) -> bool {
    error.kind() == ErrorKind::MasterNameNotFoundBySentinel
}

/// Whether another server may be the primary by now.
fn may_have_moved(error: &RedisError) -> bool {
    error.is_io_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}

fn invalid(what: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, what).into()
}
