//! A commit whose answer is lost: the caller is told what became of it, and a retry finds the same.
//!
//! In its own process, because the action at a step of a transaction is set process-wide.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use axum::{Router, extract::State, http::StatusCode, routing::post as route};
use idempotent_axum::{Tx, TxError, idempotent};
use idempotent_test_support::{Answer, PATIENCE, alone, fresh_key, post};
use test_servers::{Fault, Postgres, Proxy};

use super::{App, Bank, insert};

const STORE_TIMEOUT: Duration = Duration::from_secs(2);

#[idempotent(wait = "0s")]
async fn pay(
    State(app): State<App>,
    mut tx: Tx,
    reference: String,
) -> Result<(StatusCode, String), TxError> {
    app.runs.add();
    Ok((StatusCode::CREATED, insert(&mut tx, &reference).await?))
}

/// What happens to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// The connection is cut before it is sent.
    CutBefore,
    /// The connection is cut after the server has committed.
    CutAfter,
    /// The network holds it back for a second.
    HeldShort,
    /// The network holds it back for longer than a call may take.
    HeldLong,
    /// The client's connection is cut before it is sent, and the server's stays.
    Vanished,
    /// The server takes longer for it than a call may take.
    Slow,
}

const CASES: [Case; 6] =
    [Case::CutBefore, Case::CutAfter, Case::HeldShort, Case::HeldLong, Case::Vanished, Case::Slow];

struct Rig {
    server: Arc<Postgres>,
    proxy: Arc<Proxy>,
}

/// What is held back, until this is dropped.
type Held = Box<dyn FnOnce()>;

impl Rig {
    /// Makes the next commit fail like this; calling the result lets it continue.
    fn set_up(&self, case: Case) -> Held {
        let (server, proxy) = (Arc::clone(&self.server), Arc::clone(&self.proxy));
        let (point, action): (_, Box<dyn Fn() + Send + Sync>) = match case {
            Case::CutBefore => ("tx-before-commit", Box::new(move || cut(&proxy))),
            Case::CutAfter => (
                "tx-during-commit",
                Box::new(move || {
                    await_rows(&server, 1);
                    cut(&proxy);
                }),
            ),
            Case::HeldShort => (
                "tx-before-commit",
                Box::new(move || {
                    proxy.set(Fault::Stall);
                    let proxy = Arc::clone(&proxy);
                    thread::spawn(move || {
                        thread::sleep(Duration::from_secs(1));
                        proxy.set(Fault::None);
                    });
                }),
            ),
            Case::HeldLong => ("tx-before-commit", Box::new(move || proxy.set(Fault::Stall))),
            Case::Vanished => ("tx-before-commit", Box::new(move || proxy.vanish())),
            Case::Slow => return self.slow_commit(),
        };
        fail::cfg_callback(point, action).expect("the step is known");
        let proxy = Arc::clone(&self.proxy);
        Box::new(move || {
            fail::remove(point);
            // A vanished connection ends, and a held-back commit continues.
            proxy.set(if case == Case::Vanished { Fault::Reset } else { Fault::None });
            proxy.set(Fault::None);
        })
    }

    /// A check that runs at commit and waits for a lock that somebody holds.
    fn slow_commit(&self) -> Held {
        self.server.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
             CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON payments DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION slow()",
        );
        let server = Arc::clone(&self.server);
        let (locked, is_locked) = mpsc::channel();
        let holder = thread::spawn(move || {
            locked.send(()).expect("the test waits");
            server.try_execute("SELECT pg_advisory_lock(1), pg_sleep(600)")
        });
        is_locked.recv().expect("it is on its way");
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1";
        until("the lock is taken", || self.server.execute(locks).trim() == "1");
        let server = Arc::clone(&self.server);
        Box::new(move || {
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks
                 WHERE locktype = 'advisory' AND objid = 1 AND granted
                     AND pid IN (SELECT pid FROM pg_stat_activity WHERE query ~ 'pg_sleep')",
            );
            let ended = holder.join().expect("psql is run");
            assert!(ended.is_err(), "its session is ended");
            server.execute("DROP FUNCTION slow() CASCADE");
        })
    }
}

