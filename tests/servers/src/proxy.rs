//! A TCP proxy that makes a network fail.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;

use crate::process::PATIENCE;
use crate::tap::{Places, Stream, Way};

/// What a [`Proxy`] does to all its connections, open and new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Forwards everything.
    None,
    /// Forwards everything with a delay: each chunk of bytes, in each direction, after this time.
    Latency(Duration),
    /// Holds everything back. Connections stay open, and new ones are accepted without the server
    /// learning of them; what was held is forwarded with the next fault.
    Stall,
    /// Resets every connection.
    Reset,
    /// Forwards requests, and resets a connection when the answer would arrive: the server has done
    /// something that the caller does not know about.
    LoseReplies,
}

/// A TCP proxy in its own threads. Dropping it resets its connections and closes its port.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy on a free port of 127.0.0.1 that forwards everything to `upstream`, which need not
    /// exist yet.
    #[must_use]
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .expect("the loopback interface has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::new(upstream));
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared))
        };
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does, from the next chunk of bytes on. A chunk that is being forwarded when
    /// this is called may still arrive.
    pub fn set(&self, fault: Fault) {
        let mut state = self.shared.lock();
        state.fault = fault;
        if fault == Fault::Reset {
            state.reset();
        }
        self.shared.changed.notify_all();
    }

    /// Forwards new connections to `upstream` from now on, like an address that moves to another
    /// server. Open connections stay where they are.
    pub fn redirect(&self, upstream: SocketAddr) {
        self.shared.lock().upstream = upstream;
    }

    /// How many times bytes from clients have been forwarded: once for each round trip, if they
    /// wait for each answer.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Ends the client's side of every open connection, but leaves the server's side open: like a
    /// host that has vanished, which the server does not learn until the next [`Fault::Reset`].
    pub fn vanish(&self) {
        let mut state = self.shared.lock();
        let open: Vec<_> = state.connections.iter().filter_map(Weak::upgrade).collect();
        for connection in &open {
            connection.vanish();
        }
        state.vanished.extend(open);
    }

    /// Waits until bytes are held back by [`Fault::Stall`]: a request is on its way and will not
    /// arrive.
    pub fn await_stalled(&self) {
        let state = self.shared.lock();
        let none = |state: &mut State| state.stalled == 0;
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, none);
        let is_late = waited.expect(UNPOISONED).1.timed_out();
        assert!(!is_late, "no bytes have come to the proxy after {PATIENCE:?}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.set(Fault::Reset);
        let _ = TcpStream::connect(self.address); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

pub(crate) const UNPOISONED: &str = "no thread panics while it holds the lock";

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) changed: Condvar,
    requests: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct State {
    upstream: SocketAddr,
    fault: Fault,
    closed: bool,
    stalled: usize,
    connections: Vec<Weak<Connection>>,
    /// Connections whose client has vanished.
    vanished: Vec<Arc<Connection>>,
    pub(crate) places: Places,
}

impl State {
    fn reset(&mut self) {
        self.vanished.clear();
        self.connections
            .drain(..)
            .filter_map(|connection| connection.upgrade())
            .for_each(|c| c.reset());
    }
}

