//! One Lua script per method: atomic, and judged by the server's clock.

use std::sync::LazyLock;

use ::redis::{Cmd, ErrorKind, FromRedisValue, ServerErrorKind};

use super::{
    connection::{Connection, Sending},
    failure::Failure,
};

/// The script of one method.
pub(super) struct Script {
    code: &'static str,
    hash: Box<str>,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, hash: ::redis::Script::new(code).get_hash().into() }
    }

    /// Runs it on the key `name`.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        connection: &Connection,
        name: &str,
        arguments: &[&[u8]],
        sending: Sending,
    ) -> Result<T, Failure> {
        let command = |eval: &str, script: &str| -> Cmd {
            let mut command = ::redis::cmd(eval);
            command.arg(script).arg(1).arg(name).arg(arguments);
            command
        };
        match connection.query(name, &command("EVALSHA", &self.hash), sending).await {
            // The server was restarted or dropped the script. `EVAL` runs it and caches it.
            Err(Failure { error, .. })
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
            {
                connection.query(name, &command("EVAL", self.code), sending).await
            }
            result => result,
        }
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!($file)));)*
    };
}

scripts! {
    CLAIM = "claim.lua";
    RENEW = "renew.lua";
    COMPLETE = "complete.lua";
    RELEASE = "release.lua";
    READ = "read.lua";
    FORGET = "forget.lua";
}
