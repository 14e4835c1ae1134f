//! Where a request goes: nodes, how to speak to them, and the real credential.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use model::UpstreamId;

use crate::operation::Api;

/// A set of nodes that serve the same API.
#[derive(Debug)]
pub struct Upstream {
    pub id: UpstreamId,
    pub scheme: UpstreamScheme,
    /// Nodes of weight above zero, best priority first. Empty means 503.
    pub nodes: Vec<Node>,
    pub pass_host: PassHost,
    /// Whether the upstream's certificate must be valid for the node's name. On unless the
    /// document says otherwise.
    pub verify: bool,
    pub timeouts: Timeouts,
    /// Further nodes tried after the first could not be reached.
    pub retries: u32,
    /// No try starts later than this after the first; `None` for no such bound.
    pub retry_within: Option<Duration>,
    pub keepalive: KeepAlive,
    pub credential: Credential,
    /// The API it speaks, when its operations have names.
    pub api: Option<Api>,
    /// The upstream is ours: it may see who the agent is. Otherwise it is foreign and never does.
    pub trusted: bool,
}

/// How to speak to the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamScheme {
    /// HTTP/1.1 in clear text.
    Http,
    /// HTTP/2 or HTTP/1.1 over TLS, as ALPN agrees.
    Https,
    /// HTTP/2 in clear text, known beforehand.
    Grpc,
    /// HTTP/2 over TLS.
    Grpcs,
}

impl UpstreamScheme {
    /// Whether connections are secured by TLS.
    #[must_use]
    pub const fn is_tls(self) -> bool {
        match self {
            Self::Https | Self::Grpcs => true,
            Self::Http | Self::Grpc => false,
        }
    }

    /// The port of a node that names none.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        if self.is_tls() { 443 } else { 80 }
    }
}

/// One node as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// A host name (lower case) or an IP address, without brackets.
    pub host: Arc<str>,
    pub port: u16,
    /// `host:port`, as records and metrics name it.
    pub authority: Arc<str>,
    /// The `Host` to send when the node's own name is passed: without the scheme's own port.
    pub host_header: HeaderValue,
    /// Above zero.
    pub weight: u32,
    /// Nodes of a lower priority are used only when those above cannot be reached.
    pub priority: i32,
}

/// Which `Host` the upstream sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassHost {
    /// The client's own.
    Pass,
    /// The chosen node's.
    Node,
    /// This one.
    Rewrite(HeaderValue),
}

/// How long each step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// DNS, TCP and TLS together.
    pub connect: Duration,
    /// Between two pieces of the request that the upstream takes.
    pub send: Duration,
    /// Until the answer's head, and between two pieces of its body.
    pub read: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { connect: minute, send: minute, read: minute }
    }
}

/// How idle connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeepAlive {
    /// Idle connections kept a core; above it the oldest is closed.
    pub size: u32,
    /// How long one may stay idle.
    pub idle: Duration,
    /// Requests after which a connection is closed.
    pub requests: u32,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { size: 320, idle: Duration::from_secs(60), requests: 1_000 }
    }
}

/// The real credential of an upstream, which agents never see.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The upstream needs none.
    None,
    /// Put into this field of every request, instead of what the client sent there. The value is
    /// marked sensitive, so it is neither printed nor kept in HPACK tables.
    Ready { header: HeaderName, value: HeaderValue },
    /// The reference is not resolved on this node: every request is refused.
    Unresolved { reference: Arc<str> },
}

/// A credential that belongs to a host. It is sent there by every upstream that names none of its
/// own, but only over verified TLS and only for an agent whose identity is proven.
#[derive(Clone, Debug)]
pub struct HostCredential {
    /// Lower case.
    pub host: Arc<str>,
    pub port: u16,
    pub credential: Credential,
}
