//! The service under load, with real servers, while its processes, its database and its connections
//! die: what became of each key, with `Tx` and without.
//!
//! ```text
//! cargo test -p payments --test crashes                  the short form, a minute
//! cargo test -p payments --test crashes -- --long        as many faults as the docs name
//! cargo test -p payments --test crashes -- plain cut     the rows that have both words
//! ```
//!
//! Each fault is a row of the table that is printed, once for `Tx` and once for the same handler
//! with its own transaction. With `Tx`, each key has one payment, and every answer names it. The
//! plain handler must run twice where that cannot be avoided: proof that this test would notice.
//!
//! | file | owns |
//! |---|---|
//! | `matrix.rs` | the rows |
//! | `scene.rs` | what a row runs on: servers, proxies, instances of the service |
//! | `process.rs` | one process of the service |
//! | `load.rs` | clients that retry each key until it is answered |
//! | `faults.rs` | how each fault is caused |
//! | `row.rs` | a row from its start to its figures |
//! | `verdict.rs` | what the figures and the database have to be |

mod faults;
mod load;
mod matrix;
#[allow(dead_code, reason = "the tests of the API use the rest")]
mod process;
mod row;
mod scene;
mod verdict;

use std::{
    any::Any,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{matrix::Row, row::Figures};

/// Rows that run at the same time: most of a row is waiting.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    let (flags, words): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|it| it.starts_with('-'));
    if flags.iter().any(|flag| flag == "--list") {
        return ExitCode::SUCCESS;
    }
    let is_long = flags.iter().any(|flag| flag == "--long");
    let is_meant = |row: &Row| {
        let name = row.to_string().to_lowercase();
        words.iter().all(|word| name.contains(&word.to_lowercase()))
    };
    let rows: Vec<Row> = matrix::rows(is_long).into_iter().filter(is_meant).collect();
    let results = run(&rows);

    println!(
        "| mode | fault | times | keys | answers | double runs | lost answers | delivered again |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut broken = Vec::new();
    for (row, result) in rows.iter().zip(results) {
        match result {
            Ok(figures) => {
                println!("{}", figures.line(row));
                broken.extend(figures.broken().iter().map(|what| format!("{row}: {what}")));
            }
            Err(panicked) => broken.push(format!("{row}: {panicked}")),
        }
    }
    for what in &broken {
        println!("FAILED | {what}");
    }
    println!("crashes: {} rows, {} faults found", rows.len(), broken.len());
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the rows, some at a time, and returns their figures in order.
fn run(rows: &[Row]) -> Vec<Result<Figures, String>> {
    let next = AtomicUsize::new(0);
    let results: Vec<OnceLock<_>> = rows.iter().map(|_| OnceLock::new()).collect();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(row) = rows.get(index) else { break };
                    let result = catch_unwind(AssertUnwindSafe(|| row::run(row, index as u64)));
                    let _ = results[index].set(result.map_err(|panic| said(&*panic)));
                }
            });
        }
    });
    results.into_iter().map(|result| result.into_inner().expect("every row has run")).collect()
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
