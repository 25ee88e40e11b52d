//! The proxy's faults, on the way to a real Redis.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use test_servers::{Fault, Proxy, Redis, Way};

fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).unwrap()
}

fn send(client: &mut TcpStream, command: &str) {
    client.write_all(format!("{command}\r\n").as_bytes()).unwrap();
}

fn receive(client: &mut TcpStream, reply: &str) {
    let mut bytes = vec![0; reply.len() + 2];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), format!("{reply}\r\n"));
}

fn assert_reset(client: &mut TcpStream) {
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn without_a_fault_it_passes_everything_on() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    assert_eq!(redis.cli(&["-u", &redis.url_through(&proxy), "SET", "a", "1"]), "OK");
    assert_eq!(redis.cli(&["GET", "a"]), "1");
}

#[test]
fn it_counts_what_a_client_sends() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let mut client = connect(&proxy);
    for requests in 1..4 {
        send(&mut client, "PING");
        receive(&mut client, "+PONG");
        assert_eq!(proxy.requests(), requests);
    }
}

#[test]
fn latency_delays_both_ways() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let latency = Duration::from_millis(50);
    proxy.set(Fault::Latency(latency));
    let mut client = connect(&proxy);
    let sent = Instant::now();
    send(&mut client, "PING");
    receive(&mut client, "+PONG");
    assert!(sent.elapsed() >= 2 * latency); // a lower bound: holds on the slowest machine
}

#[test]
fn a_stalled_request_arrives_when_the_stall_ends() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let mut client = connect(&proxy);
    proxy.set(Fault::Stall);
    send(&mut client, "SET a 1");
    proxy.await_stalled();
    assert_eq!(redis.cli(&["EXISTS", "a"]), "0");
    proxy.set(Fault::None);
    receive(&mut client, "+OK");
    assert_eq!(redis.cli(&["GET", "a"]), "1");
}

/// How many connections a server has besides its own.
fn clients(redis: &Redis) -> usize {
    redis.cli(&["CLIENT", "LIST"]).lines().count() - 1
}

#[test]
fn of_a_connection_made_in_a_stall_the_server_learns_when_it_ends() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    proxy.set(Fault::Stall);
    let (mut stays, mut goes) = (connect(&proxy), connect(&proxy));
    send(&mut goes, "SET a 1");
    proxy.await_stalled();
    send(&mut stays, "SET b 1");
    assert_eq!(clients(&redis), 0);
    drop(goes);
    proxy.set(Fault::None);
    receive(&mut stays, "+OK");
    assert_eq!(redis.cli(&["GET", "b"]), "1");
    assert_eq!(redis.cli(&["EXISTS", "a"]), "0", "its client has gone");
}

#[test]
fn redirected_it_leads_new_connections_to_another_server() {
    let (one, other) = (Redis::start(), Redis::start());
    let proxy = Proxy::start(one.address());
    let mut open = connect(&proxy);
    send(&mut open, "PING");
    receive(&mut open, "+PONG");
    proxy.redirect(other.address());
    assert_eq!(other.cli(&["-u", &other.url_through(&proxy), "SET", "a", "1"]), "OK");
    assert_eq!(other.cli(&["GET", "a"]), "1");
    send(&mut open, "EXISTS a");
    receive(&mut open, ":0");
}

#[test]
fn a_reset_ends_open_and_new_connections() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let mut open = connect(&proxy);
    send(&mut open, "PING");
    receive(&mut open, "+PONG");
    proxy.set(Fault::Reset);
    assert_reset(&mut open);
    assert_reset(&mut connect(&proxy));
    proxy.set(Fault::None);
    let mut new = connect(&proxy);
    send(&mut new, "PING");
    receive(&mut new, "+PONG");
}

#[test]
fn a_reset_ends_a_stalled_request_that_never_arrives() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    proxy.set(Fault::Stall);
    let mut client = connect(&proxy);
    send(&mut client, "SET a 1");
    proxy.await_stalled();
    proxy.set(Fault::Reset);
    assert_reset(&mut client);
    assert_eq!(redis.cli(&["EXISTS", "a"]), "0");
}

#[test]
fn a_lost_reply_leaves_the_request_done() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let mut client = connect(&proxy);
    proxy.set(Fault::LoseReplies);
    send(&mut client, "SET a 1");
    assert_reset(&mut client);
    assert_eq!(redis.cli(&["GET", "a"]), "1");
}

#[test]
fn bytes_that_are_held_back_arrive_when_they_may_and_others_meanwhile() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let (mut one, mut other) = (connect(&proxy), connect(&proxy));
    let hold = proxy.hold(Way::Request, b"SET a");
    // The place may be split over two chunks: the first of them has arrived.
    one.write_all(b"PING\r\nSE").unwrap();
    receive(&mut one, "+PONG");
    send(&mut one, "T a 1");
    hold.wait();
    assert_eq!(redis.cli(&["EXISTS", "a"]), "0");
    send(&mut other, "SET b 1");
    receive(&mut other, "+OK");
    hold.pass();
    receive(&mut one, "+OK");
    assert_eq!(redis.cli(&["GET", "a"]), "1");
}

#[test]
fn a_reply_that_is_held_back_and_then_dropped_is_of_a_request_that_was_done() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let mut client = connect(&proxy);
    let hold = proxy.hold(Way::Reply, b"+OK");
    send(&mut client, "SET a 1");
    hold.wait();
    assert_eq!(redis.cli(&["GET", "a"]), "1");
    drop(hold);
    assert_reset(&mut client);
    // And nothing is held back any longer.
    let mut client = connect(&proxy);
    send(&mut client, "SET a 2");
    receive(&mut client, "+OK");
}

#[test]
fn a_cut_lets_as_many_bytes_pass_as_it_says() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    for (cut_after, passes) in [(0, ""), (9, "+PO"), (12, "+PONG\r")] {
        let mut client = connect(&proxy);
        proxy.cut_after(cut_after);
        client.write_all(b"PING\r\n").unwrap();
        proxy.await_cut();
        let mut bytes = vec![0; passes.len()];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), passes);
        assert_reset(&mut client);
    }
    assert_eq!(proxy.cuts(), 3);
    let mut client = connect(&proxy);
    send(&mut client, "PING");
    receive(&mut client, "+PONG");
}

#[test]
fn of_a_client_that_vanishes_the_server_learns_with_the_next_reset() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let mut client = connect(&proxy);
    send(&mut client, "PING");
    receive(&mut client, "+PONG");
    proxy.vanish();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let mut new = connect(&proxy);
    send(&mut new, "PING");
    receive(&mut new, "+PONG");
    assert_eq!(clients(&redis), 2);
    proxy.set(Fault::Reset);
    let since = Instant::now();
    while clients(&redis) > 0 {
        assert!(since.elapsed() < Duration::from_mins(1), "the server's end is not closed");
    }
}

#[test]
fn a_dead_server_is_a_reset() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    redis.kill();
    assert_reset(&mut connect(&proxy));
}

#[test]
fn a_dropped_proxy_resets_its_connections_and_closes_its_port() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let address = proxy.address();
    let mut client = connect(&proxy);
    send(&mut client, "PING");
    receive(&mut client, "+PONG");
    drop(proxy);
    assert_reset(&mut client);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
