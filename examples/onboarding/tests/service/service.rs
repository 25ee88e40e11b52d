//! The real service in its own process, and a client that speaks HTTP to it.

use std::{
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

pub(crate) const INVITE: &str = "/downstream-entities/onboarding/invite";
pub(crate) const ADD: &str = "/downstream-entities/onboarding/add";
pub(crate) const ENTITIES: &str = "/downstream-entities";
pub(crate) const MEMBERS: &str = "/v1/members";

/// Only a bug keeps a test waiting for this long.
const PATIENCE: Duration = Duration::from_mins(1);

/// The log line that says that a handler has begun.
pub(crate) const BEGUN: &str = "calling the downstream system";

/// The service's program with a clean environment.
pub(crate) fn program(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onboarding"));
    for variable in [
        "ONBOARDING_ADDR",
        "ONBOARDING_ADMIN_TOKEN",
        "ONBOARDING_LATENCY",
        "ONBOARDING_LEASE",
        "ONBOARDING_NEAR_CACHE",
        "ONBOARDING_STORE",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command.envs(variables.iter().copied());
    command.kill_on_drop(true);
    command
}

/// Asserts that the service ends at once with one line on standard error, and returns that line.
pub(crate) async fn refusal(mut command: Command) -> String {
    let ended = timeout(PATIENCE, command.output()).await.expect("the service does not go on");
    let Output { status, stdout, stderr } = ended.expect("the service starts");
    assert_eq!(status.code(), Some(1));
    assert!(stdout.is_empty());
    let stderr = String::from_utf8(stderr).expect("it is text");
    let line = stderr.strip_suffix('\n').expect("the line ends");
    assert!(line.starts_with("onboarding: ") && !line.contains('\n'), "{stderr}");
    line.to_owned()
}

/// A running service on a free port; killed when dropped.
pub(crate) struct Service {
    /// `127.0.0.1:port`.
    pub(crate) addr: String,
    client: Client,
    child: Child,
    log: watch::Receiver<String>,
}

impl Service {
    /// Starts the service and waits until it listens.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = program(variables)
            .env("ONBOARDING_ADDR", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the service starts");
        let (sender, log) = watch::channel(String::new());
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|log| *log = format!("{log}{line}\n"));
            }
        });
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut stdout = stdout.lines();
        let first = timeout(PATIENCE, stdout.next_line()).await;
        let first = first.expect("the service comes up").expect("it can be read");
        let first = first.unwrap_or_else(|| panic!("the service ended: {}", *log.borrow()));
        let addr = first.strip_prefix("listening on http://").expect("the line says where");
        let client = Client::builder().no_proxy().timeout(PATIENCE).build();
        let client = client.expect("its settings are valid");
        Self { addr: addr.to_owned(), client, child, log }
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.addr))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.addr))
    }

    /// What `path` lists.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        json(send(self.get(path).bearer_auth("acme")).await).await
    }

    /// Sends a POST, waits until its handler has begun, and cuts the connection.
    pub(crate) async fn cut_off(&self, path: &str, key: &str, body: &str) {
        let mut connection = TcpStream::connect(&self.addr).await.expect("it listens");
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nidempotency-key: {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        connection.write_all(request.as_bytes()).await.expect("it reads");
        self.logged(BEGUN).await;
    }

    /// Waits until the service has logged `text`.
    pub(crate) async fn logged(&self, text: &str) {
        let mut log = self.log.clone();
        let found = timeout(PATIENCE, log.wait_for(|log| log.contains(text))).await;
        assert!(matches!(found, Ok(Ok(_))), "there is no {text:?}: {}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends a signal, such as `TERM`, as `kill` does.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let kill = Command::new("kill").args(["-s", name, &pid]).status().await;
        assert!(kill.expect("`kill` runs").success());
    }

    /// Waits until the service has ended; returns its status and its whole log.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("the service ends").expect("it can be waited for");
        // The sender is dropped at the end of the stream.
        while self.log.changed().await.is_ok() {}
        (status, self.log())
    }
}

/// Sends a request whose response must come.
pub(crate) async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("the service answers")
}

pub(crate) async fn json<T: serde::de::DeserializeOwned>(response: Response) -> T {
    response.json().await.expect("the body is JSON")
}

/// A header of a response, or an empty string.
pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("it is ASCII"))
}

pub(crate) fn is_replay(response: &Response) -> bool {
    response.headers().contains_key("idempotent-replayed")
}

/// A fresh UUID key.
pub(crate) fn fresh_key() -> String {
    uuid::Uuid::new_v4().to_string()
}
