//! The warning about a server that may evict what the store keeps.

use super::connection::Connection;

const UNTOLD: &str = "Redis does not tell its `maxmemory-policy`; it should be `noeviction`";

/// Says in the log if a server behind `connection` may evict.
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

/// The policy that an answer to `INFO memory` names.
fn policy(answer: &str) -> Option<String> {
    answer.lines().find_map(|line| line.trim().strip_prefix("maxmemory_policy:")).map(String::from)
}
