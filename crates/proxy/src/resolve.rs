//! From a node's name to its addresses, by DNS with its TTL.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use parking_lot::Mutex;

/// Sends what is meant for one `host:port` to an address, as curl's `--resolve` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Lower case.
    pub host: String,
    pub port: u16,
    pub address: SocketAddr,
}

impl std::str::FromStr for Override {
    type Err = String;

    /// Reads `HOST:PORT=ADDR:PORT`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not HOST:PORT=ADDR:PORT");
        let (name, address) = text.split_once('=').ok_or_else(wrong)?;
        let (host, port) = name.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            host,
            port: port.parse().map_err(|_| wrong())?,
            address: address.parse().map_err(|_| wrong())?,
        })
    }
}

/// A core's resolver. Answers are kept for their TTL, at most [`ANSWERS_MAX`] of them; beyond it
/// the resolver drops those it used least.
pub(crate) struct Resolver {
    overrides: Arc<HashMap<(String, u16), SocketAddr>>,
    /// Made at the first name that needs it: a node that meets addresses only asks no DNS.
    dns: Mutex<Option<Arc<TokioResolver>>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("overrides", &self.overrides).finish_non_exhaustive()
    }
}

impl Resolver {
    pub(crate) fn new(overrides: &[Override]) -> Self {
        let entry = |o: &Override| ((o.host.clone(), o.port), o.address);
        Self { overrides: Arc::new(overrides.iter().map(entry).collect()), dns: Mutex::default() }
    }

    /// The addresses of a node, never none. The caller sets the deadline.
    ///
    /// # Errors
    /// What the resolver said.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        if !self.overrides.is_empty()
            && let Some(address) = self.overrides.get(&(host.to_owned(), port))
        {
            return Ok(vec![*address]);
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let dns = self.dns()?;
        let found = dns.lookup_ip(host).await.map_err(|cause| cause.to_string())?;
        let addresses: Vec<_> =
            found.iter().map(|address| SocketAddr::new(address, port)).collect();
        if addresses.is_empty() { Err(format!("{host} has no address")) } else { Ok(addresses) }
    }

    fn dns(&self) -> Result<Arc<TokioResolver>, String> {
        let mut dns = self.dns.lock();
        if let Some(dns) = &*dns {
            return Ok(Arc::clone(dns));
        }
        let mut builder = TokioResolver::builder_tokio().map_err(|cause| cause.to_string())?;
        builder.options_mut().cache_size = ANSWERS_MAX;
        let made = Arc::new(builder.build().map_err(|cause| cause.to_string())?);
        *dns = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// Answers a core keeps.
const ANSWERS_MAX: u64 = 1_024;

#[cfg(test)]
mod tests {
    use super::Override;

    fn check(text: &str, expected: Option<(&str, u16, &str)>) {
        let read: Option<Override> = text.parse().ok();
        let expected = expected.map(|(host, port, address)| Override {
            host: host.to_owned(),
            port,
            address: address.parse().unwrap(),
        });
        assert_eq!(read, expected, "{text}");
    }

    #[test]
    fn an_override_names_a_host_a_port_and_an_address() {
        check(
            "api.Cloudflare.com:443=127.0.0.1:8443",
            Some(("api.cloudflare.com", 443, "127.0.0.1:8443")),
        );
        check("[::1]:80=[::1]:81", Some(("::1", 80, "[::1]:81")));
        for wrong in [
            "",
            "a",
            "a:1",
            "a=1.2.3.4:5",
            "a:x=1.2.3.4:5",
            "a:1=1.2.3.4",
            ":1=1.2.3.4:5",
            "a:1=b:2",
        ] {
            check(wrong, None);
        }
    }
}
