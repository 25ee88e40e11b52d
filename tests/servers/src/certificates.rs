//! Certificates for servers that use TLS.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::directory::Directory;
use crate::program;
use crate::user::User;

/// A certificate authority that nobody trusts yet, and a certificate for 127.0.0.1 signed by it.
#[derive(Debug)]
pub struct Certificates(Directory);

impl Certificates {
    /// New ones, in a directory that is removed with the value.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Self {
        let user = User::unprivileged();
        let files = Self(Directory::new(user));
        // The system's configuration must not add anything to a certificate.
        let config = "[req]\ndistinguished_name = name\n[name]\n";
        fs::write(files.path("config"), config).expect("the directory is writable");
        files.sign("authority", &["basicConstraints=critical,CA:TRUE"], &[]);
        let authority = ["-CA", "authority.pem", "-CAkey", "authority.key"];
        let leaf = ["basicConstraints=critical,CA:FALSE", "subjectAltName=IP:127.0.0.1"];
        files.sign("server", &leaf, &authority);
        // Postgres does not accept a key that belongs to another user.
        if let Some(user) = user {
            user.own(&files.key());
        }
        files
    }

    /// Creates a key and its certificate.
    fn sign(&self, name: &str, extensions: &[&str], authority: &[&str]) {
        let mut openssl = Command::new(program::find("openssl", "openssl"));
        openssl
            .current_dir(self.0.path())
            .args(["req", "-x509", "-config", "config", "-days", "2"]);
        openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]);
        openssl.args(["-subj", &format!("/CN={name}")]);
        openssl.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
        openssl.args(extensions.iter().flat_map(|extension| ["-addext", extension]));
        program::output(openssl.args(authority)).unwrap_or_else(|error| panic!("{error}"));
    }

    /// The authority's certificate, to trust.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.path("authority.pem")
    }

    /// The server's certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.path("server.pem")
    }

    /// The server's private key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.path("server.key")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
