//! The README's `console` session: its commands give what it shows.

use std::{fmt::Write as _, process::Command};

use test_servers::Postgres;

use crate::payments;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readmes_curl_session_gives_what_it_shows() {
    let postgres = Postgres::start();
    let service = payments(&postgres.url(), &[]);
    let (mut shown, mut given) = (String::new(), String::new());
    for block in README.split("```console\n").skip(1) {
        let session = block.split("```").next().expect("a split has a first part");
        for entry in session.split("$ ").skip(1) {
            // A command goes on after a backslash at the end of its line.
            let is_end = |(at, _): &(usize, &str)| !entry[..*at].ends_with('\\');
            let (end, _) = entry.match_indices('\n').find(is_end).expect("a command's line ends");
            let (command, output) = entry.split_at(end);
            let run = command.replace("127.0.0.1:3000", &service.address());
            // A shell, because quotes and continued lines are the shell's.
            let result = Command::new("sh").args(["-c", &run]).env("NO_PROXY", "*").output();
            let result = result.expect("`sh` and `curl` run");
            assert!(result.status.success(), "{run}: {result:?}");
            let result = String::from_utf8_lossy(&result.stdout).replace('\r', "");
            writeln!(shown, "$ {command}\n{}", output.trim()).expect("a string takes all");
            writeln!(given, "$ {command}\n{}", result.trim()).expect("a string takes all");
        }
    }
    assert_eq!(shown.matches("$ curl").count(), 4);
    assert_eq!(normal(&shown), normal(&given));
}

/// The session with a number for each UUID, the same for the same one, and without dates.
fn normal(session: &str) -> String {
    let mut ids = Vec::new();
    let mut normal = String::new();
    for line in session.lines().filter(|line| !line.starts_with("date: ")) {
        for part in line.split_inclusive(|c: char| !c.is_ascii_hexdigit() && c != '-') {
            let word = part.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
            if uuid::Uuid::try_parse(word).is_err() {
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
