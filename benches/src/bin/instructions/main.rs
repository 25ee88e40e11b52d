//! How many instructions and allocations a request takes, counted by callgrind: a regression shows on
//! a noisy machine too.
//!
//! `benches/run instructions` counts every contender with bodies of 100 B, and fails if a path of
//! the library takes more than `baseline.toml` allows; `--update` writes that file anew. `--all`
//! counts with larger bodies as well, and `--details` shows the instructions by source and function.
//! `--sealing` alone counts what `seal` and `digest_secret` cost on a shared store.
//! An allocation is a call of `malloc` and its like, a call of `realloc` included.
//!
//! Now and then glibc's allocator merges what has been freed, and whether a path pays for that hangs
//! on sizes next to it: some 1,000 instructions, which come and go with one header more, or a longer
//! path to the program. So all that is freed stays in glibc's thread cache here, and nothing is
//! merged. `--merging` leaves the allocator as it is, for a look at the totals that a service has.

mod baseline;
mod callgrind;
mod case;
mod count;

use std::{
    fs,
    process::{Command, ExitCode},
    sync::{Mutex, PoisonError},
    thread,
};

use baseline::Baseline;
use benches::{program, table};
use callgrind::Profile;
use case::{Case, Path, Row, SEALED_SIZES, SIZES};
use count::{Count, aim};

enum Task {
    Seal,
    Compare { all: bool, details: bool, merging: bool, update: bool },
    Run(Case),
}

fn main() -> ExitCode {
    const OPTIONS: [&str; 4] = ["--all", "--details", "--merging", "--update"];
    let usage = format!(
        "instructions [{}]\n       benches/run instructions --sealing",
        OPTIONS.join("] [")
    );
    let task = program::arguments(&usage, |arguments| match arguments {
        ["run", name] => Case::named(name).map(Task::Run),
        ["--sealing"] => Some(Task::Seal),
        options if options.iter().all(|option| OPTIONS.contains(option)) => {
            let [all, details, merging, update] = OPTIONS.map(|option| options.contains(&option));
            (!(merging && update)).then_some(Task::Compare { all, details, merging, update })
        }
        _ => None,
    });
    match task {
        Task::Run(case) => {
            case.run();
            ExitCode::SUCCESS
        }
        Task::Seal => {
            let profiles = Profiles::count(Case::all(&Row::SEALING, &SEALED_SIZES), false);
            for bytes in SEALED_SIZES {
                profiles.print("Beyond the same unsealed", &Row::SEALING, bytes, false);
            }
            ExitCode::SUCCESS
        }
        Task::Compare { all, details, merging, update } => {
            let sizes = if all { &SIZES[..] } else { &SIZES[..1] };
            let profiles = Profiles::count(Case::all(&Row::ALL, sizes), merging);
            for &bytes in sizes {
                let with_aims = merging && bytes == SIZES[0];
                profiles.print("Beyond the bare handler", &Row::ALL, bytes, with_aims);
            }
            if details {
                profiles.print_details();
            }
            if merging {
                return ExitCode::SUCCESS;
            }
            let held = profiles.held();
            if update {
                Baseline::write(&held);
            }
            if Baseline::read().compare(&held) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// In the order of [`Case::all`].
struct Profiles(Vec<(Case, Profile)>);

impl Profiles {
    /// Counts each case in a process of its own, as many at a time as there are processors: what is
    /// counted does not depend on what else runs.
    fn count(cases: Vec<Case>, merging: bool) -> Self {
        let order = cases.clone();
        let (cases, profiles) = (Mutex::new(cases.into_iter()), Mutex::new(Vec::new()));
        let lock = |cases: &Mutex<std::vec::IntoIter<Case>>| {
            cases.lock().unwrap_or_else(PoisonError::into_inner).next()
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    while let Some(case) = lock(&cases) {
                        let profile = profile(case, merging);
                        let mut profiles = profiles.lock().unwrap_or_else(PoisonError::into_inner);
                        profiles.push((case, profile));
                    }
                });
            }
        });
        let mut profiles = profiles.into_inner().unwrap_or_else(PoisonError::into_inner);
        profiles.sort_by_key(|(case, _)| order.iter().position(|other| other == case));
        Self(profiles)
    }

    fn profile(&self, case: Case) -> &Profile {
        let found = self.0.iter().find(|(counted, _)| *counted == case);
        &found.expect("each case is counted with its yardstick").1
    }

    /// What a case costs beyond its yardstick.
    fn beyond(&self, case: Case) -> Count {
        self.profile(case).count() - self.profile(case.yardstick()).count()
    }

    /// The table for bodies of this size, with what is aimed at if that is of the same kind.
    fn print(&self, beyond: &str, rows: &[Row], bytes: usize, with_aims: bool) {
        let title =
            format!("{beyond}, bodies of {bytes} B: instructions / allocations of a request");
        let columns: &[_] = if with_aims {
            &["", "no key", "aim", "first", "aim", "replay", "aim"]
        } else {
            &["", "no key", "first", "replay"]
        };
        table::head(&title, columns);
        for &row in rows {
            let mut cells = vec![row.title.to_owned()];
            for path in Path::ALL {
                let case = Case { row, path, bytes };
                cells.push(match row.paths() {
                    paths if !paths.contains(&path) => String::new(),
                    _ if case == case.yardstick() => {
                        format!("{} in all", self.profile(case).count())
                    }
                    _ => self.beyond(case).to_string(),
                });
                if with_aims {
                    cells.push(aim(row, path).unwrap_or_default().to_owned());
                }
            }
            table::row(cells);
        }
    }

    fn print_details(&self) {
        for (case, profile) in &self.0 {
            println!("\n### {}: {} of a request\n", case.name(), profile.count());
            profile.print(self.profile(case.yardstick()));
        }
    }

    /// What the baseline holds.
    fn held(&self) -> Vec<(String, Count)> {
        let is_held = |case: &Case| case.row.is_ours() && case.bytes == SIZES[0];
        let cases = self.0.iter().map(|(case, _)| *case).filter(is_held);
        cases
            .map(|case| (format!("{}.{}", case.row.name, case.path.name()), self.beyond(case)))
            .collect()
    }
}

/// Runs one case under callgrind, in a process of its own.
fn profile(case: Case, merging: bool) -> Profile {
    let output = program::path().with_file_name(format!("callgrind.{}.out", case.name()));
    let mut valgrind = Command::new("valgrind");
    if !merging {
        valgrind.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=65535");
    }
    let status = valgrind
        .args(["--tool=callgrind", "--quiet"])
        // Collection cannot just be toggled: calls would be counted outside of it as well. And the
        // patterns differ because callgrind heeds one option for each.
        .args([
            "--zero-before=*::callgrind_collects_here*",
            "--dump-after=*callgrind_collects_here*",
        ])
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(program::path())
        .args(["run", &case.name()])
        .status()
        .expect("`valgrind` must be installed, a Debian package of that name");
    assert!(status.success(), "{} failed", case.name());
    // The rest of the program has a part of its own.
    let part = output.with_added_extension("1");
    let profile = fs::read_to_string(part).expect("callgrind wrote its output");
    Profile::parse(&profile, case.requests() as u64)
}
