//! The committed counts, and the comparison with them.

use std::{fmt::Write as _, fs, path::PathBuf};

use benches::table;

use crate::count::{Count, grouped};

const HEADER: &str = "\
# Instructions and allocations of a request beyond the bare handler, with bodies of 100 B; written by
# `benches/run instructions --update`. CI fails if a path takes 5 % more instructions, or 0.2 more
# allocations. A commit that raises a count says why; one that makes a path cheaper lowers its count.

";

/// Growth that fails: in percent, and no fewer instructions than the counts differ by from run to
/// run, which is much where next to nothing is counted.
const TOLERATED_PERCENT: i64 = 5;
const TOLERATED_INSTRUCTIONS: i64 = 50;
const TOLERATED_ALLOCATIONS: f64 = 0.2;

/// Counts by path, as in `layer.replay`.
pub struct Baseline(Vec<(String, Count)>);

impl Baseline {
    fn file() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baseline.toml")
    }

    /// The committed counts.
    pub fn read() -> Self {
        let text = fs::read_to_string(Self::file()).expect("the baseline is committed");
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let counts = lines.map(|line| {
            parse(line)
                .unwrap_or_else(|| panic!("not `path = [instructions, allocations]`: {line}"))
        });
        Self(counts.collect())
    }

    /// Replaces the committed counts.
    pub fn write(counted: &[(String, Count)]) {
        let mut text = HEADER.to_owned();
        for (name, Count { instructions, allocations }) in counted {
            writeln!(text, "{name} = [{instructions}, {allocations:.1}]")
                .expect("a string can be written to");
        }
        fs::write(Self::file(), text).expect("the baseline can be written");
    }

    /// Prints the counts beside the committed ones; whether none grew too much.
    pub fn compare(&self, counted: &[(String, Count)]) -> bool {
        table::head(
            "Beside the baseline",
            &["path", "instructions", "baseline", "allocations", "baseline", ""],
        );
        let mut within = true;
        for (name, count) in counted {
            let known = self.0.iter().find(|(known, _)| known == name);
            let (_, known) = known.expect("`--update` adds a path to the baseline");
            let verdict = if exceeds(*count, *known) {
                within = false;
                "**grown too much**"
            } else if exceeds(*known, *count) {
                "lower the baseline"
            } else {
                "as before"
            };
            table::row([
                name,
                &grouped(count.instructions),
                &grouped(known.instructions),
                &format!("{:+.1}", count.allocations),
                &format!("{:+.1}", known.allocations),
                verdict,
            ]);
        }
        within
    }
}

fn exceeds(count: Count, baseline: Count) -> bool {
    let growth = count - baseline;
    let tolerated = baseline.instructions.abs() * TOLERATED_PERCENT / 100;
    growth.instructions > tolerated.max(TOLERATED_INSTRUCTIONS)
        || growth.allocations > TOLERATED_ALLOCATIONS
}

/// Reads `layer.replay = [10061, 16.0]`.
fn parse(line: &str) -> Option<(String, Count)> {
    let (name, counts) = line.split_once(" = ")?;
    let (instructions, allocations) =
        counts.strip_prefix('[')?.strip_suffix(']')?.split_once(", ")?;
    let count =
        Count { instructions: instructions.parse().ok()?, allocations: allocations.parse().ok()? };
    Some((name.to_owned(), count))
}
