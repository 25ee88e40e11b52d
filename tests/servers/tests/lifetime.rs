//! Servers live as long as they should, and no longer: what a drop, the end of a thread and the
//! death of the whole process leave behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use test_servers::{PgBouncer, PoolMode, Postgres, Redis};

/// Checks until the condition holds: a process that is not a child gives no sign.
fn until(mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_mins(1), "it does not come to be so");
        thread::sleep(Duration::from_millis(10));
    }
}

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// Whether a process was started with this argument.
fn runs(argument: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|arguments| arguments.split(|&byte| byte == 0).any(|it| it == argument.as_bytes()))
}

#[test]
fn a_killed_test_process_leaves_no_server_and_no_file() {
    let mut hold = Command::new(env!("CARGO_BIN_EXE_hold")).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(hold.stdout.take().unwrap()).lines().map(Result::unwrap);
    let directories = [lines.next().unwrap(), lines.next().unwrap()].map(PathBuf::from);
    let addresses: Vec<SocketAddr> =
        lines.next().unwrap().split(' ').map(|address| address.parse().unwrap()).collect();
    assert_eq!(addresses.len(), 3);
    assert!(directories.iter().all(|directory| directory.is_dir()));
    assert!(addresses.iter().all(|&address| listens(address)));
    let browser = lines.next().unwrap();
    assert!(runs(&browser));

    hold.kill().unwrap();
    hold.wait().unwrap();

    until(|| !addresses.iter().any(|&address| listens(address)));
    until(|| !runs(&browser));
    until(|| !directories[0].parent().unwrap().exists());
    assert!(!directories[1].exists());
}

#[test]
fn a_dropped_server_is_gone_with_its_files() {
    let redis = Redis::start();
    let postgres = Postgres::start();
    let pgbouncer = PgBouncer::start(&postgres, PoolMode::Session);
    let addresses = [redis.address(), postgres.address(), pgbouncer.address()];
    let directory = postgres.socket_directory().to_owned();
    assert!(addresses.iter().all(|&address| listens(address)));
    assert!(directory.is_dir());

    drop((pgbouncer, postgres, redis));

    assert!(!addresses.iter().any(|&address| listens(address)));
    assert!(!directory.exists());
}

#[test]
fn a_dropped_server_leaves_no_disk_mounted() {
    let postgres = Postgres::start_on_small_disk(&[]);
    let disk = format!(" {} ", postgres.socket_directory().join("data").display());
    let is_mounted = || fs::read_to_string("/proc/self/mounts").unwrap().contains(&disk);
    assert!(is_mounted());
    drop(postgres);
    assert!(!is_mounted());
}

#[test]
fn a_paused_server_can_be_dropped() {
    let postgres = Postgres::start();
    let directory = postgres.socket_directory().to_owned();
    postgres.pause();
    drop(postgres);
    assert!(!directory.exists());
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let start = || (Redis::start(), fs::read_link("/proc/thread-self").unwrap());
    let (redis, task) = thread::spawn(start).join().unwrap();
    let task = PathBuf::from("/proc").join(task);
    until(|| !task.exists());
    assert_eq!(redis.cli(&["PING"]), "PONG");
}
