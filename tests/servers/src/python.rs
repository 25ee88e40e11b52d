//! Programs written in Python, which are not in Debian.

use std::fs;
use std::path::{Path, PathBuf};

const VENV: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/venv");

/// The path of a program from `tests/requirements.txt`, such as `schemathesis`, in the place where
/// `tests/venv` installs it.
///
/// # Panics
///
/// Panics if it is not installed.
#[must_use]
pub fn python(name: &str) -> PathBuf {
    let program = Path::new(VENV).join("bin").join(name);
    assert!(program.is_file(), "`{name}` is missing: run `tests/venv`, or `tests/run`");
    program
}

/// The path of a file in a package of `tests/requirements.txt`.
///
/// # Panics
///
/// Panics if it is not installed.
#[must_use]
pub fn python_file(path: &str) -> PathBuf {
    // In `lib/python3.11`, or that of another release.
    let releases = fs::read_dir(Path::new(VENV).join("lib")).into_iter().flatten().flatten();
    let mut files = releases.map(|release| release.path().join("site-packages").join(path));
    files
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("`{path}` is missing: run `tests/venv`, or `tests/run`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "`no-such-program` is missing: run `tests/venv`")]
    fn a_missing_program_fails_the_test_and_names_the_script() {
        let _ = python("no-such-program");
    }

    #[test]
    #[should_panic(expected = "`no-such-package/file` is missing: run `tests/venv`")]
    fn a_missing_file_fails_the_test_and_names_the_script() {
        let _ = python_file("no-such-package/file");
    }
}
