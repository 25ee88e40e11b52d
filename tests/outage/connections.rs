//! The connections that a server has taken from this process, as the system knows them: an answer
//! even if the server gives none.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

struct Socket {
    state: State,
    inode: u64,
}

#[derive(PartialEq, Eq)]
enum State {
    Established,
    /// The peer has closed it, and this side has not noticed.
    CloseWait,
    Other,
}

/// How many connections of this process the servers on `ports` have, those included that this
/// process has closed and the server has not noticed. One that still waits to be accepted does not
/// count, nor does one of another process, such as `redis-cli`.
pub(crate) fn count(ports: &[u16]) -> usize {
    let sockets = sockets();
    let own = own_inodes();
    let is_counted = |&(&(local, remote), socket): &(&(u16, u16), &Socket)| {
        let is_open = matches!(socket.state, State::Established | State::CloseWait);
        let is_accepted = socket.inode != 0;
        // A socket that its process has closed has no inode any more.
        let peer = sockets.get(&(remote, local)).map_or(0, |peer| peer.inode);
        ports.contains(&local) && is_open && is_accepted && (peer == 0 || own.contains(&peer))
    };
    sockets.iter().filter(is_counted).count()
}

/// By local and remote port. The table is read in parts, and while sockets come and go the system
/// repeats lines: ten connections were seen up to 592 times.
fn sockets() -> HashMap<(u16, u16), Socket> {
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc is mounted");
    table.lines().skip(1).filter_map(socket).collect()
}

/// A line of `/proc/net/tcp`.
fn socket(line: &str) -> Option<((u16, u16), Socket)> {
    let mut fields = line.split_whitespace().skip(1);
    let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
    let ports = (port(fields.next()?)?, port(fields.next()?)?);
    let state = match fields.next()? {
        "01" => State::Established,
        "08" => State::CloseWait,
        _ => State::Other,
    };
    let inode = fields.nth(5)?.parse().ok()?;
    Some((ports, Socket { state, inode }))
}

fn own_inodes() -> HashSet<u64> {
    let files = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let inode = |link: &str| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .filter_map(|link| inode(link.to_str()?))
        .collect()
}
