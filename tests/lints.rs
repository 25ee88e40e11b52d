//! The attribute adds no lint to a handler, and hides none.
//!
//! The handlers of `lints/handlers.rs` are compiled with the attribute and without it, under every
//! lint that rustc and Clippy offer. Both must get the same lints in the same places.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

/// Where the two differ: the lint, the function (`""`: any), and why it is silent with the
/// attribute or fires elsewhere.
const KNOWN: [(&str, &str, &str); 10] = [
    ("clippy::implicit_return", "", "it looks at functions and closures, not at async blocks"),
    ("clippy::unused_async", "associated_one_line", "the compiled handler awaits"),
    ("clippy::unused_async", "never_routed", "the compiled handler awaits"),
    ("clippy::cognitive_complexity", "long", "it looks at functions, not at async blocks"),
    (
        "clippy::collection_is_never_read",
        "assigned_only",
        "a parameter is not a local of a closure",
    ),
    ("clippy::many_single_char_names", "many", "the last parameter is in a function of its own"),
    ("clippy::redundant_clone", "unused_values", "a parameter is not a local of an async block"),
    ("unused_assignments", "unused_beside_another", "of an unused parameter, whose name is reused"),
    ("unused_assignments", "unused_beside_that_of_a_closure", "the same"),
    ("unused_assignments", "mutable", "said of the assignment instead of the parameter"),
];

/// A lint, and where the user wrote what it is about: the first and the last line and column.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    place: (usize, usize, usize, usize),
    lint: String,
}

#[derive(Deserialize)]
struct Line {
    reason: String,
    target: Option<Target>,
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Message {
    level: String,
    code: Option<Code>,
    spans: Vec<Span>,
    rendered: String,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

#[derive(Deserialize)]
struct Span {
    line_start: usize,
    column_start: usize,
    line_end: usize,
    column_end: usize,
    is_primary: bool,
}

#[test]
fn the_attribute_adds_no_lint_and_hides_none() {
    let source = fs::read_to_string(root().join("tests/lints/handlers.rs")).expect("the handlers");
    let lines: Vec<&str> = source.lines().collect();
    let packages = Packages::write(&source);
    let (plain, attributed) = (packages.lints_of("plain"), packages.lints_of("attributed"));
    assert!(plain.len() > 100, "{} lints", plain.len());
    let mut known_seen = BTreeSet::new();
    let mut unknown = |found: BTreeSet<&Found>| -> Vec<String> {
        let mut shown = Vec::new();
        for found in found {
            let (line, column, ..) = found.place;
            let function = function_around(&lines, line);
            let known = KNOWN.iter().position(|(lint, of, _)| {
                *lint == found.lint && (of.is_empty() || *of == function)
            });
            match known {
                Some(index) => drop(known_seen.insert(index)),
                None => shown.push(format!(
                    "{}: {line}:{column}: {}",
                    found.lint,
                    lines[line - 1].trim()
                )),
            }
        }
        shown
    };
    let added = unknown(attributed.difference(&plain).collect());
    let hidden = unknown(plain.difference(&attributed).collect());
    assert!(
        added.is_empty() && hidden.is_empty(),
        "added:\n{}\nhidden:\n{}",
        added.join("\n"),
        hidden.join("\n")
    );
    assert_eq!(known_seen.len(), KNOWN.len(), "only {known_seen:?} of what is known");
}

/// The name of the function that `line` (counted from one) belongs to.
fn function_around<'a>(lines: &[&'a str], line: usize) -> &'a str {
    let above = lines[..line].iter().rev();
    let mut names = above.filter_map(|line| line.split_once("async fn ").map(|(_, rest)| rest));
    let name = names.next().and_then(|rest| rest.split(['(', '<']).next());
    name.unwrap_or_default()
}

/// A workspace of two packages: the handlers with the attribute, and without it.
struct Packages(PathBuf);

impl Packages {
    fn write(handlers: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lints");
        let put = |path: &str, text: &str| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
            fs::write(path, text).expect("a writable file");
        };
        let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file");
        put("Cargo.toml", "[workspace]\nmembers = [\"plain\", \"attributed\"]\nresolver = \"3\"\n");
        put("Cargo.lock", &lock);
        let manifest = |name: &str, library: &str| {
            format!(
                "[package]\nname = \"{name}\"\nedition = \"2024\"\n\n[dependencies]\n{library}axum = \"0.8\"\nserde = {{ version = \"1\", features = [\"derive\"] }}\ntokio = {{ version = \"1\", features = [\"rt\"] }}\nutoipa = \"6\"\n"
            )
        };
        let root = root().to_str().expect("a path of text");
        let library = format!("idempotent-axum = {{ path = {root:?}, features = [\"utoipa\"] }}\n");
        put("attributed/Cargo.toml", &manifest("attributed", &library));
        put("attributed/src/lib.rs", handlers);
        // The lines keep their numbers.
        let is_kept =
            |line: &&str| !line.contains("#[idempotent") && !line.contains("use idempotent_axum");
        let plain: Vec<&str> =
            handlers.lines().map(|line| if is_kept(&line) { line } else { "//" }).collect();
        put("plain/Cargo.toml", &manifest("plain", ""));
        put("plain/src/lib.rs", &plain.join("\n"));
        Self(folder)
    }

    /// What all lints report about a package.
    fn lints_of(&self, package: &str) -> BTreeSet<Found> {
        let mut cargo = Command::new(env::var_os("CARGO").expect("a test runs under cargo"));
        cargo.current_dir(&self.0).env("CARGO_TARGET_DIR", self.0.join("target"));
        cargo.args(["clippy", "--offline", "--message-format=json", "--package", package, "--"]);
        for lint in rustc_lints() {
            cargo.args(["-W", &lint]);
        }
        for group in ["all", "pedantic", "nursery", "restriction"] {
            cargo.arg(format!("-Wclippy::{group}"));
        }
        // About the flags above.
        cargo.args(["-A", "unknown_lints", "-A", "clippy::blanket_clippy_restriction_lints"]);
        let output = cargo.output().expect("cargo starts");
        let text = String::from_utf8(output.stdout).expect("JSON");
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON"));
        let of_package = lines.filter(|line: &Line| {
            line.reason == "compiler-message"
                && line.target.as_ref().is_some_and(|target| target.name == package)
        });
        let messages: Vec<Message> = of_package.filter_map(|line| line.message).collect();
        let error = messages.iter().find(|message| message.level == "error");
        assert!(error.is_none(), "{}", error.map_or("", |error| &error.rendered));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        messages
            .into_iter()
            .filter_map(|Message { code, spans, .. }| Some((code?.code, spans)))
            .flat_map(|(lint, spans)| {
                spans.into_iter().filter(|span| span.is_primary).map(move |span| Found {
                    place: (span.line_start, span.column_start, span.line_end, span.column_end),
                    lint: lint.clone(),
                })
            })
            .collect()
    }
}

/// The names of all lints of rustc.
fn rustc_lints() -> Vec<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["-W", "help"]).output().expect("rustc starts");
    let text = String::from_utf8(output.stdout).expect("text");
    let lints: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, level) = (words.next()?, words.next()?);
            ["allow", "warn", "deny"].contains(&level).then(|| name.to_owned())
        })
        .filter(|name| name.contains('-') || name.len() > 5)
        .collect();
    assert!(lints.len() > 150, "{} lints", lints.len());
    lints
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
