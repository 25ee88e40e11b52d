//! The rows: a handler, a fault, and what lies between the service and the database.

use std::fmt;

use test_servers::PoolMode;

/// One row of the table.
pub(crate) struct Row {
    pub(crate) mode: Mode,
    pub(crate) fault: Fault,
    pub(crate) pooler: Option<PoolMode>,
    /// How often the fault is caused.
    pub(crate) times: usize,
}

/// Which handler makes the payments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The one with `Tx`.
    Tx,
    /// The one with its own transaction.
    Plain,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL to an instance when a payment is at this step.
    KilledAt(Step),
    /// SIGKILL to an instance under load.
    Killed,
    /// SIGKILL to the database under load.
    ServerKilled,
    /// A connection to the database breaks mid-stream, under load.
    Cut,
}

/// How far a payment has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Claimed,
    MidBody,
    /// The response is about to be stored, and the database is out of reach until the caller has
    /// been answered.
    CutOff,
    BeforeCommit,
    Committing,
    Committed,
    Answered,
}

impl Step {
    const ALL: [Self; 7] = [
        Self::Claimed,
        Self::MidBody,
        Self::CutOff,
        Self::BeforeCommit,
        Self::Committing,
        Self::Committed,
        Self::Answered,
    ];
}

/// All rows; `is_long` decides how often each fault is caused.
pub(crate) fn rows(is_long: bool) -> Vec<Row> {
    let steps = Step::ALL.map(|step| (Fault::KilledAt(step), None, [4, 25]));
    let others = [
        (Fault::Killed, None, [40, 300]),
        (Fault::ServerKilled, None, [5, 30]),
        (Fault::Cut, None, [60, 300]),
        (Fault::Killed, Some(PoolMode::Transaction), [10, 100]),
        (Fault::Cut, Some(PoolMode::Transaction), [30, 300]),
        (Fault::Killed, Some(PoolMode::Session), [10, 100]),
        (Fault::Cut, Some(PoolMode::Session), [30, 300]),
    ];
    let faults = steps.into_iter().chain(others);
    let rows = faults.flat_map(|(fault, pooler, times)| {
        let times = times[usize::from(is_long)];
        [Mode::Tx, Mode::Plain].map(|mode| Row { mode, fault, pooler, times })
    });
    rows.collect()
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Tx => "`Tx`",
            Mode::Plain => "plain",
        };
        let fault = match self.fault {
            Fault::KilledAt(Step::Claimed) => "killed after the claim",
            Fault::KilledAt(Step::MidBody) => "killed mid-body",
            Fault::KilledAt(Step::CutOff) => "killed after an answer that it could not store",
            Fault::KilledAt(Step::BeforeCommit) => "killed before `COMMIT`",
            Fault::KilledAt(Step::Committing) => "killed with `COMMIT` on its way",
            Fault::KilledAt(Step::Committed) => "killed after `COMMIT`, before it knew",
            Fault::KilledAt(Step::Answered) => "killed before its answer arrived",
            Fault::Killed => "killed at random",
            Fault::ServerKilled => "database killed",
            Fault::Cut => "connection cut at a random byte",
        };
        write!(f, "{mode} | {fault}")?;
        match self.pooler {
            Some(mode) => write!(f, ", PgBouncer ({mode})"),
            None => Ok(()),
        }
    }
}
