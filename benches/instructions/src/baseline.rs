//! The committed counts, and the comparison with them.

use std::{fmt::Write as _, fs, path::PathBuf};

const HEADER: &str = "\
# Instructions per request beyond the bare handler, written by `benches/run instructions --update`.
# CI fails where a count grows by more than 5 %. A commit may raise one only with a reason, which
# its message states; a commit that makes a path cheaper lowers its count.

";

/// Growth that fails, in percent.
const TOLERATED: u64 = 5;

/// Counts by path.
pub struct Baseline(Vec<(String, u64)>);

impl Baseline {
    fn file() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baseline.toml")
    }

    /// The committed counts.
    pub fn read() -> Self {
        let text = fs::read_to_string(Self::file()).expect("the baseline is committed");
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let counts = lines.map(|line| {
            let (name, count) = line.split_once(" = ").expect("a line is `path = count`");
            (name.to_owned(), count.parse().expect("a count is a number"))
        });
        Self(counts.collect())
    }

    /// Replaces the committed counts.
    pub fn write(counted: &[(&str, u64)]) {
        let mut text = HEADER.to_owned();
        for (name, count) in counted {
            writeln!(text, "{name} = {count}").expect("a string can be written to");
        }
        fs::write(Self::file(), text).expect("the baseline can be written");
    }

    /// Prints the counts beside the committed ones; whether none grew too much.
    pub fn compare(&self, counted: &[(&str, u64)]) -> bool {
        println!("\n### Beyond the bare handler\n");
        println!("| path | instructions | baseline | |");
        println!("|---|---|---|---|");
        let mut within = true;
        for (name, count) in counted {
            let known = self.0.iter().find(|(known, _)| known == name).map(|(_, count)| *count);
            let baseline = known.expect("the baseline has every path");
            let verdict = if count * 100 > baseline * (100 + TOLERATED) {
                within = false;
                "**grown too much**"
            } else if count * (100 + TOLERATED) < baseline * 100 {
                "lower the baseline"
            } else {
                "as before"
            };
            println!("| {name} | {count} | {baseline} | {verdict} |");
        }
        within
    }
}
