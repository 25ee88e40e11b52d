//! Faults of one PostgreSQL server, and of a pooler in front of it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use test_servers::{Fault, PgBouncer, PoolMode, Postgres, Proxy};

use super::{Change, Row, Scene, on_the_way};
use crate::{lock, service::Access, wire::PostgresSession};

pub(super) fn rows() -> Vec<Row> {
    let row = |fault, scene| Row {
        store: "PostgreSQL",
        fault,
        rate: None,
        pool: 10,
        loses_writes: false,
        has_copies: false,
        scene,
    };
    let behind = |fault, scene| Row { store: "PostgreSQL behind PgBouncer", ..row(fault, scene) };
    vec![
        row("killed, restarted", killed),
        Row { has_copies: true, ..row("killed, restarted; near cache", killed) },
        Row {
            rate: Some(20),
            ..row("killed, restarted, connecting takes 1 s", || {
                // Only from the restart on: the service has to be up before that.
                let postgres = Postgres::start();
                simple(
                    postgres,
                    |it| {
                        admin(it).execute(SLOW).expect("it can be set");
                        it.kill();
                    },
                    Postgres::restart,
                )
            })
        },
        row("stopped, continued", || simple(Postgres::start(), Postgres::pause, Postgres::resume)),
        row("refusing: connections are reset", || way(Fault::Reset)),
        row("silent", || way(Fault::Stall)),
        row("slow: 300 ms each way", || way(Fault::Latency(Duration::from_millis(300)))),
        row("full", full),
        row("table locked", locked),
        row("standby gone", || {
            simple(Postgres::start(), |it| standby(it, "'nobody'"), |it| standby(it, "''"))
        }),
        row("connections used up by others", used_up),
        row("failover to a synchronous standby", failover),
        behind("server killed, restarted", || {
            let (postgres, pooler) = behind_pooler();
            let (killed, access, port) = (Arc::clone(&postgres), access(&pooler), port(&pooler));
            Scene {
                access,
                ports: vec![port],
                begin: Box::new(move || killed.kill()),
                end: Box::new(move || {
                    postgres.restart();
                    while pooler.try_execute("SELECT 1").is_err() {
                        thread::sleep(Duration::from_millis(50));
                    }
                }),
                is_repeatable: true,
            }
        }),
        behind("pooler killed, restarted", || {
            let (postgres, pooler) = behind_pooler();
            let pooler = Arc::new(pooler);
            let (killed, access, port) = (Arc::clone(&pooler), access(&pooler), port(&pooler));
            Scene {
                access,
                ports: vec![port],
                begin: Box::new(move || killed.kill()),
                end: Box::new(move || {
                    let _alive = &postgres;
                    pooler.restart();
                }),
                is_repeatable: true,
            }
        }),
    ]
}

/// For every session from the next start on.
const SLOW: &str = "ALTER SYSTEM SET pre_auth_delay = 1";

fn killed() -> Scene {
    simple(Postgres::start(), Postgres::kill, Postgres::restart)
}

fn behind_pooler() -> (Arc<Postgres>, PgBouncer) {
    let postgres = Arc::new(Postgres::start());
    // How long it refuses everybody after it could not reach the server: 15 s by default.
    let retry = ["server_login_retry = 1"];
    let pooler = PgBouncer::start_with(&postgres, PoolMode::Transaction, &retry);
    (postgres, pooler)
}

fn access(pooler: &PgBouncer) -> Access {
    Access::Pooled(pooler.url())
}

fn port(pooler: &PgBouncer) -> u16 {
    pooler.address().port()
}

fn simple(postgres: Postgres, begin: fn(&Postgres), end: fn(&Postgres)) -> Scene {
    let postgres = Arc::new(postgres);
    let change = |change: fn(&Postgres)| -> Change {
        let postgres = Arc::clone(&postgres);
        Box::new(move || change(&postgres))
    };
    Scene {
        access: Access::Postgres(postgres.url()),
        ports: vec![postgres.address().port()],
        begin: change(begin),
        end: change(end),
        is_repeatable: true,
    }
}

