//! Tables in Markdown, and the figures in them.

use std::fmt::Display;

/// Prints a title and a table's head.
pub fn head(title: &str, columns: &[&str]) {
    println!("\n### {title}\n");
    row(columns);
    println!("|{}", "---|".repeat(columns.len()));
}

/// Prints one row.
pub fn row<C: Display>(cells: impl IntoIterator<Item = C>) {
    let cells: Vec<String> = cells.into_iter().map(|cell| cell.to_string()).collect();
    println!("| {} |", cells.join(" | "));
}

/// The first quartile, the median and the third quartile.
#[must_use]
pub fn quartiles(values: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

/// The median.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let [_, median, _] = quartiles(values);
    median
}
