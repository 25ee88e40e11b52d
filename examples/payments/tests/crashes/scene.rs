//! What a row runs on: servers, and instances of the service that reach them through proxies.

use test_servers::{PgBouncer, Postgres, Proxy};

use crate::{
    matrix::{Fault, Row},
    process::Service,
};

/// The service, with everything around it. Instances are dropped before what they use.
pub(crate) struct Scene {
    pub(crate) instances: [Instance; 2],
    /// Where the outbox is delivered; `None` if a step is waited for, or the worker's commit would
    /// be taken for a payment's.
    pub(crate) ledger: Option<Service>,
    _pooler: Option<PgBouncer>,
    pub(crate) postgres: Postgres,
}

/// One instance of the service, with its own way to the database.
pub(crate) struct Instance {
    pub(crate) service: Service,
    pub(crate) proxy: Proxy,
}

impl Scene {
    pub(crate) fn start(row: &Row) -> Self {
        let postgres = Postgres::start();
        // More clients than the default of 100, because dead ones are noticed late.
        let settings = ["max_client_conn = 1000", "default_pool_size = 40"];
        let pooler = row.pooler.map(|mode| PgBouncer::start_with(&postgres, mode, &settings));
        let database = pooler.as_ref().map_or(postgres.address(), PgBouncer::address);
        let ledger = (!matches!(row.fault, Fault::KilledAt(_))).then(|| {
            let anywhere = vec![("LEDGER_ADDR", "127.0.0.1:0".to_owned())];
            Service::start(env!("CARGO_BIN_EXE_ledger"), anywhere)
        });
        let instance = || {
            let proxy = Proxy::start(database);
            let mut variables = vec![
                ("DATABASE_URL", postgres.url_through(&proxy)),
                ("PAYMENTS_ADDR", "127.0.0.1:0".to_owned()),
                ("PAYMENTS_LATENCY", "10ms".to_owned()),
                // A plain claim outlives its instance by this long.
                ("PAYMENTS_LEASE", "1s".to_owned()),
                ("PAYMENTS_POOLER", pooler.is_some().to_string()),
            ];
            if let Some(ledger) = &ledger {
                let url = format!("http://{}/bookings", ledger.address());
                variables.push(("PAYMENTS_LEDGER", url));
            }
            Instance { service: Service::start(env!("CARGO_BIN_EXE_payments"), variables), proxy }
        };
        Self { instances: [instance(), instance()], ledger, _pooler: pooler, postgres }
    }
}
