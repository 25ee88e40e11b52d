//! Faults of the disk that a SQLite file is on, and of other programs that use the file.

use std::{
    io::Read as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use test_servers::{Disk, SlowDisk};

use super::{Row, Scene};
use crate::{lock, service::Access};

pub(super) fn rows() -> Vec<Row> {
    let row = |fault, scene| Row {
        store: "SQLite",
        fault,
        rate: None,
        pool: 0,
        loses_writes: false,
        has_copies: false,
        scene,
    };
    vec![
        row("disk full", full),
        row("disk hangs", || slow(None)),
        row("disk slow: 300 ms each sync", || slow(Some(Duration::from_millis(300)))),
        row("file locked by another program", locked),
    ]
}

fn scene(
    file: PathBuf,
    begin: impl Fn() + Send + Sync + 'static,
    end: impl Fn() + Send + Sync + 'static,
) -> Scene {
    Scene {
        access: Access::Sqlite(file),
        ports: Vec::new(),
        begin: Box::new(begin),
        end: Box::new(end),
        is_repeatable: true,
    }
}

fn full() -> Scene {
    let disk = Arc::new(Disk::small());
    let full = Arc::clone(&disk);
    scene(disk.path().join("idempotency.db"), move || full.fill(), move || disk.free())
}

/// A disk that hangs, or one that works for a moment after each pause.
fn slow(pause: Option<Duration>) -> Scene {
    let disk = Arc::new(SlowDisk::new());
    let slow = Arc::clone(&disk);
    scene(disk.path().join("idempotency.db"), move || slow.pause(pause), move || disk.resume())
}

/// Begins to write to the file, says so, and ends with its input.
const WRITE: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
database.execute('BEGIN IMMEDIATE')
print('locked', flush=True)
sys.stdin.read()
";

/// Another program begins to write, and does not end.
fn locked() -> Scene {
    let disk = Disk::new();
    let file = disk.path().join("idempotency.db");
    let other = Arc::new(Mutex::new(None));
    let (held, path) = (Arc::clone(&other), file.clone());
    scene(
        file,
        move || {
            let mut program = Command::new("python3");
            program.args(["-c", WRITE]).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut program = program.spawn().expect("it starts");
            let mut said = [0; 6];
            let output = program.stdout.as_mut().expect("it is piped");
            output.read_exact(&mut said).expect("it gets its turn");
            *lock(&other) = Some(program);
        },
        move || {
            let _alive = &disk;
            if let Some(mut program) = lock(&held).take() {
                drop(program.stdin.take());
                assert!(program.wait().expect("it ends").success());
            }
        },
    )
}
