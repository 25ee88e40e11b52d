//! What idempotency costs in the process: `Service::call` on a router, no sockets, as ratios to
//! the bare handler.
//!
//! All contenders take turns, batch by batch, so that whatever else the machine does hits all of
//! them. A ratio compares two batches of one round; printed are the median over all rounds and,
//! in brackets, the quartiles. Requests are built before the clock starts; reading and dropping
//! the response counts.

mod drive;

use std::time::Instant;

use bench_contenders::{self as contenders, Order};
use drive::{Kind, Load};

/// One table: what all contenders go through.
#[derive(Clone, Copy)]
struct Scenario {
    workers: usize,
    awaits: bool,
    body_bytes: usize,
    stored_keys: usize,
    /// Fresh services per contender; each starts with the stored keys and nothing else.
    epochs: usize,
    rounds: usize,
    /// Requests of one client in one round.
    batch: usize,
}

const BASE: Scenario = Scenario {
    workers: 1,
    awaits: false,
    body_bytes: 100,
    stored_keys: 0,
    epochs: 5,
    rounds: 40,
    batch: 200,
};

/// Replays pick among at least these many keys.
const REPLAYED_KEYS: usize = 2_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scenarios = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => full(),
        ["--quick"] => quick(),
        _ => {
            eprintln!("usage: benches/run overhead [--quick]");
            std::process::exit(2);
        }
    };
    let began = Instant::now();
    for scenario in scenarios {
        run(scenario);
    }
    eprintln!("{} s", began.elapsed().as_secs());
}

/// About 20 seconds: small bodies, empty stores.
fn quick() -> Vec<Scenario> {
    let each = |workers| {
        [false, true].map(|awaits| Scenario { workers, awaits, epochs: 4, rounds: 14, ..BASE })
    };
    [1, 2].into_iter().flat_map(each).collect()
}

/// A few minutes.
fn full() -> Vec<Scenario> {
    let each = |workers| {
        [false, true].map(|awaits| Scenario { workers, awaits, epochs: 8, rounds: 50, ..BASE })
    };
    let mut scenarios: Vec<_> = [1, 2].into_iter().flat_map(each).collect();
    // Fewer large ones: what is stored stays within the machine's memory.
    scenarios.push(Scenario { body_bytes: 4 << 10, epochs: 8, rounds: 40, batch: 100, ..BASE });
    scenarios.push(Scenario { body_bytes: 64 << 10, epochs: 8, rounds: 40, batch: 20, ..BASE });
    scenarios.push(Scenario { stored_keys: 10_000, epochs: 4, rounds: 60, ..BASE });
    scenarios.push(Scenario { stored_keys: 1_000_000, epochs: 1, rounds: 200, ..BASE });
    scenarios
}

fn run(scenario: Scenario) {
    let Scenario { workers, awaits, body_bytes, stored_keys, .. } = scenario;
    let plural = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let handler = if awaits { "handler awaits" } else { "handler does not await" };
    println!(
        "\n### {}, {}, {handler}, {body_bytes} B bodies, {stored_keys} keys stored\n",
        plural(workers, "worker"),
        plural(workers, "client"),
    );
    let runtime = match workers {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()
        }
    }
    .expect("a runtime can be built");
    // In a task of its own, so that the clients start on workers.
    let measured = runtime.spawn(measure(scenario));
    let (names, nanos) = runtime.block_on(measured).expect("measuring does not panic");
    print(&names, &nanos);
}

/// The time of one request, in nanoseconds, by contender, kind and round.
type Nanos = Vec<Vec<Vec<f64>>>;

async fn measure(scenario: Scenario) -> (Vec<&'static str>, Nanos) {
    let mut names = Vec::new();
    let mut nanos: Nanos = Vec::new();
    for _ in 0..scenario.epochs {
        let mut contenders = contenders::all(scenario.awaits);
        contenders.retain(|contender| contender.scales || scenario.stored_keys <= 10_000);
        names = contenders.iter().map(|contender| contender.name).collect();
        nanos.resize(names.len(), vec![Vec::new(); Kind::ALL.len()]);
        let body = body(scenario.body_bytes);
        let mut loads = Vec::new();
        for contender in contenders {
            let stored = scenario.stored_keys.max(REPLAYED_KEYS);
            loads.push(Load::new(contender, &body, stored).await);
        }
        // The first rounds warm caches, branch predictors and the allocator.
        for round in 0..scenario.rounds + 3 {
            for (column, kind) in Kind::ALL.into_iter().enumerate() {
                for turn in 0..loads.len() {
                    let turn = (round + turn) % loads.len();
                    let time = loads[turn].time(kind, scenario.workers, scenario.batch).await;
                    if round >= 3 {
                        nanos[turn][column].push(time);
                    }
                }
            }
        }
    }
    (names, nanos)
}

fn body(bytes: usize) -> bytes::Bytes {
    let json = |note: usize| {
        let order = Order { id: 1 << 48, note: "n".repeat(note) };
        serde_json::to_vec(&order).expect("an order is JSON")
    };
    json(bytes - json(0).len()).into()
}

fn print(names: &[&str], nanos: &Nanos) {
    let kinds = Kind::ALL.map(Kind::name);
    println!("| | {} |", kinds.join(" | "));
    println!("|---|{}", "---|".repeat(kinds.len()));
    for (name, by_kind) in names.iter().zip(nanos) {
        let cells: Vec<String> = by_kind
            .iter()
            .zip(&nanos[0])
            .map(|(times, bare)| {
                if *name == names[0] {
                    let [low, median, high] = quartiles(times.clone());
                    return format!("{median:.0} ns ({low:.0}–{high:.0})");
                }
                let ratios = times.iter().zip(bare).map(|(time, bare)| time / bare).collect();
                let [low, median, high] = quartiles(ratios);
                format!("**{median:.2}** ({low:.2}–{high:.2})")
            })
            .collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}
