//! [`Tx`]: the transaction that work shares with its claim and its answer, as the work sees it.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::OnceLock,
};

use sqlx::{PgConnection, Postgres};

use crate::store::{
    Slot,
    postgres::{Isolation as Level, Transaction},
};

/// The transaction of a request, for a handler on a [`PostgresStore`](crate::PostgresStore).
///
/// Whatever the handler writes with it is committed together with the claim on the key and the
/// stored response: all or nothing, whatever crashes and when, and a retry with the key finds out
/// which. It can be any of the parameters, including the last, or part of your own extractor.
///
/// ```no_run
/// use axum::{http::StatusCode, response::IntoResponse};
/// use idempotent_runtime::{Tx, TxError};
///
/// // #[idempotent]
/// async fn pay(mut tx: Tx, amount: String) -> Result<impl IntoResponse, TxError> {
///     sqlx::query("INSERT INTO payments (amount) VALUES ($1::numeric)")
///         .bind(&amount)
///         .execute(&mut *tx)
///         .await?;
///     Ok((StatusCode::CREATED, amount))
/// }
/// ```
///
/// It dereferences to a [`PgConnection`], so `&mut *tx` is an executor, and `tx.begin()` (from
/// [`sqlx::Connection`] or [`sqlx::Acquire`]) a savepoint.
///
/// # When it commits
///
/// It begins when the key is claimed, before the body of the handler. When the handler has
/// answered,
///
/// | the response | the transaction | the key |
/// |---|---|---|
/// | is one that `replay` stores, or `Outcome::Final` | committed | holds the response |
/// | is too large to store, a stream or an upgrade | committed | 409 `response_not_stored` |
/// | carries `Outcome::Unknown` | committed | 409 `outcome_unknown` |
/// | is any other, or carries `Outcome::Retryable` | rolled back | free |
///
/// Without a key the same rule decides between commit and rollback, and a caller that leaves causes
/// a rollback. A panic always does.
///
/// If it cannot be committed for a transient reason (a serialization failure, a deadlock, a server
/// limit, a lost session), the response is 503 with `Retry-After`, and nothing has been written.
/// For any other reason, such as a deferred constraint, it is 500 `transaction_failed`. If the
/// answer to the commit is lost, the server is asked whether it committed before the caller is
/// answered.
///
/// # Isolation
///
/// `Tx` is `READ COMMITTED`; [`Tx<RepeatableRead>`](RepeatableRead) and
/// [`Tx<Serializable>`](Serializable) are what they say. [`TxError`](crate::TxError) turns serialization failures
/// of the handler's own statements into 503; nothing is retried automatically.
///
/// # Limits
///
/// - It covers this one database. What a handler does elsewhere is not undone.
/// - Leave `COMMIT` and `ROLLBACK` to the library. A handler that ends the transaction itself gets
///   500 `transaction_failed`, and its key answers 409 `outcome_unknown` until its `ttl` passes.
/// - It ends with the handler. Moved into a task, it cannot be committed: the response is 500, and
///   the key is locked until the task has dropped it. [`std::mem::forget`] locks it until the
///   process ends.
/// - The key can be forgotten only once the response is committed; while the handler runs, other
///   requests with the key wait, whatever they ask for.
/// - In a service without a `PostgresStore`, or with a second `Tx` in one handler, the response is
///   500 `misconfigured`.
///
/// # Panics
///
/// Panics if it is dereferenced before the handler's body runs (an extractor must not use it),
/// after the body has ended, or in a handler without `#[idempotent]`.
pub struct Tx<I = ReadCommitted> {
    source: Source,
    isolation: PhantomData<fn() -> I>,
}

enum Source {
    /// A request's or a job's. It has its transaction once the body runs.
    Work(Slot, OnceLock<Option<Box<Transaction>>>),
    /// A test's.
    Test(sqlx::Transaction<'static, Postgres>),
}

/// How much a transaction sees of concurrent ones: [`ReadCommitted`], [`RepeatableRead`] or
/// [`Serializable`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an isolation level",
    label = "write `Tx`, `Tx<RepeatableRead>` or `Tx<Serializable>`"
)]
pub trait Isolation: 'static {
    #[doc(hidden)]
    #[expect(private_interfaces, reason = "so nobody else implements it")]
    const LEVEL: Level;
}

