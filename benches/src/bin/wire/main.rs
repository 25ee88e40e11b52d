//! What idempotency costs over loopback HTTP: throughput and latency against the bare handler.
//!
//! Each contender is a server in a process of its own; `wrk` sends the requests, which `load.lua`
//! makes. The contenders take turns, and the table shows the medians over all rounds: throughput as
//! a ratio to the bare handler in the same round, latencies in microseconds.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    num::NonZero,
    process::{Child, Command, Stdio},
};

use benches::{Contender, Handler, program, table};
use tokio::net::TcpListener;

/// What the requests of a table do; `load.lua` knows them by these names.
const LOADS: [(&str, &str); 5] = [
    ("no-key", "no key"),
    ("first", "first: every request has a fresh key"),
    ("replay", "replay: a thousand stored keys"),
    ("hot", "replay: all clients, one key"),
    ("mix", "first, one in ten retried"),
];

enum Task {
    Compare { rounds: usize },
    Serve(Contender),
}

fn main() {
    let task = program::arguments("wire [--quick]", |arguments| match arguments {
        [] => Some(Task::Compare { rounds: 9 }),
        ["--quick"] => Some(Task::Compare { rounds: 3 }),
        ["serve", name] => Contender::named(name).map(Task::Serve),
        _ => None,
    });
    match task {
        Task::Compare { rounds } => LOADS.iter().for_each(|load| compare(load, rounds)),
        Task::Serve(contender) => serve(contender),
    }
}

/// Prints the table of one load.
fn compare(&(load, title): &(&str, &str), rounds: usize) {
    // New servers for every table: each begins with an empty store.
    let servers = Contender::ALL.map(Server::start);
    for server in &servers {
        // Stores what is replayed, and warms up. A peer may refuse a duplicate of a request that
        // still runs.
        let failed = server.load(load).errors > 0.0;
        let is_ours = matches!(server.contender, Contender::Ours | Contender::OursWithoutLayer);
        assert!(!failed || !is_ours, "{:?} failed", server.contender);
    }
    let mut results = vec![Vec::new(); servers.len()];
    for round in 0..rounds {
        for turn in 0..servers.len() {
            let turn = (round + turn) % servers.len();
            let measured = servers[turn].load(load);
            let failed = measured.errors > 0.0;
            assert!(!failed || load == "mix", "{:?} failed", servers[turn].contender);
            results[turn].push(measured);
        }
    }
    table::head(title, &["", "throughput", "p50 µs", "p99 µs", "p99.9 µs"]);
    for (server, measured) in servers.iter().zip(&results) {
        let throughput = if server.contender == Contender::Bare {
            format!("{:.0}/s", table::median(measured.iter().map(|one| one.throughput)))
        } else {
            let ratios = measured.iter().zip(&results[0]);
            let ratio = table::median(ratios.map(|(one, bare)| one.throughput / bare.throughput));
            format!("**{ratio:.2}**")
        };
        let [p50, p99, p999] = [0, 1, 2].map(|percentile| {
            table::median(measured.iter().map(|one| one.latencies[percentile])).to_string()
        });
        table::row([server.contender.name().to_owned(), throughput, p50, p99, p999]);
    }
}

/// Requests per second; the latencies that half, 99 % and 99.9 % of the requests stay below.
#[derive(Clone)]
struct Measured {
    throughput: f64,
    latencies: [f64; 3],
    /// Requests that were not answered with 200.
    errors: f64,
}

/// A contender that serves in a process of its own, until it is dropped.
struct Server {
    contender: Contender,
    process: Child,
    url: String,
}

impl Server {
    fn start(contender: Contender) -> Self {
        let mut process = program::again()
            .args(["serve", contender.name()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be run");
        let mut url = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut url).expect("the server prints its address");
        let server = Self { contender, process, url: url.trim().to_owned() };
        let (first, second) = (server.response(), server.response());
        assert_eq!(first == second, contender.replays(), "{contender:?} must replay");
        server
    }

    /// The body of the response to one request, always with the same key.
    fn response(&self) -> String {
        let address = self.url.trim_start_matches("http://").trim_end_matches("/orders");
        let mut stream = TcpStream::connect(address).expect("the server listens");
        let request = "POST /orders HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
            cookie: session=AAAAAAAAAAAAAAAAAAAAAA\r\n\
            idempotency-key: 0b6f1c1e-7a55-4d0c-9a3e-2f4f8f1b8a01\r\n\
            content-type: application/json\r\ncontent-length: 19\r\n\r\n\
            {\"id\":1,\"note\":\"n\"}";
        stream.write_all(request.as_bytes()).expect("the server reads");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("the server answers");
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// One run of `wrk`, for a second.
    fn load(&self, load: &str) -> Measured {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin/wire/load.lua");
        let output = Command::new("wrk")
            .args(["--threads=1", "--connections=32", "--duration=1s"])
            .args(["--script", script, &self.url, "--", load])
            .output()
            .expect("`wrk` must be installed, a Debian package of that name");
        let output = String::from_utf8_lossy(&output.stdout);
        let line = output.lines().find_map(|line| line.strip_prefix("measured "));
        let line = line.unwrap_or_else(|| panic!("no result from wrk:\n{output}"));
        let figures: Vec<f64> =
            line.split(' ').map(|figure| figure.parse().expect("a number")).collect();
        let [throughput, p50, p99, p999, errors] = figures[..] else {
            panic!("not five figures: {line}")
        };
        Measured { throughput, latencies: [p50, p99, p999], errors }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(contender: Contender) {
    let workers = std::thread::available_parallelism().map_or(2, NonZero::get);
    program::runtime(workers.max(2)).block_on(async {
        let router = contender.serve(Handler::Returns).router;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        println!("http://{}/orders", listener.local_addr().expect("it is bound"));
        axum::serve(listener, router).await.expect("serving does not end");
    });
}