impl Shared {
    fn new(upstream: SocketAddr) -> Self {
        let state = State {
            upstream,
            fault: Fault::None,
            closed: false,
            stalled: 0,
            connections: Vec::new(),
            vanished: Vec::new(),
            places: Places::default(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), requests: AtomicUsize::new(0) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }

    /// Waits until the stall during which a client has connected ends, and counts what it has sent;
    /// `false` if nobody is waiting any more.
    fn await_passage(&self, client: &TcpStream) -> bool {
        let stalls = |state: &mut State| state.fault == Fault::Stall;
        // The client speaks first; until it does, check now and then whether the stall has ended.
        let _ = client.set_read_timeout(Some(Duration::from_millis(10)));
        let mut state = loop {
            let sent = client.peek(&mut [0]);
            let mut state = self.lock();
            match sent {
                Ok(0) => return false,
                Err(_) if stalls(&mut state) => {}
                Ok(_) | Err(_) => break state,
            }
        };
        state.stalled += 1;
        self.changed.notify_all();
        state = self.changed.wait_while(state, stalls).expect(UNPOISONED);
        state.stalled -= 1;
        drop(state);
        let _ = client.set_read_timeout(None);
        !has_gone(client)
    }

    /// Waits until the next bytes may pass; `false` if they never may.
    fn admit(&self, way: Way, connection: &Connection) -> bool {
        let mut state = self.lock();
        if state.fault == Fault::Stall {
            state.stalled += 1;
            self.changed.notify_all();
            let stalls = |state: &mut State| state.fault == Fault::Stall;
            state = self.changed.wait_while(state, stalls).expect(UNPOISONED);
            state.stalled -= 1;
        }
        if let Fault::Latency(latency) = state.fault {
            drop(state);
            thread::sleep(latency);
            state = self.lock();
        }
        let lost = state.fault == Fault::LoseReplies && way == Way::Reply;
        if lost {
            connection.reset();
        }
        !connection.is_reset()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.lock().closed {
            return;
        }
        let Ok(client) = client else { continue };
        abort(&client); // until it is known to be passed on
        if shared.lock().fault == Fault::Stall {
            let shared = Arc::clone(shared);
            thread::spawn(move || {
                if shared.await_passage(&client) {
                    connect(client, &shared);
                }
            });
        } else {
            connect(client, shared);
        }
    }
}

fn connect(client: TcpStream, shared: &Arc<Shared>) {
    let upstream = shared.lock().upstream;
    let Ok(server) = TcpStream::connect(upstream) else { return };
    let mut state = shared.lock();
    if state.fault == Fault::Reset {
        return;
    }
    let _ = set_socket_linger(&client, None);
    let (reset, vanished) = (AtomicBool::new(false), AtomicBool::new(false));
    let connection = Arc::new(Connection { client, server, reset, vanished });
    state.connections.retain(|connection| connection.strong_count() > 0);
    state.connections.push(Arc::downgrade(&connection));
    for way in [Way::Request, Way::Reply] {
        let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
        thread::spawn(move || {
            if pump(way, &connection, &shared).is_err() && !connection.has_vanished() {
                connection.reset();
            }
        });
    }
}

/// Both sockets of a client's connection. They close once the threads of both directions have
/// released them.
#[derive(Debug)]
pub(crate) struct Connection {
    client: TcpStream,
    server: TcpStream,
    reset: AtomicBool,
    vanished: AtomicBool,
}

impl Connection {
    fn vanish(&self) {
        self.vanished.store(true, Ordering::SeqCst);
        let _ = self.client.shutdown(Shutdown::Both);
    }

    fn has_vanished(&self) -> bool {
        self.vanished.load(Ordering::SeqCst)
    }

    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::SeqCst);
        for socket in [&self.client, &self.server] {
            abort(socket);
            let _ = socket.shutdown(Shutdown::Read); // wakes the thread that reads, and sends nothing
        }
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.reset.load(Ordering::SeqCst)
    }
}

/// Whether the other end has closed, even if what it sent before has not been read yet.
fn has_gone(socket: &TcpStream) -> bool {
    let closed = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut looked = [PollFd::new(socket, PollFlags::RDHUP)];
    poll(&mut looked, Some(&Timespec::default())).is_ok() && looked[0].revents().intersects(closed)
}

/// Makes closing the socket a reset.
fn abort(socket: &TcpStream) {
    let _ = set_socket_linger(socket, Some(Duration::ZERO));
}

fn pump(way: Way, connection: &Arc<Connection>, shared: &Shared) -> io::Result<()> {
    let (mut from, mut to) = match way {
        Way::Request => (&connection.client, &connection.server),
        Way::Reply => (&connection.server, &connection.client),
    };
    to.set_nodelay(true)?;
    let mut chunk = vec![0; 64 * 1024];
    let mut stream = Stream::new(way);
    loop {
        let length = from.read(&mut chunk)?;
        if connection.has_vanished() || !shared.admit(way, connection) {
            return Ok(());
        }
        if length == 0 {
            return to.shutdown(Shutdown::Write);
        }
        if way == Way::Request {
            shared.requests.fetch_add(1, Ordering::SeqCst);
        }
        let passes = stream.passes(&chunk[..length], connection, shared);
        to.write_all(&chunk[..passes])?;
        if passes < length {
            connection.reset();
            return Ok(());
        }
    }
}
