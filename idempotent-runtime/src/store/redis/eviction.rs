//! The warning about a server that may evict the store's keys.

use super::connection::Connection;

const UNTOLD: &str = "the `maxmemory-policy` of Redis cannot be read; it should be `noeviction`";

/// Logs a warning if a server behind `connection` may evict keys.
pub(super) async fn warn_of_eviction(connection: &Connection) {
    let mut info = ::redis::cmd("INFO");
    info.arg("memory");
    let mut policies = Vec::new();
    for answer in connection.query_all::<String>(&info).await {
        match answer.map(|answer| policy(&answer)) {
            Ok(Some(policy)) => policies.push(policy),
            Ok(None) => tracing::debug!(target: crate::TARGET, UNTOLD),
            Err(error) => {
                tracing::debug!(
                    target: crate::TARGET,
                    error = &error as &dyn std::error::Error, UNTOLD
                );
            }
        }
    }
    if let Some(policy) = policies.iter().find(|policy| *policy != "noeviction") {
        tracing::warn!(
            target: crate::TARGET,
            policy,
            "Redis may evict claims and stored responses, whose requests then run again: set \
             `maxmemory-policy` to `noeviction`"
        );
    }
}

/// The policy in an answer to `INFO memory`.
fn policy(answer: &str) -> Option<String> {
    answer.lines().find_map(|line| line.trim().strip_prefix("maxmemory_policy:")).map(String::from)
}
