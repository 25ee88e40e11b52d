//! [`Place`]: where the database file is, and the errors if it cannot be opened there.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use sqlx::Error;

use super::error;
use crate::store::{ConnectError, cause::Cause};

/// The full path of a database.
#[derive(Debug)]
pub(super) struct Place(PathBuf);

impl Place {
    /// The place that a user specifies: a path, or `sqlite:` and a path.
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
        absolute(Path::new(text)).map(Self)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Creates the file, if it does not exist, for its user alone: it contains stored responses,
    /// and SQLite gives the files next to it the same permissions. Done before SQLite opens it,
    /// since closing it by hand later would drop SQLite's locks.
    pub(super) fn create(&self) -> Result<(), ConnectError> {
        let mut options = fs::File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(cannot_make(&self.0, error))
            }
            _ => Ok(()),
        }
    }

    /// The error if the store cannot start here.
    pub(super) fn unusable(&self, why: &str) -> ConnectError {
        ConnectError::new(format!("cannot use `{}`: {why}", self.0.display()))
    }

    /// The error if opening the file failed.
    pub(super) fn not_opened(&self, error: Error) -> ConnectError {
        if error::is_damage(&error) {
            return self.damaged(Cause(error));
        }
        let path = self.0.display();
        let message = match error::what_to_do(&error) {
            Some(what) => format!("`{path}` {what}"),
            None => format!("cannot open `{path}` as a SQLite database"),
        };
        ConnectError::new(message).because(Cause(error))
    }

    /// The error if the file is corrupt, caused by `found`.
    pub(super) fn damaged(
        &self,
        found: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ConnectError {
        let message = format!("`{}` is damaged: {}", self.0.display(), error::RESTORE);
        ConnectError::new(message).because(found)
    }
}

/// The path without links and relative parts, so that two names of a file share one lock.
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
                    "there is no directory `{}`: create it, or choose another path for the file of \
                     the idempotency store",
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

/// The error if a file cannot be created or opened where the store needs it.
pub(super) fn cannot_make(path: &Path, error: io::Error) -> ConnectError {
    let directory = path.parent().unwrap_or(path).display();
    let what_to_do = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("allow the service to write to `{directory}`")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on its disk".to_owned()
        }
        _ => format!("check `{directory}`"),
    };
    ConnectError::new(format!("cannot open `{}`: {what_to_do}", path.display())).because(error)
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
