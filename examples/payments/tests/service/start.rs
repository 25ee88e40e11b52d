//! How the service starts, and how it ends.

use std::process::Command;

use test_servers::{Postgres, Proxy, Way};

use crate::{client, count, fresh_key, pay, payments, send, sent};

/// Runs the program, which has to fail, and returns what it prints.
fn refusal(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_payments"));
    let output = command.env_clear().envs(variables.iter().copied()).output();
    let output = output.expect("it starts");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).expect("it is text")
}

#[test]
fn a_bad_variable_is_named() {
    let url = ("DATABASE_URL", "postgres://postgres@127.0.0.1:1/postgres");
    assert!(refusal(&[]).contains("DATABASE_URL is not set"));
    for (name, value) in [
        ("PAYMENTS_ADDR", "here"),
        ("PAYMENTS_LATENCY", "300"),
        ("PAYMENTS_LEASE", "2"),
        ("PAYMENTS_POOLER", "yes"),
    ] {
        let said = refusal(&[url, (name, value)]);
        assert!(said.contains(&format!("{name} is {value:?}")), "{said}");
    }
    let said = refusal(&[url]);
    assert!(said.contains("DATABASE_URL") && said.contains("cannot connect"), "{said}");
}

#[test]
fn instances_that_start_at_the_same_time_make_the_tables_once() {
    let postgres = Postgres::start();
    let instances: Vec<_> = std::thread::scope(|scope| {
        let starts = [(); 4].map(|()| scope.spawn(|| payments(&postgres.url(), &[])));
        starts.into_iter().map(|start| start.join().expect("it starts")).collect()
    });
    assert_eq!((instances.len(), count(&postgres, "payments")), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_lets_a_payment_end() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(postgres.address());
    let service = payments(&postgres.url_through(&proxy), &[]);
    let hold = proxy.hold(Way::Request, b"INSERT INTO outbox");
    let sent = tokio::spawn(sent(pay(&service, "/payments", &fresh_key())));
    tokio::task::block_in_place(|| hold.wait());
    service.terminate();
    hold.pass();
    assert_eq!(sent.await.expect("it does not panic").0, 201);
    assert!(service.ended().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_while_its_database_answers() {
    let postgres = Postgres::start();
    let service = payments(&postgres.url(), &[]);
    let status = async || {
        let ready = client().get(format!("http://{}/ready", service.address()));
        send(ready).await.status().as_u16()
    };
    assert_eq!(status().await, 200);
    tokio::task::block_in_place(|| postgres.kill());
    assert_eq!(status().await, 503);
    tokio::task::block_in_place(|| postgres.restart());
    let since = std::time::Instant::now();
    while status().await != 200 {
        assert!(since.elapsed().as_secs() < 60, "it is ready again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
