//! A browser: the program that drives it, and its command-line arguments.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::directory::Directory;
use crate::program;
use crate::server::{Kind, Server};

/// A `ChromeDriver`: it starts a Chromium for each `WebDriver` session, and ends it with the
/// session.
#[derive(Debug)]
pub struct ChromeDriver {
    server: Server<Options>,
    browsers: AtomicU32,
}

#[derive(Debug)]
struct Options;

impl ChromeDriver {
    /// A driver without sessions.
    #[must_use]
    pub fn start() -> Self {
        let server = Server::start(Options, Directory::new(None), None);
        Self { server, browsers: AtomicU32::new(0) }
    }

    /// `http://127.0.0.1:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The arguments for starting another Chromium: no window, separate files, and ending with the
    /// driver. `http://page.test` is this machine, by a name that browsers do not trust as they do
    /// `localhost`.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let number = self.browsers.fetch_add(1, Ordering::Relaxed);
        let files = self.server.directory().path().join(format!("browser-{number}"));
        vec![
            "--headless".to_owned(),
            "--host-resolver-rules=MAP page.test 127.0.0.1".to_owned(),
            // Its sandbox does not work as root, which the tests run as; it only sees their pages.
            "--no-sandbox".to_owned(),
            // Through a pipe it notices when the driver has gone.
            "--remote-debugging-pipe".to_owned(),
            format!("--user-data-dir={}", files.display()),
        ]
    }
}

impl Kind for Options {
    fn program(&self) -> PathBuf {
        program::find("chromedriver", "chromium-driver")
    }

    fn arguments(&self, port: u16, _: &Directory) -> Vec<String> {
        vec![format!("--port={port}")]
    }

    fn serves(&self, _: u32, directory: &Directory) -> bool {
        directory.log().contains("was started successfully")
    }
}
