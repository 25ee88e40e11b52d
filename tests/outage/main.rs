//! A service under constant load while its store fails, comes back and fails again, on real servers.
//!
//! ```text
//! cargo test --all-features --test outage                  the short form: each fault for 3 s
//! cargo test --all-features --test outage -- --long        200 requests a second, each for 30 s
//! cargo test --all-features --test outage -- redis killed  the rows that have both words
//! ```
//!
//! Each fault is a row of the table that is printed. Both forms judge by the same bounds and exit
//! with an error if one is broken.
//!
//! | file | owns |
//! |---|---|
//! | `faults/` | the rows: a store, a fault, how it begins and how it ends |
//! | `wire.rs` | sessions alongside the service's: bytes on a Unix socket, so that they are not counted |
//! | `service.rs` | the service: its runtime, its handler, its tasks |
//! | `load.rs` | requests on a clock, and what was answered |
//! | `history.rs` | every run of the handler and every answer of the store, and why a key ran twice |
//! | `history/proof.rs` | that it catches a faulty store |
//! | `connections.rs` | the connections that a server has, as the system knows them |
//! | `row.rs` | a row from its start to its figures |
//! | `judge.rs` | what the figures have to be |
//! | `table.rs` | the table |

mod connections;
mod faults;
mod history;
mod judge;
mod load;
mod row;
mod service;
mod table;
mod wire;

use std::{
    collections::VecDeque,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::{faults::Row, row::Measured};

/// How long and how much.
#[derive(Clone, Copy)]
struct Form {
    /// Requests per second, if the row has no rate of its own.
    rate: u32,
    /// Load before the fault.
    before: Duration,
    /// The first outage.
    outage: Duration,
    /// How long to look after the return: until the service is back, or for a fixed time.
    after: After,
    /// The second outage, until the load ends and `drain` begins.
    again: Duration,
    /// Rows that run at the same time.
    at_once: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Back,
    Time(Duration),
}

const SHORT: Form = Form {
    rate: 40,
    before: Duration::from_secs(2),
    outage: Duration::from_secs(3),
    after: After::Back,
    again: Duration::from_secs(2),
    at_once: 6,
};

const LONG: Form = Form {
    rate: 200,
    before: Duration::from_secs(5),
    outage: Duration::from_secs(30),
    after: After::Time(Duration::from_secs(17)),
    again: Duration::from_secs(10),
    at_once: 2,
};

fn main() -> ExitCode {
    let (flags, words): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|it| it.starts_with('-'));
    if flags.iter().any(|flag| flag == "--list") {
        return ExitCode::SUCCESS;
    }
    let mut form = if flags.iter().any(|flag| flag == "--long") { LONG } else { SHORT };
    for flag in &flags {
        match flag.split_once('=') {
            Some(("--rate", rate)) => form.rate = rate.parse().expect("a number"),
            Some(("--outage", seconds)) => {
                form.outage = Duration::from_secs(seconds.parse().expect("seconds"));
            }
            Some(("--at-once", rows)) => form.at_once = rows.parse().expect("a number"),
            _ => {} // meant for the test harness that this one replaces
        }
    }
    history::prove();
    let is_meant = |row: &Row| {
        let name = row.name().to_lowercase();
        words.iter().all(|word| name.contains(&word.to_lowercase()))
    };
    let rows: Vec<Row> = faults::rows().into_iter().filter(is_meant).collect();
    let results = run(&rows, form);

    let measured = rows.iter().zip(&results).filter_map(|(row, result)| {
        let measured = result.as_ref().ok()?;
        Some((row, measured))
    });
    println!("{}", table::markdown(measured, form));
    let mut broken = 0;
    for (row, result) in rows.iter().zip(&results) {
        let faults = match result {
            Ok(measured) => judge::faults(row, measured),
            Err(panicked) => panicked.lines().take(1).map(str::to_owned).collect(),
        };
        for fault in faults {
            broken += 1;
            println!("FAILED {}: {fault}", row.name());
        }
    }
    println!("outage: {} rows, {broken} bounds broken", rows.len());
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the rows, some at a time, and returns their figures in order.
fn run(rows: &[Row], form: Form) -> Vec<Result<Measured, String>> {
    let next: Mutex<VecDeque<usize>> = Mutex::new((0..rows.len()).collect());
    let results: Mutex<Vec<Option<Result<Measured, String>>>> =
        Mutex::new(rows.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..form.at_once.max(1) {
            scope.spawn(|| {
                loop {
                    let Some(index) = lock(&next).pop_front() else { break };
                    let row = &rows[index];
                    let result = catch_unwind(AssertUnwindSafe(|| row::run(row, form)));
                    let result = result.map_err(|panic| {
                        let text = panic.downcast_ref::<String>().cloned();
                        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                            .unwrap_or_else(|| "it panicked".to_owned())
                    });
                    match &result {
                        Ok(measured) if measured.refused.is_empty() => {}
                        Ok(measured) => eprintln!(
                            "outage: {}: refused since the return, by status: {:?}",
                            row.name(),
                            measured.refused
                        ),
                        Err(_) => eprintln!("outage: {}: broken off", row.name()),
                    }
                    lock(&results)[index] = Some(result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().map(|result| result.expect("every row has run")).collect()
}

/// Locks what no panic can leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
