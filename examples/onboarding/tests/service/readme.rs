//! The README's `console` session: its commands give what it shows.

use std::fmt::Write as _;

use tokio::process::Command;

use crate::service::Service;

const README: &str = include_str!("../../../../README.md");

/// What the README's service says first: it runs on its default address.
const ADDRESS: &str = "127.0.0.1:3000";

#[tokio::test]
async fn the_readmes_curl_session_gives_what_it_shows() {
    let service = Service::start(&[]).await;
    let (mut shown, mut given) = (String::new(), String::new());
    for (command, output) in curl_commands(README) {
        let run = command.replace(ADDRESS, &service.addr);
        // A shell, because quotes and continued lines are the shell's.
        let result = Command::new("sh").args(["-c", &run]).env("NO_PROXY", "*").output().await;
        let result = result.expect("`sh` and `curl` run");
        assert!(result.status.success(), "{run}: {}", String::from_utf8_lossy(&result.stderr));
        write!(shown, "$ {command}\n{output}\n").expect("a string takes all");
        let result = String::from_utf8_lossy(&result.stdout).replace('\r', "");
        write!(given, "$ {command}\n{}\n", result.trim_end()).expect("a string takes all");
    }
    assert!(!shown.is_empty(), "the README has no `$ curl` line");
    assert_eq!(normal(&shown), normal(&given));
}

/// Each `$ curl` command of the `console` blocks, with the output below it.
fn curl_commands(markdown: &str) -> Vec<(String, String)> {
    let blocks = markdown.split("```console\n").skip(1);
    let session: String =
        blocks.flat_map(|block| ["\n", block.split("```").next().unwrap_or_default()]).collect();
    let mut commands = Vec::new();
    for entry in session.split("\n$ ").filter(|entry| entry.starts_with("curl ")) {
        // A command goes on after a backslash at the end of its line.
        let mut end = 0;
        for line in entry.split_inclusive('\n') {
            end += line.len();
            if !line.ends_with("\\\n") {
                break;
            }
        }
        let (command, output) = entry.split_at(end);
        commands.push((command.trim_end().to_owned(), output.trim_end().to_owned()));
    }
    commands
}

/// The session with a number for each id, the same for the same id, and with no dates.
fn normal(session: &str) -> String {
    let mut ids = Vec::new();
    let mut normal = String::new();
    for line in session.lines() {
        let line = if line.starts_with("date: ") { "date: …" } else { line };
        for part in line.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
            let word = part.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
            // Ids have 32 digits; no key, length or status has.
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
