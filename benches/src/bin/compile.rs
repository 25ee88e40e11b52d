//! What the attribute costs at compile time, beside `#[tracing::instrument]`,
//! `#[axum::debug_handler]` and none.
//!
//! Crates with 0, 100 and 500 handlers are generated, one for each attribute, that share built
//! dependencies. All of them take turns, round by round, so that whatever else the machine does
//! hits all. Counted are the instructions of cargo and its children, if `perf stat` can count them
//! (a Debian package, `linux-perf`; most virtual machines hide the processor's counters), otherwise
//! their processor time, which is steadier than the clock on a shared machine. What parallel code
//! generation would hide is in both. Valgrind would count anywhere, but takes tens of times the
//! time. Compilation is not incremental. Printed are the ratio to the same handlers without
//! attribute, the median over all rounds, and what one handler adds to the crate without handlers.
//!
//! One round (`--quick`) on two cores that other work shared in part, 500 handlers: `cargo check` 2.0
//! with the attribute, 2.8 with `instrument`, 2.5 with `debug_handler`; a release build 1.6, 1.8 and
//! 1.0.

use std::{fmt::Write as _, fs, io, path::PathBuf, process::Command};

use benches::{program, table};

/// Ticks of the processor clock in a second, a constant of Linux's interface.
const TICKS: f64 = 100.0;
const COUNTS: [usize; 3] = [0, 100, 500];

const ATTRIBUTES: [(&str, &str); 4] = [
    ("none", ""),
    ("idempotent", "#[idempotent_axum::idempotent(ttl = \"1d\", principal = id)]"),
    ("instrument", "#[tracing::instrument(skip_all, fields(id))]"),
    ("debug_handler", "#[axum::debug_handler]"),
];

const MANIFEST: &str = r#"
edition = "2024"
publish = false

[dependencies]
axum = { version = "0.8", features = ["macros"] }
idempotent-axum = { path = "ROOT" }
serde = { version = "1", features = ["derive"] }
tokio = { version = "1", features = ["rt"] }
tracing = "0.1"
"#;

const SHARED: &str = r"
#![allow(missing_docs, unused_imports)]
use axum::{Json, Router, extract::{Path, State}, http::StatusCode, response::IntoResponse, routing::post};

#[derive(Clone)]
pub struct App;

#[derive(serde::Deserialize, serde::Serialize)]
pub struct Invite {
    pub email: String,
}

pub struct Failed;

impl IntoResponse for Failed {
    fn into_response(self) -> axum::response::Response {
        StatusCode::CONFLICT.into_response()
    }
}
";

const HANDLER: &str = r#"
async fn handler_N(State(app): State<App>, Path(id): Path<u64>, Json(invite): Json<Invite>) -> Result<(StatusCode, Json<Invite>), Failed> {
    if invite.email.is_empty() {
        return Err(Failed);
    }
    tokio::task::yield_now().await;
    let App = app;
    Ok((StatusCode::CREATED, Json(Invite { email: format!("{id}{}N", invite.email) })))
}
"#;

fn main() -> io::Result<()> {
    let rounds = program::arguments("compile [--quick]", |arguments| match arguments {
        [] => Some(5),
        ["--quick"] => Some(1),
        _ => None,
    });
    let meter = Meter::new();
    let crates = Crates::generate()?;
    for (title, command) in [("cargo check", "check"), ("cargo build --release", "build")] {
        crates.compare(title, command, meter, rounds)?;
    }
    Ok(())
}

/// What compiling is measured in.
#[derive(Clone, Copy)]
enum Meter {
    Instructions,
    ProcessorTime,
}

impl Meter {
    /// Instructions, if this machine counts them.
    fn new() -> Self {
        match perf(&mut Command::new("true")) {
            Ok(_) => Self::Instructions,
            Err(_) => Self::ProcessorTime,
        }
    }

    /// Runs a command; gives millions of instructions, or milliseconds.
    fn measure(self, command: &mut Command) -> io::Result<f64> {
        match self {
            Self::Instructions => perf(command),
            Self::ProcessorTime => {
                let before = processor_time()?;
                if !command.status()?.success() {
                    return Err(io::Error::other(format!("{command:?} failed")));
                }
                Ok(processor_time()? - before)
            }
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Instructions => "million instructions",
            Self::ProcessorTime => "ms",
        }
    }
}

