//! What is known of a request while it is judged.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use model::{Identity, Protocol, RequestId, Scheme};

use crate::operation::Named;
use crate::route::Route;
use crate::target::Target;

/// The facts of a request. The proxy fills them in as they are proven.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub request_id: RequestId,
    pub client: SocketAddr,
    /// The gate's own end of the connection.
    pub server: SocketAddr,
    pub scheme: Scheme,
    pub protocol: Protocol,
    pub method: &'a str,
    /// Lower case, without the port.
    pub host: &'a str,
    /// The host as the client sent it, with its port.
    pub host_header: &'a str,
    pub target: &'a Target,
    pub headers: &'a HeaderMap,
    /// Once the route is chosen.
    pub route: Option<&'a Route>,
    /// Once the identity is proven.
    pub identity: Option<&'a Identity>,
    /// Once the request is described, where the calls of its upstream have names.
    pub call: Option<Named<'a>>,
}

impl Facts<'_> {
    /// The client's address; an IPv4 address that a dual-stack socket wrote as IPv6 is an IPv4
    /// address again (RFC 4291 §2.5.5.2).
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.client.ip().to_canonical()
    }
}

/// Facts of an invented request, for the tests of this crate.
#[cfg(test)]
pub(crate) mod sample {
    use std::net::SocketAddr;

    use http::{HeaderMap, HeaderName, Uri};
    use model::{AgentId, Identity, OrganisationId, Protocol, RequestId, Scheme, TeamId};

    use super::Facts;
    use crate::target::Target;

    /// What [`Facts`] borrow from.
    #[derive(Debug)]
    pub(crate) struct Sample {
        pub(crate) client: SocketAddr,
        pub(crate) method: &'static str,
        pub(crate) host: String,
        pub(crate) host_header: String,
        pub(crate) target: Target,
        pub(crate) headers: HeaderMap,
        pub(crate) identity: Identity,
    }

    impl Sample {
        /// A `GET` of this target at `api.example.com`.
        pub(crate) fn new(target: &str) -> Self {
            Self {
                client: "192.0.2.7:4711".parse().unwrap(),
                method: "GET",
                host: "api.example.com".to_owned(),
                host_header: "Api.Example.com:9080".to_owned(),
                target: Target::parse(&target.parse::<Uri>().unwrap()).unwrap(),
                headers: HeaderMap::new(),
                identity: Identity {
                    organisation: OrganisationId::new("acme"),
                    team: Some(TeamId::new("dns")),
                    agent: AgentId::new("bot"),
                    run: None,
                    credential: None,
                },
            }
        }

        /// The same with a further header.
        pub(crate) fn header(mut self, name: &str, value: &[u8]) -> Self {
            let name: HeaderName = name.parse().unwrap();
            self.headers.append(name, value.try_into().unwrap());
            self
        }

        pub(crate) fn facts(&self) -> Facts<'_> {
            Facts {
                request_id: RequestId(0xabc),
                client: self.client,
                server: "[::ffff:10.0.0.1]:9080".parse().unwrap(),
                scheme: Scheme::Https,
                protocol: Protocol::Http2,
                method: self.method,
                host: &self.host,
                host_header: &self.host_header,
                target: &self.target,
                headers: &self.headers,
                route: None,
                identity: Some(&self.identity),
                call: None,
            }
        }
    }
}