fn cut(proxy: &Proxy) {
    proxy.set(Fault::Reset);
    proxy.set(Fault::None);
}

fn rows(server: &Postgres) -> usize {
    server.execute("SELECT count(*) FROM payments").trim().parse().expect("a number")
}

fn await_rows(server: &Postgres, count: usize) {
    until("the commit is done", || rows(server) == count);
}

fn until(what: &str, so: impl Fn() -> bool) {
    let since = Instant::now();
    while !so() {
        assert!(since.elapsed() < PATIENCE, "it does not come to be so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn problem(answer: &Answer) -> (u16, String) {
    if answer.status == StatusCode::CREATED {
        return (201, answer.text().to_owned());
    }
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    answer.problem()
}

/// What the caller gets, and how many rows there are in the end.
fn expected(case: Case) -> ((u16, &'static str), usize) {
    match case {
        Case::CutBefore => ((503, "store_unavailable"), 0),
        Case::CutAfter | Case::HeldShort => ((201, "payment 1 of rent"), 1),
        Case::HeldLong => ((503, "store_unavailable"), 1),
        Case::Vanished => ((409, "request_in_progress"), 0),
        Case::Slow => ((409, "request_in_progress"), 1),
    }
}

async fn check(case: Case, is_keyed: bool) {
    let server = Arc::new(Postgres::start());
    let proxy = Arc::new(Proxy::start(server.address()));
    let url = server.url_through(&proxy);
    let routes = Router::new().route("/pay", route(pay));
    let settings = |it: idempotent_axum::Idempotency| it.store_timeout(STORE_TIMEOUT);
    let bank = Bank::open_at(&server, &url, routes, |store| store, settings).await;
    let rig = Rig { server: Arc::clone(&server), proxy };
    let key = fresh_key();
    let ask = || {
        let ask = post("/pay").body("rent");
        if is_keyed { ask.key(&key) } else { ask }
    };
    let ((status, text), rows_in_the_end) = expected(case);

    let release = rig.set_up(case);
    let answer = ask().send(&bank.router).await;
    assert_eq!(problem(&answer), (status, text.to_owned()), "{case:?}, {is_keyed}");
    assert!(!answer.is_replay());
    if is_keyed && case == Case::Slow {
        let duplicate = ask().send(&bank.router).await;
        assert_eq!(problem(&duplicate), (409, "request_in_progress".to_owned()));
    }
    release();
    await_rows(&server, rows_in_the_end);
    until("no transaction is left", || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state ~ 'idle in transaction'";
        server.execute(open).trim() == "0"
    });
    if !is_keyed {
        return;
    }
    // The retries of a client that wants to know.
    let mut retry = ask().send(&bank.router).await;
    while retry.status != StatusCode::CREATED {
        assert!(matches!(retry.status.as_u16(), 409 | 503), "{case:?}: {retry:?}");
        retry = ask().send(&bank.router).await;
    }
    assert_eq!(rows(&server), 1, "{case:?}");
    assert_eq!(bank.app.runs.get(), 2 - rows_in_the_end, "{case:?}");
    assert_eq!(retry.is_replay(), rows_in_the_end == 1, "{case:?}");
    if status == 201 {
        assert_eq!(retry.text(), text);
    }
}

#[test]
fn the_caller_is_told_what_became_of_a_commit_and_a_retry_finds_the_same() {
    alone(async || {
        for case in CASES {
            check(case, true).await;
        }
    });
}

#[test]
fn without_a_key_the_caller_is_told_what_became_of_a_commit() {
    alone(async || {
        for case in CASES {
            check(case, false).await;
        }
    });
}