/// Runs a command under `perf stat`; gives the millions of instructions that it and its children took
/// outside of the kernel.
fn perf(command: &mut Command) -> io::Result<f64> {
    let mut perf = Command::new("perf");
    perf.args(["stat", "--field-separator", ",", "--event", "instructions:u", "--"]);
    perf.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        perf.env(name, value.unwrap_or_default());
    }
    if let Some(directory) = command.get_current_dir() {
        perf.current_dir(directory);
    }
    let output = perf.output()?;
    let report = String::from_utf8_lossy(&output.stderr);
    // `<count>,<unit>,instructions:u,…`; what the command itself says stands before it.
    let line = report.lines().rev().find(|line| line.contains("instructions:u"));
    let count = line.and_then(|line| line.split(',').next()?.parse::<f64>().ok());
    match count {
        Some(count) if output.status.success() => Ok(count / 1e6),
        _ => Err(io::Error::other(format!("{command:?} under perf: {report}"))),
    }
}

/// The generated workspace.
struct Crates(PathBuf);

impl Crates {
    fn generate() -> io::Result<Self> {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let root = here.join("..").canonicalize()?;
        let workspace = here.join("target/generated");
        fs::create_dir_all(&workspace)?;
        fs::write(
            workspace.join("Cargo.toml"),
            "[workspace]\nmembers = [\"*_*\"]\nresolver = \"3\"\n",
        )?;
        // The versions that the library is tested with.
        fs::copy(root.join("Cargo.lock"), workspace.join("Cargo.lock"))?;
        for (name, attribute) in ATTRIBUTES {
            for count in COUNTS {
                let directory = workspace.join(format!("{name}_{count}"));
                fs::create_dir_all(directory.join("src"))?;
                let manifest = MANIFEST.replace("ROOT", &root.display().to_string());
                let manifest = format!("[package]\nname = \"{name}_{count}\"{manifest}");
                fs::write(directory.join("Cargo.toml"), manifest)?;
                fs::write(directory.join("src/lib.rs"), source(attribute, count))?;
            }
        }
        Ok(Self(workspace))
    }

    fn compare(&self, title: &str, command: &str, meter: Meter, rounds: usize) -> io::Result<()> {
        // The first build is that of the dependencies.
        self.compile(command, "none", 0, meter)?;
        let mut taken = vec![vec![Vec::new(); COUNTS.len()]; ATTRIBUTES.len()];
        for _ in 0..rounds {
            for (row, (name, _)) in taken.iter_mut().zip(ATTRIBUTES) {
                for (taken, count) in row.iter_mut().zip(COUNTS) {
                    taken.push(self.compile(command, name, count, meter)?);
                }
            }
        }
        let medians: Vec<Vec<f64>> =
            taken.into_iter().map(|row| row.into_iter().map(table::median).collect()).collect();
        let columns = COUNTS[1..].iter().map(|count| format!("{count} handlers"));
        let columns: Vec<_> = std::iter::once(String::new()).chain(columns).collect();
        let unit = meter.unit();
        table::head(
            &format!("{title}: ratio to no attribute (added by one handler, in {unit})"),
            &columns.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        for (row, (name, _)) in medians.iter().zip(ATTRIBUTES) {
            let cells = COUNTS.into_iter().enumerate().skip(1).map(|(index, count)| {
                let ratio = row[index] / medians[0][index];
                #[allow(clippy::cast_precision_loss, reason = "a few hundred handlers")]
                let each = (row[index] - medians[0][0]) / count as f64;
                format!("{ratio:.2} ({each:.1})")
            });
            table::row(std::iter::once(name.to_owned()).chain(cells));
        }
        Ok(())
    }

    /// Compiles one crate anew.
    fn compile(&self, command: &str, name: &str, count: usize, meter: Meter) -> io::Result<f64> {
        let package = format!("{name}_{count}");
        let source = self.0.join(&package).join("src/lib.rs");
        fs::write(&source, fs::read(&source)?)?;
        // By its name: what `rustup` starts knows its toolchain, whatever a dependency asks for.
        let mut cargo = Command::new("cargo");
        cargo.args([command, "--quiet", "--package", &package]).current_dir(&self.0);
        cargo.env("CARGO_INCREMENTAL", "0").env("CARGO_TARGET_DIR", self.0.join("target"));
        if command == "build" {
            cargo.arg("--release");
        }
        meter.measure(&mut cargo)
    }
}

fn source(attribute: &str, count: usize) -> String {
    let mut source = SHARED.to_owned();
    let mut routes = String::new();
    for index in 0..count {
        let handler = HANDLER.replace('N', &index.to_string());
        write!(source, "\n{attribute}{handler}").expect("a string takes everything");
        write!(routes, "\n        .route(\"/{index}/{{id}}\", post(handler_{index}))")
            .expect("a string takes everything");
    }
    format!(
        "{source}\npub fn app() -> Router {{\n    let app: Router<App> = Router::new(){routes};\n    app.route(\"/\", post(async |Json::<Invite>(invite)| Json(invite))).with_state(App)\n}}\n"
    )
}

/// The processor time of all children that have ended, in milliseconds.
fn processor_time() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold spaces; `cutime` and `cstime` of proc_pid_stat(5).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(13).take(2);
    Ok(fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS * 1e3)
}
