//! [`alone`]: runs a test in its own process, for what is set once per process.

use std::{any::type_name, env, process::Command};

/// Tells a test that it has the process to itself.
const ALONE: &str = "IDEMPOTENT_TEST_ALONE";

/// Runs `test`, an async closure written directly in the test function, in its own process: this
/// program again, told to run that test alone.
///
/// # Panics
///
/// Panics if `test` does, with the output of its process.
pub fn alone<F: AsyncFnOnce()>(test: F) {
    if env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        return runtime.expect("a runtime starts").block_on(test());
    }
    // `program::module::test::{{closure}}`
    let (_, name) = type_name::<F>().split_once("::").expect("a closure has a path");
    let name = name.trim_end_matches("::{{closure}}");
    let program = env::current_exe().expect("a test runs from a file");
    let mut command = Command::new(program);
    command.args([name, "--exact", "--nocapture"]).env(ALONE, "1");
    let output = command.output().expect("the program starts again");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains(" 1 passed;"),
        "{name}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
