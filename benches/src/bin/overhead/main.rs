//! What idempotency costs in the process: `Service::call` on a router, no sockets, as ratios to
//! the bare handler.
//!
//! All contenders take turns, batch by batch, so that whatever else the machine does hits all of
//! them. A ratio compares two batches of one round; printed are the median over all rounds and,
//! in brackets, the quartiles. Requests are built before the clock starts; reading and dropping
//! the response counts.

mod load;

use std::time::Instant;

use benches::{Contender, Handler, program, request::order, table};
use load::{Kind, Load};

/// One table: what all contenders go through.
#[derive(Clone, Copy)]
struct Scenario {
    workers: usize,
    handler: Handler,
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
    handler: Handler::Returns,
    body_bytes: 100,
    stored_keys: 0,
    epochs: 5,
    rounds: 40,
    batch: 200,
};

const HANDLERS: [Handler; 2] = [Handler::Returns, Handler::Awaits];

/// Replays pick among at least these many keys.
const REPLAYED_KEYS: usize = 2_000;

fn main() {
    let scenarios = program::arguments("overhead [--quick]", |arguments| match arguments {
        [] => Some(full()),
        ["--quick"] => Some(quick()),
        _ => None,
    });
    let began = Instant::now();
    for scenario in scenarios {
        run(scenario);
    }
    eprintln!("{} s", began.elapsed().as_secs());
}

/// About 20 seconds: small bodies, empty stores.
fn quick() -> Vec<Scenario> {
    let each = |workers| {
        HANDLERS.map(|handler| Scenario { workers, handler, epochs: 4, rounds: 14, ..BASE })
    };
    [1, 2].into_iter().flat_map(each).collect()
}

/// A few minutes.
fn full() -> Vec<Scenario> {
    let each = |workers| {
        HANDLERS.map(|handler| Scenario { workers, handler, epochs: 8, rounds: 50, ..BASE })
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
    let Scenario { workers, handler, body_bytes, stored_keys, .. } = scenario;
    let plural = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let title = format!(
        "{}, {}, handler {}, {body_bytes} B bodies, {stored_keys} keys stored",
        plural(workers, "worker"),
        plural(workers, "client"),
        if handler == Handler::Awaits { "awaits" } else { "does not await" },
    );
    let runtime = program::runtime(workers);
    // In a task of its own, so that the clients start on workers.
    let measured = runtime.spawn(measure(scenario));
    let (contenders, nanos) = runtime.block_on(measured).expect("measuring does not panic");
    print(&title, &contenders, &nanos);
}

/// The time of one request, in nanoseconds, by contender, kind and round.
type Nanos = Vec<Vec<Vec<f64>>>;

async fn measure(scenario: Scenario) -> (Vec<Contender>, Nanos) {
    let mut contenders = Vec::from(Contender::ALL);
    contenders.retain(|contender| contender.scales() || scenario.stored_keys <= 10_000);
    let mut nanos: Nanos = vec![vec![Vec::new(); Kind::ALL.len()]; contenders.len()];
    let body = order(scenario.body_bytes);
    for _ in 0..scenario.epochs {
        let mut loads = Vec::new();
        for contender in contenders.clone() {
            let stored = scenario.stored_keys.max(REPLAYED_KEYS);
            loads.push(Load::new(contender, scenario.handler, &body, stored).await);
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
    (contenders, nanos)
}

fn print(title: &str, contenders: &[Contender], nanos: &Nanos) {
    let [first, replay, hot, no_key] = Kind::ALL.map(Kind::name);
    table::head(title, &["", first, replay, hot, no_key]);
    for (contender, by_kind) in contenders.iter().zip(nanos) {
        let cells = by_kind.iter().zip(&nanos[0]).map(|(times, bare)| {
            if *contender == Contender::Bare {
                let [low, median, high] = table::quartiles(times.iter().copied());
                return format!("{median:.0} ns ({low:.0}–{high:.0})");
            }
            let ratios = times.iter().zip(bare).map(|(time, bare)| time / bare);
            let [low, median, high] = table::quartiles(ratios);
            format!("**{median:.2}** ({low:.2}–{high:.2})")
        });
        table::row(std::iter::once(contender.name().to_owned()).chain(cells));
    }
}
