//! Runs the curl sessions of a README against the service that it describes.

use std::{fmt::Write as _, process::Command};

/// Where the service of a README listens.
const ADDRESS: &str = "127.0.0.1:3000";

/// Runs the `$ curl` commands in the `console` blocks of `markdown` against the service at
/// `address`, and compares their output with what is written below them. Dates are ignored, and so
/// are ids, as long as equal ones appear in the same places. Returns the number of commands.
///
/// # Panics
///
/// Panics if a command fails, or if its output differs.
#[must_use]
pub fn compare_curl_sessions(markdown: &str, address: &str) -> usize {
    let (mut shown, mut given) = (String::new(), String::new());
    let commands = curl_commands(markdown);
    for (command, output) in &commands {
        let run = command.replace(ADDRESS, address);
        // In a shell, because quotes and continued lines are shell syntax.
        let result = Command::new("sh").args(["-c", &run]).env("NO_PROXY", "*").output();
        let result = result.expect("`sh` and `curl` run");
        assert!(result.status.success(), "{run}: {}", String::from_utf8_lossy(&result.stderr));
        let result = String::from_utf8_lossy(&result.stdout).replace('\r', "");
        writeln!(shown, "$ {command}\n{output}").expect("a string takes all");
        writeln!(given, "$ {command}\n{}", result.trim()).expect("a string takes all");
    }
    assert_eq!(normal(&shown), normal(&given));
    commands.len()
}

/// Each command, with the output below it.
fn curl_commands(markdown: &str) -> Vec<(&str, &str)> {
    let blocks =
        markdown.split("```console\n").skip(1).filter_map(|block| block.split("```").next());
    let entries =
        blocks.flat_map(|block| block.split("$ ").filter(|entry| entry.starts_with("curl ")));
    let commands = entries.map(|entry| {
        // A command continues after a backslash at the end of a line.
        let mut ends = entry.match_indices('\n').filter(|(at, _)| !entry[..*at].ends_with('\\'));
        let end = ends.next().map_or(entry.len(), |(at, _)| at);
        let (command, output) = entry.split_at(end);
        (command, output.trim())
    });
    commands.collect()
}

/// The session with a number for each distinct id, and without dates.
fn normal(session: &str) -> String {
    // With or without hyphens, an id has 32 digits; no other word, length or status has.
    let is_part = |c: char| c.is_ascii_hexdigit() || c == '-';
    let mut ids = Vec::new();
    let mut normal = String::new();
    for line in session.lines().filter(|line| !line.starts_with("date: ")) {
        for part in line.split_inclusive(|c| !is_part(c)) {
            let word = part.trim_end_matches(|c| !is_part(c));
            if word.len() < 32 {
                normal.push_str(part);
                continue;
            }
            let number = ids.iter().position(|id| id == &word).unwrap_or_else(|| {
                ids.push(word);
                ids.len() - 1
            });
            write!(normal, "<{number}>{}", &part[word.len()..]).expect("a string takes all");
        }
        normal.push('\n');
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_its_commands_and_what_they_give() {
        let readme = "text\n```console\n$ curl -i \\\n    a\nHTTP/1.1 200 OK\n\nbody\n$ curl b\n```\n$ curl no\n";
        let commands = curl_commands(readme);
        assert_eq!(commands, [("curl -i \\\n    a", "HTTP/1.1 200 OK\n\nbody"), ("curl b", "")]);
    }

    #[test]
    fn ids_are_compared_by_where_they_stand() {
        let of = |a: &str, b: &str| normal(&format!("date: today\nid {a}, {b}; {a}\n"));
        let [one, two] =
            ["8e03978e-40d5-43e8-bc93-6894a57f9324", "0123456789abcdef0123456789abcdef"];
        assert_eq!(of(one, two), "id <0>, <1>; <0>\n");
        assert_eq!(of(one, two), of(two, one));
        assert_ne!(of(one, two), of(one, one));
    }
}