macro_rules! levels {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;

        impl Isolation for $name {
            #[expect(private_interfaces, reason = "so nobody else implements the trait")]
            const LEVEL: Level = Level::$name;
        }
    )*};
}

levels! {
    /// Each statement sees what was committed before it began: the default for [`Tx`].
    ///
    /// ```no_run
    /// # use idempotent_runtime::{ReadCommitted, Tx};
    /// // #[idempotent]
    /// async fn count(mut tx: Tx<ReadCommitted>) -> Result<String, idempotent_runtime::TxError> {
    ///     let row: (i64,) = sqlx::query_as("SELECT count(*) FROM payments").fetch_one(&mut *tx).await?;
    ///     Ok(row.0.to_string())
    /// }
    /// ```
    ReadCommitted;
    /// All statements see what was committed before the key was claimed: `Tx<RepeatableRead>`.
    ///
    /// ```no_run
    /// # use idempotent_runtime::{RepeatableRead, Tx};
    /// // #[idempotent]
    /// async fn count(mut tx: Tx<RepeatableRead>) -> Result<String, idempotent_runtime::TxError> {
    ///     let row: (i64,) = sqlx::query_as("SELECT count(*) FROM payments").fetch_one(&mut *tx).await?;
    ///     Ok(row.0.to_string())
    /// }
    /// ```
    RepeatableRead;
    /// As if no other transaction ran concurrently: `Tx<Serializable>`.
    ///
    /// ```no_run
    /// # use idempotent_runtime::{Serializable, Tx};
    /// // #[idempotent]
    /// async fn count(mut tx: Tx<Serializable>) -> Result<String, idempotent_runtime::TxError> {
    ///     let row: (i64,) = sqlx::query_as("SELECT count(*) FROM payments").fetch_one(&mut *tx).await?;
    ///     Ok(row.0.to_string())
    /// }
    /// ```
    Serializable;
}

impl<I> Tx<I> {
    /// The transaction that will be in `slot`.
    pub(crate) fn of(slot: Slot) -> Self {
        Self { source: Source::Work(slot, OnceLock::new()), isolation: PhantomData }
    }

    /// A transaction for a unit test that calls a handler directly. Dropping it rolls it back.
    ///
    /// ```no_run
    /// # async fn test(pool: sqlx::PgPool) -> Result<(), sqlx::Error> {
    /// use idempotent_runtime::Tx;
    /// use sqlx::Row as _;
    ///
    /// async fn count(mut tx: Tx) -> i64 {
    ///     let row = sqlx::query("SELECT count(*) FROM payments").fetch_one(&mut *tx).await;
    ///     row.unwrap().get(0)
    /// }
    ///
    /// assert_eq!(count(Tx::rolling_back(pool.begin().await?)).await, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn rolling_back(transaction: sqlx::Transaction<'static, Postgres>) -> Self {
        Self { source: Source::Test(transaction), isolation: PhantomData }
    }
}

const NOT_BEGUN: &str = "a `Tx` was used outside of its handler: its transaction begins when the body \
                         of an `#[idempotent]` handler does, after all extractors, and ends with it";

impl<I> Deref for Tx<I> {
    type Target = PgConnection;

    #[track_caller]
    fn deref(&self) -> &PgConnection {
        match &self.source {
            Source::Work(slot, transaction) => {
                transaction.get_or_init(|| slot.take()).as_deref().expect(NOT_BEGUN)
            }
            Source::Test(transaction) => transaction,
        }
    }
}

impl<I> DerefMut for Tx<I> {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.source {
            Source::Work(slot, transaction) => {
                transaction.get_or_init(|| slot.take());
                transaction.get_mut().and_then(Option::as_deref_mut).expect(NOT_BEGUN)
            }
            Source::Test(transaction) => transaction,
        }
    }
}

/// Returns the transaction to the request.
impl<I> Drop for Tx<I> {
    fn drop(&mut self) {
        if let Source::Work(slot, transaction) = &mut self.source {
            slot.leave(transaction.take().flatten());
        }
    }
}

impl<I> fmt::Debug for Tx<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}
