//! PostgreSQL, which waits for its disk.

use idempotent_runtime::PostgresStore;
use test_servers::{Postgres, Proxy};

use super::{check, cut, disturb, silence};

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_linearizable() {
    let server = Postgres::start_with(&["fsync=on"]);
    let proxy = Proxy::start(server.address());
    let mut instances = Vec::new();
    for url in [server.url(), server.url_through(&proxy), server.url_through(&proxy)] {
        let builder = PostgresStore::builder().max_connections(3);
        instances.push(builder.connect(&url).await.unwrap());
    }
    instances[0].migrate().await.unwrap();
    check("postgres", instances, async |load| {
        disturb(load, || server.restart()).await;
        cut(load, &proxy).await;
        disturb(load, || {
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name <> 'psql' AND backend_type = 'client backend'",
            );
        })
        .await;
        silence(load, || server.pause(), || server.resume()).await;
        silence(load, || server.kill(), || server.restart()).await;
    })
    .await;
}
