//! What is published: each package contains its sources, its licenses and a README, has the
//! metadata that a registry shows, and contains nothing else.

use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

use serde_json::Value;

/// Each package, and its folder.
const PACKAGES: [(&str, &str); 3] = [
    ("idempotent-axum", ""),
    ("idempotent-macros", "idempotent-macros"),
    ("idempotent-runtime", "idempotent-runtime"),
];

/// In every package: what somebody wrote, and what cargo adds.
const EVERYWHERE: [&str; 6] =
    ["Cargo.lock", "Cargo.toml", "Cargo.toml.orig", "LICENSE-APACHE", "LICENSE-MIT", "README.md"];

#[test]
fn each_holds_its_sources_licences_and_readme() {
    for (package, folder) in PACKAGES {
        let folder = root().join(folder);
        let mut expected: BTreeSet<String> = EVERYWHERE.map(str::to_owned).into();
        expected.extend(files(&folder, "src").into_iter().filter(|file| !is_of_unit_tests(file)));
        if package == "idempotent-axum" {
            expected.insert("CHANGELOG.md".to_owned());
            // Pages of its documentation, and pictures in them.
            expected.extend(files(&folder, "docs"));
        }
        let listed = cargo(&["package", "--list", "--allow-dirty", "--package", package]);
        // It says which commit was packaged, if there is one.
        let found: BTreeSet<String> = listed
            .lines()
            .filter(|file| *file != ".cargo_vcs_info.json")
            .map(str::to_owned)
            .collect();
        let missing: Vec<_> = expected.difference(&found).collect();
        let unexpected: Vec<_> = found.difference(&expected).collect();
        assert!(
            missing.is_empty() && unexpected.is_empty(),
            "{package}: missing {missing:?}, unexpected {unexpected:?}"
        );
    }
}

#[test]
fn each_holds_the_whole_licences() {
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let text = fs::read_to_string(root().join(licence)).expect("a licence");
        assert!(text.len() > 1000, "{licence}: {text}");
        for (package, folder) in PACKAGES {
            let copy = fs::read_to_string(root().join(folder).join(licence)).expect("a licence");
            assert_eq!(copy, text, "{licence} of {package}");
        }
    }
}

#[test]
fn each_says_what_a_registry_shows() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version=1"]))
            .expect("JSON");
    let all = metadata["packages"].as_array().expect("packages");
    let published: Vec<&Value> =
        all.iter().filter(|package| package["publish"].is_null()).collect();
    let names: BTreeSet<&str> =
        published.iter().map(|package| package["name"].as_str().expect("a name")).collect();
    assert_eq!(names, PACKAGES.map(|(name, _)| name).into());
    for package in published {
        let name = &package["name"];
        for field in ["description", "license", "readme", "repository", "rust_version"] {
            assert!(package[field].is_string(), "{name} has no `{field}`");
        }
        for list in ["keywords", "categories"] {
            let count = package[list].as_array().map_or(0, Vec::len);
            assert!((1..=5).contains(&count), "{name} has {count} {list}: a registry takes 1 to 5");
        }
        assert_eq!(package["metadata"]["docs"]["rs"]["all-features"], true, "{name} on docs.rs");
    }
}

/// A module that is compiled for unit tests alone. They need packages that are not published.
fn is_of_unit_tests(file: &str) -> bool {
    file == "src/properties.rs" || file.ends_with("/tests.rs") || file.contains("/tests/")
}

/// The files below `folder/below`, as paths from `folder`.
fn files(folder: &Path, below: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder.join(below)).expect("a folder") {
        let entry = entry.expect("an entry");
        let path = format!("{below}/{}", entry.file_name().to_str().expect("a name of text"));
        if entry.file_type().expect("a type").is_dir() {
            found.append(&mut files(folder, &path));
        } else {
            found.insert(path);
        }
    }
    found
}

/// What `cargo` prints in this repository.
fn cargo(arguments: &[&str]) -> String {
    let program = env::var_os("CARGO").expect("a test runs under cargo");
    let output = Command::new(program)
        .args(arguments)
        .arg("--offline")
        .current_dir(root())
        .output()
        .expect("cargo starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
