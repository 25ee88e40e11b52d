//! [`Cause`]: a driver's error as a source that is printed only once.

use std::{error::Error, fmt};

/// A driver's error, without those of its sources whose text it already contains.
///
/// Drivers wrap errors in one another and print the inner one in both, so a log that prints the
/// sources would say the same thing twice.
pub(super) struct Cause<E>(pub(super) E);

impl<E: fmt::Display> fmt::Display for Cause<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: fmt::Debug> fmt::Debug for Cause<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: Error> Error for Cause<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let told = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source.filter(|error| told.contains(&error.to_string())) {
            source = error.source();
        }
        source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Told(&'static str, Option<Box<Told>>);

    impl fmt::Display for Told {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Told {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|source| source as _)
        }
    }

    #[test]
    fn what_is_told_already_is_left_out_and_all_else_is_kept() {
        let inner = Told("refused", Some(Box::new(Told("no route", None))));
        let cause = Cause(Told("io: refused", Some(Box::new(inner))));
        assert_eq!(cause.to_string(), "io: refused");
        assert_eq!(cause.source().unwrap().to_string(), "no route");
        assert!(Cause(Told("alone", None)).source().is_none());
    }
}