fn way(fault: Fault) -> Scene {
    let postgres = Postgres::start();
    let proxy = Proxy::start(postgres.address());
    let access = Access::Postgres(postgres.url_through(&proxy));
    on_the_way(access, postgres.address().port(), proxy, fault, postgres)
}

fn socket(postgres: &Postgres) -> PathBuf {
    postgres.socket_directory().join(format!(".s.PGSQL.{}", postgres.address().port()))
}

fn admin(postgres: &Postgres) -> PostgresSession {
    PostgresSession::connect(&socket(postgres)).expect("the server takes a session")
}

/// The server only switches to the next WAL file once there is something in this one.
const NEXT_LOG_FILE: &str =
    "SELECT pg_switch_wal() FROM pg_logical_emit_message(false, 'outage', 'any')";

/// Without room for its WAL the server ends; once there is room it is started again.
fn full() -> Scene {
    simple(
        Postgres::start_on_small_disk(&[]),
        |postgres| {
            // Before the disk is full: after that, nothing the session needs could be created.
            let mut session = admin(postgres);
            postgres.fill_disk();
            // WAL files created earlier are used up first. The process that needs a new one panics;
            // it may be this very session.
            while session.execute(NEXT_LOG_FILE).is_ok() {}
            postgres.await_end();
        },
        |postgres| {
            postgres.free_disk();
            postgres.restart();
        },
    )
}

fn standby(postgres: &Postgres, names: &str) {
    let mut session = admin(postgres);
    let set = format!("ALTER SYSTEM SET synchronous_standby_names = {names}");
    session.execute(&set).expect("it can be set");
    session.execute("SELECT pg_reload_conf()").expect("it can be read again");
}

fn locked() -> Scene {
    let postgres = Postgres::start();
    let (access, port) = (Access::Postgres(postgres.url()), postgres.address().port());
    let holder = Arc::new(Mutex::new(None));
    let held = Arc::clone(&holder);
    let socket = socket(&postgres);
    Scene {
        access,
        ports: vec![port],
        begin: Box::new(move || {
            let mut session = PostgresSession::connect(&socket).expect("one is free");
            session.execute("BEGIN").expect("a transaction begins");
            session.execute("LOCK TABLE idempotency_keys").expect("the lock is granted");
            *lock(&holder) = Some(session);
        }),
        end: Box::new(move || {
            let _alive = &postgres;
            *lock(&held) = None;
        }),
        is_repeatable: true,
    }
}

/// Others take all of the server's connections, as often as the service comes back.
fn used_up() -> Scene {
    let postgres = Postgres::start_with(&["max_connections=40"]);
    let (access, port) = (Access::Postgres(postgres.url()), postgres.address().port());
    let others = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&others);
    let socket = socket(&postgres);
    Scene {
        access,
        ports: vec![port],
        begin: Box::new(move || take_all(&socket, &mut lock(&others))),
        end: Box::new(move || {
            let _alive = &postgres;
            lock(&taken).clear();
        }),
        is_repeatable: true,
    }
}

fn take_all(socket: &Path, others: &mut Vec<PostgresSession>) {
    // The service is the client on TCP.
    const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE client_port > 0 AND backend_type = 'client backend'";
    let mut first = PostgresSession::connect(socket).expect("one is free");
    loop {
        while let Ok(session) = PostgresSession::connect(socket) {
            others.push(session);
        }
        if first.execute(CUT).expect("it is connected").is_empty() {
            break;
        }
    }
    others.push(first);
}

/// The primary dies and its standby takes its place, at the same address.
fn failover() -> Scene {
    let primary = Arc::new(Postgres::start());
    let replica = primary.standby();
    standby(&primary, "'*'");
    let proxy = Proxy::start(primary.address());
    Scene {
        access: Access::Postgres(primary.url_through(&proxy)),
        ports: vec![primary.address().port(), replica.address().port()],
        begin: Box::new(move || primary.kill()),
        end: Box::new(move || {
            assert_eq!(replica.execute("SELECT pg_promote()"), "t");
            proxy.redirect(replica.address());
        }),
        is_repeatable: false,
    }
}
