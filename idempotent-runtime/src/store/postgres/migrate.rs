//! The table: its name, its columns, and how it is created.

use std::fmt;

use sqlx::{AssertSqlSafe, Connection as _, Error, PgConnection, Row as _};

use super::{
    error::{self, code},
    rights::{self, Missing},
    sql::UNBOUNDED,
};
use crate::store::{ConnectError, StoreError, cause::Cause};

/// The table's comment distinguishes it from someone else's table of the same name, and its format
/// from those of other releases.
const COMMENT: &str = "idempotent-axum, format 2";
const OWN_COMMENTS: &str = "idempotent-axum,";
/// The advisory lock that every migration takes.
const LOCK: i64 = i64::from_be_bytes(*b"idempokx");
/// PostgreSQL truncates longer names.
const MAX_NAME_BYTES: usize = 63;

/// The quoted, qualified name of the table.
#[derive(Debug)]
pub(crate) struct Table {
    schema: String,
    name: String,
}

impl Default for Table {
    fn default() -> Self {
        Self { schema: Self::DEFAULT_SCHEMA.to_owned(), name: Self::DEFAULT_NAME.to_owned() }
    }
}

impl Table {
    pub(crate) const DEFAULT_SCHEMA: &str = "public";
    pub(crate) const DEFAULT_NAME: &str = "idempotency_keys";

    /// Checks both names. They may need quoting, but nothing in them can end the quotes.
    pub(crate) fn new(schema: &str, table: &str) -> Result<Self, ConnectError> {
        let checked = |what, name: &str| {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(is_allowed) {
                Ok(name.to_owned())
            } else {
                Err(ConnectError::new(format!(
                    "`{name}` is not a {what} name for the idempotency store: use 1 to \
                     {MAX_NAME_BYTES} ASCII letters, digits, `_` and `-`"
                )))
            }
        };
        Ok(Self { schema: checked("schema", schema)?, name: checked("table", table)? })
    }

