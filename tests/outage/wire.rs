//! Sessions alongside the service's, on the server's Unix socket: they take its connections away,
//! hold its locks and change its settings.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

/// A server that does not answer for this long fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session with PostgreSQL as the user `postgres`, in the simple protocol. Ends when dropped.
pub(crate) struct PostgresSession(UnixStream);

impl PostgresSession {
    /// Connects; an error says that the server takes no more sessions, or none at all.
    pub(crate) fn connect(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut start = 196_608_u32.to_be_bytes().to_vec(); // protocol 3.0
        start.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
        stream.write_all(&framed(&start))?;
        let mut session = Self(stream);
        session.answer()?;
        Ok(session)
    }

    /// Runs one statement and returns the first column of each row.
    pub(crate) fn execute(&mut self, sql: &str) -> io::Result<Vec<String>> {
        let text = [sql.as_bytes(), b"\0"].concat();
        self.0.write_all(&[b"Q".as_slice(), &framed(&text)].concat())?;
        self.answer()
    }

    /// Reads until the server waits for a statement.
    fn answer(&mut self) -> io::Result<Vec<String>> {
        let mut rows = Vec::new();
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head)?;
            let [kind, length @ ..] = head;
            let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
            self.0.read_exact(&mut body)?;
            match kind {
                b'Z' => return Ok(rows),
                b'E' => return Err(io::Error::other(String::from_utf8_lossy(&body).into_owned())),
                // Two bytes of columns, four of the first one's length.
                b'D' => rows.push(String::from_utf8_lossy(&body[6..]).into_owned()),
                _ => {}
            }
        }
    }
}

/// `body` after its length, which counts itself.
fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    [&length.to_be_bytes(), body].concat()
}

/// A session with Redis. Ends when dropped.
pub(crate) struct RedisSession(BufReader<UnixStream>);

impl RedisSession {
    pub(crate) fn connect(socket: &PathBuf) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut session = Self(BufReader::new(stream));
        session.execute("PING")?;
        Ok(session)
    }

    /// Sends an inline command and returns its one reply, unless that is an error.
    pub(crate) fn execute(&mut self, command: &str) -> io::Result<String> {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let reply = line.trim_end();
        match (reply.get(..1), reply.get(1..)) {
            (Some("+" | ":"), Some(value)) => Ok(value.to_owned()),
            (Some("$"), Some(length)) => {
                let length: usize = length.parse().map_err(io::Error::other)?;
                let mut text = vec![0; length + 2];
                self.0.read_exact(&mut text)?;
                String::from_utf8(text).map_err(io::Error::other)
            }
            _ => Err(io::Error::other(format!("{command}: {reply}"))),
        }
    }
}
