//! [`RedisStoreBuilder`]: the options of a [`RedisStore`], and the ways to create one.

use std::sync::Arc;

use super::{RedisConnection, RedisStore, connect, connection::Connection, rights};
use crate::store::ConnectError;

/// Builds a [`RedisStore`].
///
/// ```no_run
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// use idempotent_runtime::RedisStore;
///
/// let store = RedisStore::builder().prefix("shop").connect("redis://127.0.0.1:6379").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "call `connect`, `connect_cluster`, `connect_sentinel` or `build`"]
pub struct RedisStoreBuilder {
    prefix: Arc<str>,
}

impl RedisStoreBuilder {
    /// Keys begin with `prefix` and a colon. Default: `idempotent`.
    ///
    /// Services with the same prefix share keys if the scopes of their handlers are the same.
    ///
    /// ```
    /// # use idempotent_runtime::RedisStore;
    /// let builder = RedisStore::builder().prefix("shop");
    /// assert!(format!("{builder:?}").contains("shop"));
    /// ```
    pub fn prefix(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Connects to the server at `url`, as [`RedisStore::connect`] does.
    ///
    /// ```
    /// # use idempotent_runtime::RedisStore;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let error = RedisStore::builder().connect("localhost").await.unwrap_err();
    /// assert!(error.to_string().contains("redis://host:6379/0"));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is invalid, no server answers at that address within two
    /// seconds, or the user lacks a permission that the store needs, which the message names.
    pub async fn connect(self, url: impl AsRef<str>) -> Result<RedisStore, ConnectError> {
        self.build_and_probe(connect::connect(url.as_ref()).await?).await
    }

    /// Connects to a Redis Cluster, as [`RedisStore::connect_cluster`] does.
    ///
    /// ```
    /// # use idempotent_runtime::RedisStore;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let nodes: [&str; 0] = [];
    /// let error = RedisStore::builder().connect_cluster(nodes).await.unwrap_err();
    /// assert!(error.to_string().contains("at least one URL"));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if a URL is invalid, no node answers within two seconds, or the user lacks
    /// a permission that the store needs, which the message names.
    pub async fn connect_cluster(
        self,
        urls: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<RedisStore, ConnectError> {
        self.build_and_probe(connect::connect_cluster(urls).await?).await
    }

    /// Connects to the server that Sentinels name, as [`RedisStore::connect_sentinel`] does.
    ///
    /// ```
    /// # use idempotent_runtime::RedisStore;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let none: [&str; 0] = [];
    /// let store = RedisStore::builder().connect_sentinel("redis://mymaster", none);
    /// let error = store.await.unwrap_err();
    /// assert!(error.to_string().contains("at least one URL"));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if a URL is invalid, no Sentinel names a server that is up within two
    /// seconds, or the user lacks a permission that the store needs, which the message names.
    pub async fn connect_sentinel(
        self,
        url: impl AsRef<str>,
        sentinels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<RedisStore, ConnectError> {
        self.build_and_probe(connect::connect_sentinel(url.as_ref(), sentinels).await?).await
    }

    /// A store on your own connection: a `ConnectionManager`, a `ClusterConnection` or a
    /// [pool](RedisConnection::from_pool).
    ///
    /// ```no_run
    /// # async fn build() -> redis::RedisResult<()> {
    /// use idempotent_runtime::RedisStore;
    ///
    /// let client = redis::Client::open("redis://127.0.0.1:6379")?;
    /// let connection = client.get_connection_manager().await?;
    /// let store = RedisStore::builder().prefix("shop").build(connection);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn build(self, connection: impl Into<RedisConnection>) -> RedisStore {
        self.build_on(connection.into().into_inner())
    }

    async fn build_and_probe(self, connection: Connection) -> Result<RedisStore, ConnectError> {
        let store = self.build_on(connection);
        // If a server that has just answered goes silent, it will be noticed later.
        let probed = tokio::time::timeout(connect::CONNECT_LIMIT, rights::probe(&store)).await;
        probed.unwrap_or(Ok(())).map(|()| store)
    }

    fn build_on(self, connection: Connection) -> RedisStore {
        RedisStore { connection, prefix: self.prefix, pollers: Arc::default() }
    }
}

impl RedisStore {
    /// Connects to one server: `redis://host:6379/0`, `rediss://user:password@host`,
    /// `unix:///run/redis.sock`.
    ///
    /// `rediss://` trusts the certificates that the system trusts. If the process has no rustls
    /// crypto provider, the first such connection installs `ring`.
    ///
    /// ```no_run
    /// # async fn connect() -> Result<(), idempotent_runtime::ConnectError> {
    /// use idempotent_runtime::RedisStore;
    ///
    /// let store = RedisStore::connect("rediss://user:password@redis.example.com:6379/0").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns an error if the URL is invalid, no server answers at that address within two
    /// seconds, or the user lacks a permission that the store needs, which the message names.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, ConnectError> {
        Self::builder().connect(url).await
    }

    /// Connects to a Redis Cluster, given the URL of at least one node. All nodes are connected to
    /// like the first: with its user, its password and its TLS.
    ///
    /// An operation is one key, so it lives on one node. Each node has its own connection: while
    /// one is down or hangs, its keys are unavailable and the others' are served as before.
    ///
    /// ```no_run
    /// # async fn connect() -> Result<(), idempotent_runtime::ConnectError> {
    /// use idempotent_runtime::RedisStore;
    ///
    /// let nodes = ["redis://10.0.0.1:6379", "redis://10.0.0.2:6379"];
    /// let store = RedisStore::connect_cluster(nodes).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if a URL is invalid, no node answers within two seconds, or the user lacks
    /// a permission that the store needs, which the message names.
    pub async fn connect_cluster(
        urls: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, ConnectError> {
        Self::builder().connect_cluster(urls).await
    }

    /// Connects to the server that Sentinels watch. The host of `url` is the name that they have
    /// for it, the rest is how to connect to it; `sentinels` are the URLs of at least one of them,
    /// with their own user and password if they have one.
    ///
    /// All Sentinels are asked at once, and the first one to name a server that is the primary
    /// decides. They are asked again about a second after a call that failed or was abandoned, so a
    /// failover is followed soon after the Sentinels have agreed on it. What the old primary had
    /// acknowledged and not yet replicated is [lost](Self#if-redis-fails).
    ///
    /// ```no_run
    /// # async fn connect() -> Result<(), idempotent_runtime::ConnectError> {
    /// use idempotent_runtime::RedisStore;
    ///
    /// let sentinels = ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379"];
    /// let store =
    ///     RedisStore::connect_sentinel("redis://user:password@mymaster/0", sentinels).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if a URL is invalid, no Sentinel names a server that is up within two
    /// seconds, or the user lacks a permission that the store needs, which the message names.
    pub async fn connect_sentinel(
        url: impl AsRef<str>,
        sentinels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, ConnectError> {
        Self::builder().connect_sentinel(url, sentinels).await
    }

    /// A store on your own connection: a `ConnectionManager`, a `ClusterConnection` or a
    /// [pool](RedisConnection::from_pool).
    ///
    /// ```no_run
    /// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
    /// use idempotent_runtime::RedisStore;
    ///
    /// let client = redis::Client::open("redis://127.0.0.1:6379")?;
    /// let store = RedisStore::new(client.get_connection_manager().await?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new(connection: impl Into<RedisConnection>) -> Self {
        Self::builder().build(connection)
    }

    /// Starts building a store with options.
    ///
    /// ```
    /// # use idempotent_runtime::RedisStore;
    /// let builder = RedisStore::builder().prefix("shop");
    /// assert!(format!("{builder:?}").contains("shop"));
    /// ```
    pub fn builder() -> RedisStoreBuilder {
        RedisStoreBuilder { prefix: "idempotent".into() }
    }
}
