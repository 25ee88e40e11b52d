//! What the attribute costs at compile time, beside `#[tracing::instrument]`,
//! `#[axum::debug_handler]` and none.
//!
//! Crates with 0, 100 and 500 handlers are generated, one for each attribute, that share built
//! dependencies. All of them take turns, round by round, so that whatever else the machine does
//! hits all. Counted is the processor time of cargo and its children, without incremental
//! compilation: it is steadier than the clock on a shared machine, and what parallel code
//! generation would hide is in it. Printed are the ratio to the same handlers without attribute,
//! the median over all rounds, and what one handler adds to the crate without handlers.
//!
//! One round (`--quick`) on two cores, 500 handlers: `cargo check` 2.22 with the attribute, 3.96
//! with `instrument`, 3.17 with `debug_handler`; a release build 1.53, 2.00 and 0.93.

use std::{fmt::Write as _, fs, io, path::PathBuf, process::Command};

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

const SHARED: &str = r#"
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
"#;

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
    let rounds = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => 5,
        [quick] if quick == "--quick" => 1,
        _ => {
            eprintln!("usage: benches/run compile [--quick]");
            std::process::exit(2);
        }
    };
    let crates = Crates::generate()?;
    for (title, command) in [("cargo check", "check"), ("cargo build --release", "build")] {
        println!("{title}: ratio to no attribute (added by one handler)");
        crates.compare(command, rounds)?;
        println!();
    }
    Ok(())
}

/// The generated workspace.
struct Crates(PathBuf);

impl Crates {
    fn generate() -> io::Result<Self> {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let root = here.join("../..").canonicalize()?;
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

    fn compare(&self, command: &str, rounds: usize) -> io::Result<()> {
        // The first build is that of the dependencies.
        self.compile(command, "none", 0)?;
        let mut seconds = vec![vec![Vec::new(); COUNTS.len()]; ATTRIBUTES.len()];
        for _ in 0..rounds {
            for (index, (name, _)) in ATTRIBUTES.iter().enumerate() {
                for (count, seconds) in COUNTS.into_iter().zip(&mut seconds[index]) {
                    seconds.push(self.compile(command, name, count)?);
                }
            }
        }
        let medians: Vec<Vec<f64>> =
            seconds.into_iter().map(|row| row.into_iter().map(median).collect()).collect();
        for (row, (name, _)) in medians.iter().zip(ATTRIBUTES) {
            print!("{name:>14}");
            for (index, count) in COUNTS.into_iter().enumerate().skip(1) {
                let ratio = row[index] / medians[0][index];
                #[allow(clippy::cast_precision_loss, reason = "a few hundred handlers")]
                let each = (row[index] - medians[0][0]) / count as f64 * 1e3;
                print!("   {count}: {ratio:.2} ({each:.1} ms)");
            }
            println!();
        }
        Ok(())
    }

    /// Compiles one crate anew; gives the processor time in seconds.
    fn compile(&self, command: &str, name: &str, count: usize) -> io::Result<f64> {
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
        let before = processor_time()?;
        if !cargo.status()?.success() {
            return Err(io::Error::other(format!("{package} does not compile")));
        }
        Ok(processor_time()? - before)
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

/// The processor time of all children that have ended, in seconds.
fn processor_time() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold spaces; `cutime` and `cstime` of proc_pid_stat(5).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(13).take(2);
    Ok(fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
