//! Whether the role may do what the verbs do, found out by trying.

use std::fmt;

use sqlx::{AssertSqlSafe, Error, PgConnection};

use super::{
    error::{self, code},
    migrate::Table,
};
use crate::store::Token;

/// What the role may not do to the table.
#[derive(Debug)]
pub(super) struct Missing {
    table: String,
    right: &'static str,
    /// The server's refusal; `None` if a row policy silently hides rows.
    pub(super) error: Option<Error>,
}

/// Does what the verbs do to a row that nobody uses, in a transaction that the caller rolls back.
///
/// The catalog knows the grants, but not the effect of row policies and triggers.
pub(super) async fn probe(
    table: &Table,
    transaction: &mut PgConnection,
) -> Result<Option<Missing>, Error> {
    let key = u128::from_be_bytes(*Token::random().as_bytes());
    let row = format!("key = decode('{key:032x}', 'hex')");
    let steps = [
        (
            "INSERT",
            format!(
                "SET LOCAL lock_timeout = 500;
                 INSERT INTO {table} (key, fingerprint, token, expires, operation, created)
                 VALUES (decode('{key:032x}', 'hex'), '', '', now() + interval '1 minute', '', now())"
            ),
        ),
        ("SELECT", format!("SELECT FROM {table} WHERE {row}")),
        ("UPDATE", format!("UPDATE {table} SET record = '' WHERE {row}")),
        ("DELETE", format!("DELETE FROM {table} WHERE {row}")),
    ];
    for (right, sql) in steps {
        let missing = |error| Some(Missing { table: table.to_string(), right, error });
        match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await {
            Ok(done) if done.rows_affected() == 0 => return Ok(missing(None)),
            Ok(_) => {}
            Err(error) if code(&error) == error::NO_RIGHT => return Ok(missing(Some(error))),
            // Someone is altering the table, or still has to, as `migrate` does with one of an
            // earlier release. What the role may do then shows later.
            Err(error) if matches!(&*code(&error), error::LOCKED | error::UNDEFINED_COLUMN) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, right, error } = self;
        let why = if error.is_some() { "the role" } else { "the role, under a row policy," };
        write!(
            f,
            "{why} may not {right} in the table {table}: the idempotency store needs SELECT, \
             INSERT, UPDATE and DELETE, for every row"
        )
    }
}