    /// `key`, `fingerprint` and `token` are 16 bytes each. A row without a record is a claim, and
    /// `expires` is the end of its lease; otherwise it is the end of the record's ttl. `operation`
    /// and `created` are for people: a row of an earlier release has neither.
    ///
    /// The index is for purging. A renewal has to update it, but renewals are rare: a handler that
    /// ends within a third of its lease never renews.
    pub(crate) fn schema_sql(&self) -> String {
        let Self { schema, .. } = self;
        format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\";\n{table}", table = self.create_table())
    }

    fn create_table(&self) -> String {
        format!(
            "CREATE TABLE {self} (
    key bytea PRIMARY KEY,
    fingerprint bytea NOT NULL,
    token bytea NOT NULL,
    record bytea,
    expires timestamptz NOT NULL,
    operation text,
    created timestamptz
);
CREATE INDEX ON {self} (expires);
COMMENT ON TABLE {self} IS '{COMMENT}';
"
        )
    }

    /// Brings a table of an earlier release up to date. Its rows stay as they are, and instances of
    /// that release keep working with it. While it waits for a transaction, others queue behind it,
    /// hence the `lock_timeout`.
    fn alter(&self) -> String {
        format!(
            "SET LOCAL lock_timeout = 2000;
ALTER TABLE {self} ADD COLUMN IF NOT EXISTS operation text,
    ADD COLUMN IF NOT EXISTS created timestamptz;
COMMENT ON TABLE {self} IS '{COMMENT}';
"
        )
    }

    /// The error if the table is someone else's.
    fn taken_error(&self) -> StoreError {
        StoreError::described(format!(
            "the table {self} exists, but the idempotency store did not make it: choose another \
             with `PostgresStore::builder().table(…)`, or set the comment `{COMMENT}` on it if it \
             is meant for the store"
        ))
    }

    /// Creates the schema and the table if they are missing, and adds the columns that a table of
    /// an earlier release lacks.
    pub(crate) async fn migrate(&self, connection: &mut PgConnection) -> Result<Migrated, Error> {
        match self.migrate_once(connection).await? {
            Migrated::Altered => self.migrate_once(connection).await,
            migrated => Ok(migrated),
        }
    }

    async fn migrate_once(&self, connection: &mut PgConnection) -> Result<Migrated, Error> {
        let Self { schema, .. } = self;
        // The simple protocol in one transaction, so that it works through any pooler.
        let mut transaction = connection.begin().await?;
        let lock = format!("{UNBOUNDED}SELECT pg_advisory_xact_lock({LOCK})");
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *transaction).await?;
        let query = format!("SELECT to_regnamespace('\"{schema}\"') IS NULL");
        let row = sqlx::raw_sql(AssertSqlSafe(query)).fetch_one(&mut *transaction).await?;
        let migrated = match self.look(&mut transaction).await? {
            Found::Nothing => {
                // Even for a schema that exists, `CREATE SCHEMA` requires permission to create it.
                let sql = if row.try_get(0)? { self.schema_sql() } else { self.create_table() };
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await?;
                transaction.commit().await?;
                return Ok(Migrated::Usable);
            }
            Found::Foreign => Migrated::Foreign,
            Found::Old => {
                match sqlx::raw_sql(AssertSqlSafe(self.alter())).execute(&mut *transaction).await {
                    Ok(_) => {
                        transaction.commit().await?;
                        return Ok(Migrated::Altered);
                    }
                    Err(error) if code(&error) == error::NO_RIGHT => Migrated::Unalterable(error),
                    Err(error) => return Err(error),
                }
            }
            Found::Own => match rights::probe(self, &mut transaction).await? {
                Some(missing) => Migrated::Forbidden(missing),
                None => Migrated::Usable,
            },
        };
        transaction.rollback().await?;
        Ok(migrated)
    }

    /// What the role may not do to the table, if it exists.
    pub(crate) async fn missing_right(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<Missing>, Error> {
        let mut transaction = connection.begin().await?;
        let missing = match self.look(&mut transaction).await? {
            Found::Own => rights::probe(self, &mut transaction).await?,
            Found::Nothing | Found::Foreign | Found::Old => None,
        };
        transaction.rollback().await?;
        Ok(missing)
    }

    async fn look(&self, connection: &mut PgConnection) -> Result<Found, Error> {
        let query = format!(
            "SELECT to_regclass('{self}') IS NULL,
                obj_description(to_regclass('{self}'), 'pg_class'),
                (SELECT count(*) = 2 FROM pg_attribute WHERE attrelid = to_regclass('{self}')
                    AND attname IN ('operation', 'created') AND NOT attisdropped)"
        );
        let row = sqlx::raw_sql(AssertSqlSafe(query)).fetch_one(connection).await?;
        let comment: Option<String> = row.try_get(1)?;
        Ok(if row.try_get(0)? {
            Found::Nothing
        } else if !comment.is_some_and(|comment| comment.starts_with(OWN_COMMENTS)) {
            Found::Foreign
        } else if row.try_get(2)? {
            Found::Own
        } else {
            Found::Old
        })
    }
}

/// What exists under the table's name.
enum Found {
    Nothing,
    Own,
    /// The same, but of an earlier release.
    Old,
    Foreign,
}

/// The result of [`Table::migrate`].
#[derive(Debug)]
pub(crate) enum Migrated {
    Usable,
    /// The columns that it lacked were added.
    Altered,
    /// It lacks columns that the role may not add.
    Unalterable(Error),
    /// The table is someone else's.
    Foreign,
    Forbidden(Missing),
}

impl Migrated {
    pub(crate) fn into_result(self, table: &Table) -> Result<(), StoreError> {
        match self {
            Self::Usable | Self::Altered => Ok(()),
            Self::Unalterable(refusal) => {
                let lacking = format!(
                    "the table {table} is from an earlier release, and the role may not add \
                     columns to it: its owner has to run `ALTER TABLE {table} ADD COLUMN operation \
                     text, ADD COLUMN created timestamptz`"
                );
                Err(StoreError::described(lacking).because(Cause(refusal)))
            }
            Self::Foreign => Err(table.taken_error()),
            Self::Forbidden(missing) => {
                let error = StoreError::described(missing.to_string());
                Err(match missing.error {
                    Some(refusal) => error.because(Cause(refusal)),
                    None => error,
                })
            }
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\".\"{}\"", self.schema, self.name)
    }
}
