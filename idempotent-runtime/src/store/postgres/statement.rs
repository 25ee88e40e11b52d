//! One statement with its arguments, and how it is sent to the server.

use std::{borrow::Cow, fmt::Write as _, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Error, PgConnection,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use crate::store::Attempt;

/// Within the range of a `timestamptz`.
const LONGEST_MILLIS: i64 = 100 * 366 * 24 * 3_600_000;

/// How a statement is sent to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Prepared once per connection, with separate arguments: two round trips the first time, one
    /// from then on.
    Extended,
    /// One message with the arguments as literals. It leaves nothing in the server's session, so a
    /// pooler may send every statement over another server connection.
    Simple,
}

/// One statement, which can run on any connection, in any transaction, and more than once.
pub(crate) struct Statement<'a> {
    pub(super) protocol: Protocol,
    pub(super) sql: &'a Arc<str>,
    pub(super) arguments: Vec<Argument<'a>>,
}

impl Statement<'_> {
    /// Runs it and returns its first row.
    pub(crate) async fn run(&self, connection: &mut PgConnection) -> Result<Option<PgRow>, Error> {
        match self.protocol {
            Protocol::Extended => {
                let query = sqlx::query(AssertSqlSafe(Arc::clone(self.sql)));
                let bound =
                    self.arguments.iter().fold(query, |query, argument| argument.bind(query));
                bound.fetch_optional(connection).await
            }
            Protocol::Simple => {
                let sql = with_literals(self.sql, &self.arguments);
                sqlx::raw_sql(AssertSqlSafe(sql)).fetch_optional(connection).await
            }
        }
    }
}

/// An argument of a statement.
#[derive(Clone)]
pub(super) enum Argument<'a> {
    Bytes(&'a [u8]),
    Millis(i64),
    /// The number of an advisory lock.
    Lock(i64),
    Bool(bool),
    /// ASCII without NUL, which every database can hold.
    Text(Cow<'a, str>),
}

type Bound<'q> = Query<'q, sqlx::Postgres, PgArguments>;

impl<'a> Argument<'a> {
    /// The name of the attempt's operation, for people.
    pub(super) fn operation(attempt: &'a Attempt) -> Self {
        let is_plain = |c: char| matches!(c, ' '..='~');
        let name = attempt.operation();
        if name.chars().all(is_plain) {
            return Self::Text(Cow::Borrowed(name));
        }
        let mut plain = String::with_capacity(name.len());
        for c in name.chars() {
            if is_plain(c) { plain.push(c) } else { plain.extend(c.escape_unicode()) }
        }
        Self::Text(Cow::Owned(plain))
    }

    /// `duration` in milliseconds, rounded up, so that the shortest one is not zero.
    pub(super) fn millis(duration: Duration) -> Self {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        Self::Millis(i64::try_from(millis).unwrap_or(i64::MAX).min(LONGEST_MILLIS))
    }

    fn bind<'q>(&self, query: Bound<'q>) -> Bound<'q> {
        match self {
            Self::Bytes(bytes) => query.bind(*bytes),
            Self::Millis(number) | Self::Lock(number) => query.bind(*number),
            Self::Bool(is_set) => query.bind(*is_set),
            Self::Text(text) => query.bind(&**text),
        }
    }

    /// Writes the literal, whatever `standard_conforming_strings` is: hex digits need no escaping.
    fn write(&self, sql: &mut String) {
        match self {
            Self::Bytes(bytes) => write_hex(bytes, sql),
            Self::Text(text) => {
                sql.push_str("convert_from(");
                write_hex(text.as_bytes(), sql);
                sql.push_str(", 'UTF8')");
            }
            Self::Millis(number) | Self::Lock(number) => {
                write!(sql, "{number}").expect("writing to a string cannot fail");
            }
            Self::Bool(is_set) => sql.push_str(if *is_set { "true" } else { "false" }),
        }
    }
}

fn write_hex(bytes: &[u8], sql: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    sql.push_str("decode('");
    for byte in bytes {
        sql.push(char::from(DIGITS[usize::from(byte >> 4)]));
        sql.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    sql.push_str("', 'hex')");
}

/// `sql` with each `$n` replaced by its argument.
fn with_literals(sql: &str, arguments: &[Argument<'_>]) -> String {
    let mut parts = sql.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digit, rest) = part.split_at(1);
        let index: usize = digit.parse().expect("a parameter is a digit");
        arguments[index - 1].write(&mut out);
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_literals_without_anything_to_escape() {
        let arguments =
            [Argument::Bytes(b"'\\\0\xff"), Argument::Millis(1500), Argument::Bool(true)];
        assert_eq!(
            with_literals("key = $1 AND $2 * $1 OR $3", &arguments),
            "key = decode('275c00ff', 'hex') AND 1500 * decode('275c00ff', 'hex') OR true"
        );
    }

    #[test]
    fn an_operation_is_text_that_every_database_holds() {
        use crate::store::{Fingerprint, StoreKey, Token};

        let text = |operation: &str| {
            let (key, fingerprint) =
                (StoreKey::from_bytes([1; 16]), Fingerprint::from_bytes([2; 16]));
            let attempt = Attempt::new(key, fingerprint, Token::random()).named(operation);
            match Argument::operation(&attempt) {
                Argument::Text(text) => text.into_owned(),
                _ => unreachable!("an operation is a text"),
            }
        };
        assert_eq!(text("POST /it's/{id}"), "POST /it's/{id}");
        assert_eq!(text("zahlung für\0"), r"zahlung f\u{fc}r\u{0}");
        let operation = Argument::Text("it's".into());
        let literal = "convert_from(decode('69742773', 'hex'), 'UTF8')";
        assert_eq!(with_literals("$1", &[operation]), literal);
    }

    #[test]
    fn durations_round_up_and_stay_in_range() {
        let millis = |duration| match Argument::millis(duration) {
            Argument::Millis(millis) => millis,
            _ => unreachable!("a duration is a number"),
        };
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_millis(20)), 20);
        assert_eq!(millis(Duration::MAX), LONGEST_MILLIS);
    }
}
