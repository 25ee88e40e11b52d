//! [`rows`]: each store with each fault.

mod cluster;
mod postgres;
mod redis;
mod sqlite;

use test_servers::{Fault, Proxy};

use crate::{Form, service::Access};

/// A row of the table.
pub(crate) struct Row {
    pub(crate) store: &'static str,
    pub(crate) fault: &'static str,
    /// Requests per second, if not the form's.
    pub(crate) rate: Option<u32>,
    /// How many connections the service keeps, to all servers of the store together.
    pub(crate) pool: usize,
    /// Whether the server may lose what it has acknowledged.
    pub(crate) loses_writes: bool,
    /// Whether the service keeps copies of what is stored.
    pub(crate) has_copies: bool,
    pub(crate) scene: fn() -> Scene,
}

impl Row {
    pub(crate) fn name(&self) -> String {
        format!("{}, {}", self.store, self.fault)
    }

    pub(crate) fn rate(&self, form: Form) -> u32 {
        self.rate.unwrap_or(form.rate)
    }
}

/// The servers of a row, and how their fault begins and ends.
pub(crate) struct Scene {
    pub(crate) access: Access,
    /// The ports of the servers whose connections are counted.
    pub(crate) ports: Vec<u16>,
    pub(crate) begin: Change,
    pub(crate) end: Change,
    /// Whether it can begin again.
    pub(crate) is_repeatable: bool,
}

/// Returns when it is done: at the end, when the store serves again.
type Change = Box<dyn Fn() + Send + Sync>;

pub(crate) fn rows() -> Vec<Row> {
    redis::rows()
        .into_iter()
        .chain(cluster::rows())
        .chain(postgres::rows())
        .chain(sqlite::rows())
        .collect()
}

/// A network fault on the way to the server; `access` goes through it.
fn on_the_way(
    access: Access,
    port: u16,
    proxy: Proxy,
    fault: Fault,
    server: impl Send + Sync + 'static,
) -> Scene {
    let proxy = std::sync::Arc::new(proxy);
    let healing = std::sync::Arc::clone(&proxy);
    Scene {
        access,
        ports: vec![port],
        begin: Box::new(move || proxy.set(fault)),
        end: Box::new(move || {
            let _alive = &server;
            healing.set(Fault::None);
        }),
        is_repeatable: true,
    }
}
