//! Programs written in Python, which are not in Debian.

use std::path::{Path, PathBuf};

/// The path of a program from `tests/requirements.txt`, such as `schemathesis`, in the place where
/// `tests/venv` installs it.
///
/// # Panics
///
/// Panics if it is not installed.
#[must_use]
pub fn python(name: &str) -> PathBuf {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin");
    let program = programs.join(name);
    assert!(program.is_file(), "`{name}` is missing: run `tests/venv`, or `tests/run`");
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "`no-such-program` is missing: run `tests/venv`")]
    fn a_missing_program_fails_the_test_and_names_the_script() {
        let _ = python("no-such-program");
    }
}
