//! [`failpoint`]: where a test can stop or kill a transaction. Does nothing without the feature
//! `failpoints`.

/// The steps at which something can be made to happen: `tx-after-claim`, `tx-before-commit`,
/// `tx-during-commit` (it has been sent, and its answer is not read) and `tx-after-commit` (before
/// the caller is answered).
///
/// What happens is set with [`fail::cfg`] or, for a whole process, with the variable `FAILPOINTS`,
/// such as `tx-before-commit=3*off->return(abort)`: the action `return(abort)` aborts the process.
#[cfg(feature = "failpoints")]
pub(crate) fn failpoint(name: &str) {
    static ENVIRONMENT: std::sync::Once = std::sync::Once::new();
    ENVIRONMENT.call_once(|| {
        let points = std::env::var("FAILPOINTS").unwrap_or_default();
        for point in points.split(';').filter(|point| !point.is_empty()) {
            let (name, actions) = point.split_once('=').expect("`FAILPOINTS` is `name=actions;…`");
            fail::cfg(name, actions).expect("actions that `fail` knows");
        }
    });
    fail::fail_point!(name, |action| {
        if action.as_deref() == Some("abort") {
            std::process::abort();
        }
    });
}

#[cfg(not(feature = "failpoints"))]
pub(crate) fn failpoint(_: &str) {}
