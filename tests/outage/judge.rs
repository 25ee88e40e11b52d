//! What the figures of a row have to be. The bounds are those of the guarantee *An outage passes*;
//! only the allowance for a busy machine is generous.

use std::time::Duration;

use crate::{faults::Row, history::Cause, row::Measured, service::LEASE};

/// Tasks of all kinds, on top of those that a service under load has anyway.
const BACKGROUND: usize = 1024;
/// What a busy machine may add to a time limit.
const SLACK: Duration = Duration::from_secs(8);

/// How many requests may arrive until the service is back: 5 s at 200 a second, and 10 s at 20 if
/// connecting takes a second.
pub(crate) fn back_within(row: &Row) -> usize {
    row.rate.map_or(1000, |rate| 10 * rate as usize)
}

/// The bounds that a row has broken.
pub(crate) fn faults(row: &Row, measured: &Measured) -> Vec<String> {
    let mut faults = Vec::new();
    let mut hold = |so: bool, fault: String| {
        if !so {
            faults.push(fault);
        }
    };
    let Measured { before, known, until_back, tasks, tasks_before, connections, drain, .. } =
        measured;
    hold(*before == Some(1.0), format!("served before the fault: {before:?}"));
    if row.has_copies {
        hold(*known == Some(1.0), format!("of known keys served in the outage: {known:?}"));
    }
    let limit = back_within(row);
    let back = match until_back {
        Ok(sent) => format!("served again only after {sent} requests (at most {limit})"),
        Err(sent) => format!("not served again after {sent} requests (at most {limit})"),
    };
    hold(until_back.is_ok_and(|sent| sent <= limit), back);
    let limit = BACKGROUND + tasks_before;
    hold(*tasks <= limit, format!("{tasks} tasks in the background (at most {limit})"));
    let limit = 2 * row.pool;
    hold(*connections <= limit, format!("{connections} connections (at most {limit})"));
    let limit = LEASE + SLACK;
    hold(
        drain.is_some_and(|time| time <= limit),
        format!("`drain` took {drain:.1?} (at most one lease, {LEASE:?}, and {SLACK:?})"),
    );
    for (cause, times) in &measured.again {
        if let Cause::Unexplained(why) = cause {
            hold(false, format!("{times} keys ran twice without a cause: {why}"));
        }
    }
    hold(measured.stuck == 0, format!("{} keys that ran are stuck", measured.stuck));
    hold(measured.unanswered == 0, format!("{} requests had no answer", measured.unanswered));
    faults
}
