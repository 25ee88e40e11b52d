//! The user for servers that refuse to run as root.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;

/// Numeric ids of a user and its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// `postgres` or else `nobody` if the caller is root; otherwise the caller itself (`None`).
    pub(crate) fn unprivileged() -> Option<Self> {
        geteuid().is_root().then(|| {
            let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
            ["postgres", "nobody"].into_iter().find_map(|name| Self::parse(&passwd, name)).expect(
                "root has to have a user `postgres` or `nobody`: Postgres does not run as root",
            )
        })
    }

    fn parse(passwd: &str, name: &str) -> Option<Self> {
        let mut fields = passwd
            .lines()
            .map(|line| line.split(':'))
            .find(|line| line.clone().next() == Some(name))?;
        Some(Self { uid: fields.nth(2)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    }

    /// Makes this user the owner of a file or an empty directory.
    pub(crate) fn own(self, path: &Path) {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .expect("root may give files away");
    }

    /// Makes a command run as this user, without supplementary groups.
    pub(crate) fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}
