//! The names of operations. Each is created once, however many requests ask for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use http::Method;

/// Methods that may appear in names. The last one stands for all others, since clients can make up
/// any number of methods.
const METHODS: [&str; 10] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "OTHER"];

/// Names by what they are made of. There are few, since they come from the program's source.
type Names = RwLock<BTreeMap<Box<str>, Arc<str>>>;

/// `METHOD template`, such as `POST /payments/{id}`.
pub(super) fn of_route(method: &Method, template: &str) -> Arc<str> {
    static NAMES: [Names; METHODS.len()] = [const { RwLock::new(BTreeMap::new()) }; METHODS.len()];

    let known = METHODS.iter().position(|known| *known == method.as_str());
    let index = known.unwrap_or(METHODS.len() - 1);
    named(&NAMES[index], template, || format!("{} {template}", METHODS[index]).into())
}

/// An attribute's `scope`.
pub(super) fn of_scope(scope: &str) -> Arc<str> {
    static NAMES: Names = RwLock::new(BTreeMap::new());

    named(&NAMES, scope, || scope.into())
}

fn named(names: &Names, of: &str, name: impl FnOnce() -> Arc<str>) -> Arc<str> {
    // Nothing in a critical section panics halfway through a change.
    let known = names.read().unwrap_or_else(PoisonError::into_inner).get(of).cloned();
    known.unwrap_or_else(|| {
        let mut names = names.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(names.entry(of.into()).or_insert_with(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_once() {
        let name = || of_route(&Method::POST, "/payments/{id}");
        assert_eq!(&*name(), "POST /payments/{id}");
        assert!(Arc::ptr_eq(&name(), &name()));
        assert_eq!(&*of_route(&Method::PUT, "/payments/{id}"), "PUT /payments/{id}");
        assert!(Arc::ptr_eq(&of_scope("pay"), &of_scope("pay")));
    }

    #[test]
    fn methods_that_clients_make_up_are_one() {
        let name = |method: &[u8]| of_route(&Method::from_bytes(method).unwrap(), "/");
        assert_eq!(&*name(b"PURGE"), "OTHER /");
        assert!(Arc::ptr_eq(&name(b"PURGE"), &name(b"x7f3")));
    }
}
