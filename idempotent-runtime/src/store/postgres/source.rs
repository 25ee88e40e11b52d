//! [`Source`]: how the store opens a connection.

use std::time::Duration;

use sqlx::{
    ConnectOptions as _, Connection as _, Error, PgConnection, PgPool, postgres::PgConnectOptions,
};

use super::statement::Protocol;

/// Where connections come from.
pub(super) enum Source {
    Options(Box<PgConnectOptions>),
    /// Opened as `pool` opens its own, with the options it has at that time. `opener` is a pool
    /// with the same settings that never keeps a connection: there is no other way to run
    /// `after_connect`.
    Pool {
        pool: PgPool,
        opener: PgPool,
        session: Session,
    },
}

impl Source {
    pub(super) fn pool(pool: PgPool, session: Session, limit: Duration) -> Self {
        let options = pool.options().clone().min_connections(0).acquire_timeout(limit);
        // Without these it runs no background task.
        let options = options.idle_timeout(None).max_lifetime(None);
        let opener =
            options.connect_lazy_with(session.set(pool.connect_options().as_ref().clone()));
        Self::Pool { pool, opener, session }
    }

    /// Opens a connection. `is_again` means that the last attempt failed.
    pub(super) async fn open(&self, is_again: bool) -> Result<PgConnection, Error> {
        match self {
            Self::Options(options) => options.connect().await,
            Self::Pool { pool, opener, session } => {
                let options = session.set(pool.connect_options().as_ref().clone());
                if is_again {
                    // A pool tries until its time is up, and then does not report the reason.
                    options.connect().await?.close().await?;
                }
                opener.set_connect_options(options);
                Ok(opener.acquire().await?.detach())
            }
        }
    }
}

/// The settings of the store's sessions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    pub(super) protocol: Protocol,
    pub(super) statement_timeout: Option<Duration>,
}

impl Session {
    pub(super) fn set(&self, options: PgConnectOptions) -> PgConnectOptions {
        match self.protocol {
            Protocol::Extended => match self.statement_timeout {
                Some(limit) => options.options([("statement_timeout", milliseconds(limit))]),
                None => options,
            },
            // Poolers refuse a startup parameter that they do not track.
            Protocol::Simple => options
                .extra_float_digits(None)
                .statement_cache_capacity(0)
                .disable_statement_logging(),
        }
    }

    /// What precedes a statement that may run in any session, in the same message, which is one
    /// transaction.
    pub(super) fn settings_of_a_statement(&self) -> String {
        if self.protocol == Protocol::Extended {
            return String::new();
        }
        // The driver understands `bytea` as text only in this form.
        let bytes = "SET LOCAL bytea_output = hex;\n";
        self.statement_timeout.map_or_else(
            || bytes.to_owned(),
            |limit| format!("{bytes}SET LOCAL statement_timeout = {};\n", milliseconds(limit)),
        )
    }
}

/// At least one: zero would mean no limit.
fn milliseconds(limit: Duration) -> u128 {
    limit.as_millis().max(1)
}
