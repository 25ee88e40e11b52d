//! How many instructions each path of the library takes, counted by callgrind: a regression shows
//! on a noisy machine too.
//!
//! `benches/run instructions` prints the counts per request, by part, and fails where a path
//! takes more than 5 % over `baseline.toml`. `--update` writes that file anew.

mod baseline;
mod callgrind;
mod path;

use std::process::{Command, ExitCode};

use baseline::Baseline;
use callgrind::Profile;
use path::Path;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(false),
        ["--update"] => compare(true),
        ["run", name] => {
            Path::named(name).run();
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: benches/run instructions [--update]");
            ExitCode::from(2)
        }
    }
}

fn compare(update: bool) -> ExitCode {
    let profiles = Path::ALL.map(|path| (path, profile(path)));
    let (_, bare) = &profiles[0];
    for (path, profile) in &profiles {
        println!("\n### {}: {} instructions per request\n", path.name(), profile.total());
        profile.print(bare);
    }
    let counted: Vec<(&str, u64)> = profiles
        .iter()
        .skip(1)
        .map(|(path, profile)| (path.name(), profile.total().saturating_sub(bare.total())))
        .collect();
    if update {
        Baseline::write(&counted);
    }
    if Baseline::read().compare(&counted) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one path under callgrind, in a process of its own.
fn profile(path: Path) -> Profile {
    let program = std::env::current_exe().expect("this program has a path");
    let output = program.with_file_name(format!("callgrind.{}.out", path.name()));
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--toggle-collect=*callgrind_collects_here*"])
        .arg(format!("--callgrind-out-file={}", output.display()))
        .args([program.as_os_str(), "run".as_ref(), path.name().as_ref()])
        .status()
        .expect("valgrind must be installed");
    assert!(valgrind.success(), "valgrind failed");
    let profile = std::fs::read_to_string(&output).expect("callgrind wrote its output");
    Profile::parse(&profile, path::REQUESTS as u64)
}
