//! Everything that a server holds.

use std::{collections::HashSet, fmt};

use test_servers::{Postgres, Redis};

/// What somebody who copies a server's data has.
pub(super) struct Dump(Vec<u8>);

impl Dump {
    /// All keys and their values.
    pub(super) async fn of_redis(redis: &Redis) -> Self {
        let client = redis::Client::open(redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd("KEYS");
        let keys: Vec<Vec<u8>> = command.arg("*").query_async(&mut connection).await.unwrap();
        let mut all = Vec::new();
        for key in keys {
            let mut command = redis::cmd("GET");
            let value: Vec<u8> = command.arg(&key).query_async(&mut connection).await.unwrap();
            all.extend([key, value].into_iter().flatten());
        }
        Self(all)
    }

    /// The rows as `COPY` writes them, and the bytes that it writes in hex.
    pub(super) fn of_postgres(postgres: &Postgres) -> Self {
        let rows = postgres.execute("COPY (SELECT * FROM idempotency_keys) TO STDOUT");
        let columns = rows.split_ascii_whitespace();
        let bytes = columns.filter_map(|column| column.trim_start_matches('\\').strip_prefix('x'));
        let bytes: Vec<_> = bytes.map(|hex| hex::decode(hex).expect("bytea in hex")).collect();
        assert!(!bytes.is_empty(), "{rows}");
        Self([rows.as_bytes(), &bytes.concat()].concat())
    }

    /// Its bytes, each as the character with that code point.
    pub(super) fn text(&self) -> String {
        self.0.iter().copied().map(char::from).collect()
    }

    /// Every sequence of this many bytes.
    pub(super) fn windows(&self, length: usize) -> HashSet<&[u8]> {
        self.0.windows(length).collect()
    }
}

impl fmt::Debug for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
