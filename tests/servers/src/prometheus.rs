//! A Prometheus that scrapes the targets that a test names.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::directory::Directory;
use crate::program;
use crate::server::{Kind, Server, lifecycle};

/// A Prometheus that scrapes its targets every second.
#[derive(Debug)]
pub struct Prometheus(Server<Options>);

#[derive(Debug)]
struct Options {
    targets: Vec<(String, SocketAddr)>,
    rules: String,
}

impl Prometheus {
    /// Scrapes `/metrics` of `targets`, each as the job with its name, and evaluates alert rules
    /// (the text of a rules file).
    #[must_use]
    pub fn start(targets: &[(&str, SocketAddr)], rules: &str) -> Self {
        let targets = targets.iter().map(|(job, address)| ((*job).to_owned(), *address)).collect();
        let options = Options { targets, rules: rules.to_owned() };
        Self(Server::start(options, Directory::new(None), None))
    }

    /// `http://127.0.0.1:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

lifecycle!(Prometheus);

/// What `promtool` says about a file of unit tests for alert rules.
///
/// # Errors
///
/// Returns an error if a test fails: what `promtool` prints.
pub fn test_rules(tests: &Path) -> Result<String, String> {
    let promtool = program::find("promtool", "prometheus");
    program::output(Command::new(promtool).args(["test", "rules"]).arg(tests))
}

impl Kind for Options {
    const STOP: Option<Signal> = Some(Signal::TERM);

    fn program(&self) -> PathBuf {
        program::find("prometheus", "prometheus")
    }

    fn arguments(&self, port: u16, directory: &Directory) -> Vec<String> {
        let Self { targets, rules } = self;
        let path = |name: &str| directory.path().join(name).display().to_string();
        let mut text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{:?}]\n\
             scrape_configs:\n",
            path("rules.yml")
        );
        for (job, address) in targets {
            let _ = writeln!(
                text,
                "- {{job_name: {job:?}, static_configs: [{{targets: [{:?}]}}]}}",
                address.to_string()
            );
        }
        let write = |name, text: &str| {
            fs::write(directory.path().join(name), text)
                .expect("the server's directory is writable");
        };
        write("prometheus.yml", &text);
        write("rules.yml", rules);
        vec![
            format!("--config.file={}", path("prometheus.yml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ]
    }

    fn serves(&self, _: u32, directory: &Directory) -> bool {
        directory.log().contains("Server is ready to receive web requests")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_noticed() {
        Prometheus::start(&[], "groups: []").0.assert_notices_a_taken_port();
    }
}
