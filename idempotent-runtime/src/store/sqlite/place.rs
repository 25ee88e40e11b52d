//! [`Place`]: where the database file is, and whether it can be trusted.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use sqlx::Error;

use super::error;
use crate::store::{ConnectError, StoreError, cause::Cause};

/// The database file of a store.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Whether SQLite has met damage since the file was opened: that it does not find a key tells
    /// nothing from then on.
    is_damaged: AtomicBool,
}

impl Place {
    /// The place that a user names: a path, or `sqlite:` and a path.
    pub(super) fn named(path: &Path) -> Result<Self, ConnectError> {
        let Some(text) = path.to_str() else {
            let path = path.display();
            return Err(ConnectError::new(format!("`{path}` is not UTF-8, which SQLite needs")));
        };
        let text = text.strip_prefix("sqlite:").unwrap_or(text);
        let text = text.strip_prefix("//").unwrap_or(text);
        if text.is_empty() || text == ":memory:" {
            return Err(ConnectError::new(
                "`SqliteStore` keeps a file: name one, such as `idempotency.db`, or use \
                 `MemoryStore`",
            ));
        }
        let path = absolute(Path::new(text))?;
        Ok(Self { path, is_damaged: AtomicBool::new(false) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The error that the store cannot start here.
    pub(super) fn unusable(&self, why: &str) -> ConnectError {
        ConnectError::new(format!("cannot use `{}`: {why}", self.path.display()))
    }

    /// The error that opening the file failed.
    pub(super) fn not_opened(&self, error: Error) -> ConnectError {
        let path = self.path.display();
        if error::is_damage(&error) {
            return self.damaged_at_start(Cause(error));
        }
        let message = match error::what_to_do(&error) {
            Some(what) => format!("`{path}` {what}"),
            None => format!("cannot open `{path}` as a SQLite database"),
        };
        ConnectError::new(message).because(Cause(error))
    }

    /// The error that the file is not whole, as `found` tells.
    pub(super) fn damaged_at_start(
        &self,
        found: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ConnectError {
        let message = format!("`{}` is damaged: {}", self.path.display(), error::RESTORE);
        ConnectError::new(message).because(found)
    }

    /// Whether an absent key may be one that is on a damaged page.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// The error of a call that found nothing in a damaged file.
    pub(super) fn distrusted(&self) -> StoreError {
        StoreError::described(error::damaged(&self.path))
    }

    /// The error that a call failed, with a message that says what to do, if that is known.
    pub(super) fn failed(&self, error: &Error) -> Failure {
        if error::is_damage(error) && !self.is_damaged.swap(true, Ordering::Relaxed) {
            tracing::error!(
                target: crate::TARGET,
                error = error as &dyn std::error::Error,
                "{}",
                error::damaged(&self.path)
            );
        }
        if error::is_damage(error) {
            return Failure(Some(error::damaged(&self.path)));
        }
        let what = error::what_to_do(error);
        Failure(what.map(|what| format!("`{}` {what}", self.path.display())))
    }

    pub(super) fn describe(&self, error: Error) -> StoreError {
        if let Error::ColumnDecode { .. } = error {
            // The columns are there, and hold something else than this release writes.
            return StoreError::foreign_entry().because(Cause(error));
        }
        self.failed(&error).because(Cause(error))
    }
}

/// What a failed call has to say, of which there may be many.
pub(super) struct Failure(Option<String>);

impl Failure {
    pub(super) fn because(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        match &self.0 {
            Some(message) => StoreError::described(message.clone()).because(source),
            None => StoreError::new(source),
        }
    }
}

/// The path without links and relative parts, so that two names of a file meet at one lock.
fn absolute(path: &Path) -> Result<PathBuf, ConnectError> {
    match fs::canonicalize(path) {
        Ok(path) if path.is_dir() => {
            let path = path.display();
            Err(ConnectError::new(format!("`{path}` is a directory: name a file in it")))
        }
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = directory.unwrap_or(Path::new("."));
            let found = fs::canonicalize(directory).map_err(|error| {
                ConnectError::new(format!(
                    "there is no directory `{}`: create it, or name the file of the idempotency \
                     store elsewhere",
                    directory.display()
                ))
                .because(error)
            })?;
            Ok(found.join(path.file_name().unwrap_or(path.as_os_str())))
        }
        Err(error) => {
            let message = format!("cannot look for `{}`: check its directory", path.display());
            Err(ConnectError::new(message).because(error))
        }
    }
}

/// The path of a file that belongs to `database`.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(database);
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_and_its_path_are_one_place() {
        let directory = std::env::temp_dir();
        let file = directory.join("no-such-file.db");
        let named = |text: &str| Place::named(Path::new(text)).unwrap().path().to_owned();
        let own = named(file.to_str().unwrap());
        assert_eq!(own, fs::canonicalize(&directory).unwrap().join("no-such-file.db"));
        for prefix in ["sqlite:", "sqlite://"] {
            assert_eq!(named(&format!("{prefix}{}", file.display())), own);
        }
        assert_eq!(named(&format!("{}/./no-such-file.db", directory.display())), own);
        assert_eq!(beside(&own, "-lock").file_name().unwrap(), "no-such-file.db-lock");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for text in ["", "sqlite:", ":memory:", "sqlite::memory:"] {
            let error = Place::named(Path::new(text)).unwrap_err().to_string();
            assert!(error.contains("use `MemoryStore`"), "{text}: {error}");
        }
        let error = Place::named(&std::env::temp_dir()).unwrap_err().to_string();
        assert!(error.ends_with("is a directory: name a file in it"), "{error}");
        let error = Place::named(Path::new("/no/such/directory/a.db")).unwrap_err().to_string();
        assert!(error.starts_with("there is no directory `/no/such/directory`"), "{error}");
    }
}
