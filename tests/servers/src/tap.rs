//! What a [`Proxy`] does at one place in the bytes that pass through it: it holds them back, or
//! cuts the connection.

use std::sync::{Arc, MutexGuard};

use crate::process::PATIENCE;
use crate::proxy::{Connection, Proxy, Shared, State, UNPOISONED};

/// The direction of bytes through a [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Reply,
}

/// The places that a proxy watches for.
#[derive(Debug, Default)]
pub(crate) struct Places {
    hold: Option<Place>,
    /// How many bytes may still pass before the cut.
    cut: Option<usize>,
    cuts: usize,
}

#[derive(Debug)]
struct Place {
    way: Way,
    bytes: Vec<u8>,
    held: Option<Arc<Connection>>,
}

impl Proxy {
    /// Holds back the chunk that contains the end of the first occurrence of `bytes` from now on in
    /// this direction, and whatever follows it on its connection in the same direction. All other
    /// connections continue.
    ///
    /// ```
    /// use test_servers::{Postgres, Proxy, Way};
    ///
    /// let postgres = Postgres::start();
    /// let proxy = Proxy::start(postgres.address());
    /// let hold = proxy.hold(Way::Request, b"SELECT 7");
    /// std::thread::scope(|scope| {
    ///     let asked = scope.spawn(|| {
    ///         let psql = std::process::Command::new("psql")
    ///             .args([&postgres.url_through(&proxy), "-Atc", "SELECT 7"])
    ///             .output();
    ///         psql.unwrap().stdout
    ///     });
    ///     hold.wait();
    ///     hold.pass();
    ///     assert_eq!(asked.join().unwrap(), b"7\n");
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the proxy is already holding at another place.
    pub fn hold(&self, way: Way, bytes: &[u8]) -> Hold<'_> {
        let place = Place { way, bytes: bytes.to_vec(), held: None };
        let before = self.shared.lock().places.hold.replace(place);
        assert!(before.is_none(), "a proxy holds at one place at a time");
        Hold { shared: &self.shared }
    }

    /// Forwards this many more bytes, over all connections and both directions, then resets the
    /// connection that carries the next one, even in the middle of a message.
    pub fn cut_after(&self, bytes: usize) {
        self.shared.lock().places.cut = Some(bytes);
    }

    /// How many connections [`cut_after`](Self::cut_after) has cut.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.shared.lock().places.cuts
    }

    /// Waits until [`cut_after`](Self::cut_after) has cut a connection.
    pub fn await_cut(&self) {
        let state = self.shared.lock();
        let is_due = |state: &mut State| state.places.cut.is_some();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, is_due);
        assert!(!waited.expect(UNPOISONED).1.timed_out(), "too few bytes after {PATIENCE:?}");
    }
}

/// Bytes that a proxy holds back as soon as they arrive. If this is dropped, they never reach the
/// other side: their connection is reset.
#[derive(Debug)]
#[must_use = "the connection is reset when it is dropped"]
pub struct Hold<'a> {
    shared: &'a Shared,
}

impl Hold<'_> {
    /// Waits until the bytes have arrived and are held back.
    pub fn wait(&self) {
        let state = self.shared.lock();
        let is_awaited =
            |state: &mut State| state.places.hold.as_ref().is_some_and(|it| it.held.is_none());
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, is_awaited);
        assert!(!waited.expect(UNPOISONED).1.timed_out(), "no such bytes after {PATIENCE:?}");
    }

    /// Lets them continue.
    pub fn pass(self) {
        self.shared.lock().places.hold = None;
        self.shared.changed.notify_all();
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let held = self.shared.lock().places.hold.take().and_then(|place| place.held);
        if let Some(connection) = held {
            connection.reset();
        }
        self.shared.changed.notify_all();
    }
}

/// One direction of one connection, as it is inspected.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) way: Way,
    /// The end of what has passed: bytes that are searched for may begin in it.
    passed: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(way: Way) -> Self {
        Self { way, passed: Vec::new() }
    }

    /// Returns, perhaps after a while, how many bytes of `chunk` may pass before the connection has
    /// to be reset; all of them if it continues.
    pub(crate) fn passes(
        &mut self,
        chunk: &[u8],
        connection: &Arc<Connection>,
        shared: &Shared,
    ) -> usize {
        let mut state = shared.lock();
        if self.is_held(&mut state, chunk) {
            if let Some(place) = &mut state.places.hold {
                place.held = Some(Arc::clone(connection));
            }
            shared.changed.notify_all();
            let is_held = |state: &mut State| {
                let held = state.places.hold.as_ref().and_then(|place| place.held.as_ref());
                held.is_some_and(|held| Arc::ptr_eq(held, connection))
            };
            state = shared.changed.wait_while(state, is_held).expect(UNPOISONED);
        }
        if connection.is_reset() {
            return 0;
        }
        let Some(left) = &mut state.places.cut else { return chunk.len() };
        if chunk.len() <= *left {
            *left -= chunk.len();
            return chunk.len();
        }
        let passes = *left;
        state.places.cut = None;
        state.places.cuts += 1;
        shared.changed.notify_all();
        passes
    }

    /// Whether this chunk contains the end of the bytes that are to be held back.
    fn is_held(&mut self, state: &mut MutexGuard<'_, State>, chunk: &[u8]) -> bool {
        let place = state.places.hold.as_ref();
        let Some(place) = place.filter(|it| it.way == self.way && it.held.is_none()) else {
            self.passed.clear();
            return false;
        };
        self.passed.extend_from_slice(chunk);
        let is_here = self.passed.windows(place.bytes.len()).any(|bytes| bytes == place.bytes);
        let kept = self.passed.len().min(place.bytes.len().saturating_sub(1));
        self.passed.drain(..self.passed.len() - kept);
        is_here
    }
}
