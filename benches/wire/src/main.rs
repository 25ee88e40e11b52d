//! What idempotency costs over loopback HTTP: throughput and latency against the bare handler.
//!
//! Each contender is a server in a process of its own; `wrk` sends the requests, which `load.lua`
//! makes. The contenders take turns, and the table shows the medians over all rounds: throughput as
//! a ratio to the bare handler in the same round, latencies in microseconds.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use bench_contenders as contenders;

/// What the requests of a table do; `load.lua` knows them by these names.
const LOADS: [(&str, &str); 5] = [
    ("no-key", "no key"),
    ("first", "first: every request has a fresh key"),
    ("replay", "replay: a thousand stored keys"),
    ("hot", "replay: all clients, one key"),
    ("mix", "first, one in ten retried"),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => print_tables(9, "1s"),
        ["--quick"] => print_tables(3, "1s"),
        ["serve", name] => serve(name),
        _ => {
            eprintln!("usage: benches/run wire [--quick]");
            std::process::exit(2);
        }
    }
}

fn print_tables(rounds: usize, duration: &str) {
    let names = runtime().block_on(async {
        contenders::all(false).iter().map(|contender| contender.name).collect::<Vec<_>>()
    });
    for (load, title) in LOADS {
        // New servers for every table: each begins with an empty store.
        let servers: Vec<Server> = names.iter().map(|name| Server::start(name)).collect();
        for (name, server) in names.iter().zip(&servers) {
            // Stores what is replayed, and warms up. A peer may refuse a duplicate of a request that
            // still runs.
            let warm_up = server.load(load, "1s");
            assert!(warm_up.errors == 0.0 || !name.starts_with("idempotent-axum"), "{name} failed");
        }
        let mut results = vec![Vec::new(); servers.len()];
        for round in 0..rounds {
            for turn in 0..servers.len() {
                let turn = (round + turn) % servers.len();
                let measured = servers[turn].load(load, duration);
                assert!(measured.errors == 0.0 || load == "mix", "{} failed", names[turn]);
                results[turn].push(measured);
            }
        }
        println!("\n### {title}\n");
        println!("| | throughput | p50 µs | p99 µs | p99.9 µs |");
        println!("|---|---|---|---|---|");
        for (name, measured) in names.iter().zip(&results) {
            let throughput = if *name == names[0] {
                format!("{:.0}/s", median(measured.iter().map(|one| one.throughput)))
            } else {
                let ratios = measured.iter().zip(&results[0]);
                let ratio = median(ratios.map(|(one, bare)| one.throughput / bare.throughput));
                format!("**{ratio:.2}**")
            };
            let latency = [0, 1, 2]
                .map(|at| median(measured.iter().map(|one| one.latencies[at])).to_string());
            println!("| {name} | {throughput} | {} |", latency.join(" | "));
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
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
    process: Child,
    url: String,
}

impl Server {
    fn start(name: &str) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(program)
            .args(["serve", name])
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be run");
        let mut url = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut url).expect("the server prints its address");
        let server = Self { process, url: url.trim().to_owned() };
        let (first, second) = (server.response(), server.response());
        assert_eq!(first == second, name != "bare", "{name} must replay");
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

    /// One run of `wrk`.
    fn load(&self, load: &str, duration: &str) -> Measured {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/load.lua");
        let output = Command::new("wrk")
            .args(["--threads=1", "--connections=32", "--duration", duration])
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
        // Both fail only where the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(name: &str) {
    runtime().block_on(async {
        let contenders = contenders::all(false);
        let contender = contenders.into_iter().find(|contender| contender.name == name);
        let app = contender.expect("a name of a contender").app;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        println!("http://{}/orders", listener.local_addr().expect("it is bound"));
        let listener = tokio::net::TcpListener::from_std(listener).expect("in a runtime");
        axum::serve(listener, app).await.expect("serving does not end");
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built")
}
