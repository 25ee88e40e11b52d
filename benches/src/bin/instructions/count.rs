//! What a request costs.

use std::{fmt, ops::Sub};

use crate::case::{Path, Row};

/// Instructions and allocations of one request; beyond the bare handler they can be negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count {
    pub instructions: i64,
    pub allocations: f64,
}

impl Sub for Count {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            instructions: self.instructions - other.instructions,
            allocations: self.allocations - other.allocations,
        }
    }
}

/// As in `+10,061 / +16.0`.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing is neither positive nor negative.
        let allocations = (self.allocations * 10.0).round() / 10.0 + 0.0;
        write!(f, "{} / {allocations:+.1}", grouped(self.instructions))
    }
}

/// As in `+10,061`.
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut grouped = String::from(if number < 0 { "-" } else { "+" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// What a path of the library shall cost at most, beyond the bare handler and with small bodies.
pub fn aim(row: Row, path: Path) -> Option<&'static str> {
    match (row.name, path) {
        ("layer" | "principal", Path::NoKey) => Some("≤ +1,800"),
        ("no-layer", Path::NoKey) => Some("≤ 0"),
        ("layer" | "no-layer", Path::First) => Some("≤ +13,000 / +17"),
        ("layer" | "principal" | "no-layer", Path::Replay) => Some("≤ +2,400 / +1.5"),
        _ => None,
    }
}
