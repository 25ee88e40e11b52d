//! The table, in Markdown: shares and seconds.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use crate::{Form, faults::Row, history::Cause, row::Measured};

pub(crate) fn markdown<'a>(
    rows: impl Iterator<Item = (&'a Row, &'a Measured)>,
    form: Form,
) -> String {
    let mut table = format!(
        "{} requests a second, outages of {} s\n\n\
         | store | fault | before | during | 5 s after | 15 s after | back after | tasks | \
         connections | drain | ran twice |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        form.rate,
        form.outage.as_secs(),
    );
    let mut late = Vec::new();
    for (row, measured) in rows {
        let rate = row.rate.map_or(String::new(), |rate| format!(", {rate} a second"));
        let known = match measured.known {
            known if row.has_copies => format!(", {} of the known keys served", share(known)),
            _ => String::new(),
        };
        let back = match measured.until_back {
            Ok(_) => seconds(last_refused(measured)),
            Err(_) => "never".to_owned(),
        };
        let drain = measured.drain.map_or_else(|| "no end".to_owned(), seconds);
        let _ = writeln!(
            table,
            "| {} | {}{rate}{known} | {} | {} | {} | {} | {back} | {} | {} | {drain} | {} |",
            row.store,
            row.fault,
            share(measured.before),
            share(measured.during),
            share(measured.after_5s),
            share(measured.after_15s),
            measured.tasks,
            measured.connections,
            again(measured),
        );
        if measured.kept.late > Duration::from_secs(1) {
            late.push(format!(
                "{}: {:.0} a second, up to {} late",
                row.name(),
                measured.kept.rate,
                seconds(measured.kept.late)
            ));
        }
    }
    if !late.is_empty() {
        let _ = write!(table, "\nThe machine did not keep the rate:\n{}\n", late.join("\n"));
    }
    table
}

fn last_refused(measured: &Measured) -> Duration {
    measured.refused.values().map(|(_, last)| *last).max().unwrap_or_default()
}

fn share(of: Option<f64>) -> String {
    // Rounded down: 100 % means all.
    of.map_or_else(|| "–".to_owned(), |share| format!("{} %", (share * 100.0).floor()))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn again(measured: &Measured) -> String {
    let mut named = BTreeMap::<&str, usize>::new();
    for (cause, times) in &measured.again {
        let name = match cause {
            Cause::Killed => "run killed",
            Cause::LeaseLost => "lease outlasted",
            Cause::WriteLost => "write lost by the server",
            Cause::Unexplained(_) => "**unexplained**",
        };
        *named.entry(name).or_default() += times;
    }
    let causes = named.iter().map(|(cause, times)| format!("{times} ({cause})"));
    let causes: Vec<_> = causes.collect();
    if causes.is_empty() { "0".to_owned() } else { causes.join(", ") }
}
