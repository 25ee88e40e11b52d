//! The address of a node, and where nodes redirect calls to.

use ::redis::{ConnectionAddr, ErrorKind, RedisError, ServerErrorKind};

/// Host and port of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    host: String,
    port: u16,
}

impl Address {
    pub(super) fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// A node that the node at `told` has named. If it names no host, it means its own.
    pub(super) fn told_by(told: &Self, host: &str, port: u16) -> Self {
        Self::new(if host.is_empty() { &told.host } else { host }, port)
    }

    /// This address with the TLS settings of `addr`.
    pub(super) fn reached_as(&self, addr: &ConnectionAddr) -> ConnectionAddr {
        let (host, port) = (self.host.clone(), self.port);
        match addr {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                let (insecure, tls_params) = (*insecure, tls_params.clone());
                ConnectionAddr::TcpTls { host, port, insecure, tls_params }
            }
            _ => ConnectionAddr::Tcp(host, port),
        }
    }
}

/// The address of a node that the user specified.
impl TryFrom<&ConnectionAddr> for Address {
    type Error = RedisError;

    fn try_from(addr: &ConnectionAddr) -> Result<Self, RedisError> {
        match addr {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Ok(Self::new(host, *port))
            }
            _ => {
                Err((ErrorKind::InvalidClientConfig, "a cluster node must have a host and a port")
                    .into())
            }
        }
    }
}

/// Where a node redirects a call to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// From now on.
    Moved(Address),
    /// This time: the slot is moving.
    Ask(Address),
}

impl Redirect {
    /// Parses the error of a call to `node`; `None` if it is not a redirect.
    pub(super) fn parse(error: &RedisError, node: &Address) -> Option<Self> {
        let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
        let address = Address::told_by(node, host, port.parse().ok()?);
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Ask) => Some(Self::Ask(address)),
            _ => Some(Self::Moved(address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use ::redis::{IntoConnectionInfo as _, parse_redis_value};

    use super::*;

    #[test]
    fn nodes_are_reached_with_the_tls_of_the_named_one() {
        let reached = |url: &str| {
            let info = url.into_connection_info().unwrap();
            Address::new("node", 7).reached_as(info.addr())
        };
        assert_eq!(reached("redis://named:1"), ConnectionAddr::Tcp("node".into(), 7));
        let (host, port, insecure) = ("node".into(), 7, false);
        let tls = ConnectionAddr::TcpTls { host, port, insecure, tls_params: None };
        assert_eq!(reached("rediss://named:1"), tls);
    }

    #[test]
    fn redirects_name_a_node() {
        let told = Address::new("told", 1);
        let redirect = |error: &str| {
            let answer = parse_redis_value(format!("-{error}\r\n").as_bytes()).unwrap();
            Redirect::parse(&answer.extract_error().unwrap_err(), &told)
        };
        let moved = |host, port| Some(Redirect::Moved(Address::new(host, port)));
        assert_eq!(redirect("MOVED 3999 127.0.0.1:6381"), moved("127.0.0.1", 6381));
        assert_eq!(redirect("MOVED 3999 ::1:6381"), moved("::1", 6381));
        assert_eq!(redirect("MOVED 3999 :6381"), moved("told", 6381));
        assert_eq!(redirect("ASK 3999 a:6381"), Some(Redirect::Ask(Address::new("a", 6381))));
        assert_eq!(redirect("MOVED 3999"), None);
        assert_eq!(redirect("CLUSTERDOWN Hash slot not served"), None);
    }
}
