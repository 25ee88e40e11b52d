//! Postgres and `PgBouncer`: start, talk, kill, restart, pause.

use std::fs;
use std::net::TcpStream;

use test_servers::{PgBouncer, PoolMode, Postgres};

/// The process ids of the server and of its children.
fn processes(postgres: &Postgres) -> Vec<String> {
    let file = fs::read_to_string(postgres.socket_directory().join("data/postmaster.pid")).unwrap();
    let server = file.lines().next().unwrap().to_owned();
    let children =
        postgres.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
    [server, children].to_vec()
}

fn state(process: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    status.lines().find(|line| line.starts_with("State:")).unwrap().to_owned()
}

#[test]
fn it_executes_sql() {
    let postgres = Postgres::start();
    assert_eq!(postgres.url(), format!("postgres://postgres@{}/postgres", postgres.address()));
    postgres.execute("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    assert_eq!(postgres.execute("SELECT * FROM t ORDER BY a"), "1|x\n2|y");
}

#[test]
#[should_panic(expected = "relation \"nowhere\" does not exist")]
fn a_failing_statement_fails_the_test() {
    Postgres::start().execute("SELECT * FROM nowhere");
}

#[test]
fn a_kill_ends_it_and_a_restart_keeps_what_was_committed() {
    let postgres = Postgres::start();
    let address = postgres.address();
    postgres.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let before = processes(&postgres);
    postgres.kill();
    assert!(TcpStream::connect(address).is_err());
    postgres.restart();
    assert_eq!(postgres.address(), address);
    assert!(processes(&postgres).iter().all(|process| !before.contains(process)));
    assert_eq!(postgres.execute("SELECT a FROM t"), "1");
}

#[test]
fn a_standby_follows_reads_only_and_can_be_promoted() {
    let postgres = Postgres::start();
    postgres.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let standby = postgres.standby();
    assert_eq!(standby.execute("SELECT a, pg_is_in_recovery() FROM t"), "1|t");
    assert_eq!(standby.execute("SHOW transaction_read_only"), "on");
    postgres.kill();
    assert_eq!(standby.execute("SELECT pg_promote()"), "t");
    assert_eq!(standby.execute("INSERT INTO t VALUES (2) RETURNING a"), "2");
}

#[test]
fn a_full_disk_ends_it_and_with_room_it_has_all_that_was_committed() {
    let postgres = Postgres::start_on_small_disk(&[]);
    postgres.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    postgres.fill_disk();
    assert_eq!(postgres.execute("SELECT a FROM t"), "1");
    // There is no room for the next log file.
    let _ = postgres.try_execute("SELECT pg_switch_wal()");
    assert!(postgres.try_execute("INSERT INTO t VALUES (2)").is_err());
    postgres.await_end();
    postgres.free_disk();
    postgres.restart();
    assert_eq!(postgres.execute("SELECT a FROM t"), "1");
}

#[test]
fn settings_reach_the_server() {
    assert_eq!(Postgres::start().execute("SHOW fsync"), "off");
    let postgres = Postgres::start_with(&["fsync=on", "max_connections=7"]);
    assert_eq!(postgres.execute("SHOW fsync"), "on");
    assert_eq!(postgres.execute("SHOW max_connections"), "7");
}

#[test]
fn servers_share_nothing() {
    let (one, other) = (Postgres::start(), Postgres::start());
    one.execute("CREATE TABLE t (a int)");
    assert_eq!(other.execute("SELECT count(*) FROM pg_tables WHERE tablename = 't'"), "0");
}

#[test]
fn all_processes_of_a_paused_server_stand_still_until_it_is_resumed() {
    let postgres = Postgres::start();
    let processes = processes(&postgres);
    postgres.pause();
    assert!(processes.iter().all(|process| state(process).contains("stopped")));
    postgres.resume();
    assert_eq!(postgres.execute("SELECT 1"), "1");
    assert!(!processes.iter().any(|process| state(process).contains("stopped")));
}

#[test]
fn pgbouncer_pools_by_its_mode() {
    let postgres = Postgres::start();
    postgres.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    for mode in [PoolMode::Session, PoolMode::Transaction, PoolMode::Statement] {
        let pgbouncer = PgBouncer::start(&postgres, mode);
        assert_eq!(pgbouncer.execute("SELECT a FROM t"), "1");
        let databases = pgbouncer.admin("SHOW DATABASES");
        assert!(databases.contains(&postgres.address().port().to_string()), "{databases}");
        let pool_mode = pgbouncer
            .admin("SHOW CONFIG")
            .lines()
            .any(|l| l.starts_with(&format!("pool_mode|{mode}|")));
        assert!(pool_mode, "{mode}");
    }
}

#[test]
fn pgbouncer_comes_back_after_a_kill() {
    let postgres = Postgres::start();
    let pgbouncer = PgBouncer::start(&postgres, PoolMode::Transaction);
    pgbouncer.kill();
    assert!(TcpStream::connect(pgbouncer.address()).is_err());
    pgbouncer.restart();
    assert_eq!(pgbouncer.execute("SELECT 1"), "1");
}
