//! The way to a node, and the credential that a request carries on it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use model::Refusal;
use rules::Snapshot;
use rules::upstream::{Credential, Node, PassHost, Upstream, UpstreamScheme};

use super::unresolved;
use crate::connect::{Endpoint, Protocols};
use crate::head::Head;

/// Where a request goes, and which host it asks there.
pub(crate) struct Way {
    pub(crate) endpoint: Endpoint,
    /// The request's `Host`.
    pub(crate) host: HeaderValue,
    /// The certificate and the request both name the very node: servers that share an address tell
    /// their customers apart by `Host` alone.
    asks_node: bool,
}

/// A field and its value that show the upstream who asks.
pub(crate) type Shown<'a> = (&'a HeaderName, &'a HeaderValue);

impl Way {
    /// The way to a node of an upstream; `rewritten` is the `Host` of a rewrite.
    pub(crate) fn to(
        node: &Node,
        upstream: &Upstream,
        rewritten: Option<&HeaderValue>,
        head: &Head,
        protocols: Protocols,
    ) -> Self {
        let endpoint = endpoint(upstream, node, rewritten, protocols);
        let host = rewritten.cloned().unwrap_or_else(|| host_for(upstream, node, head));
        let asks_node =
            host == node.host_header && endpoint.server_name.as_ref() == Some(&endpoint.host);
        Self { endpoint, host, asks_node }
    }

    /// The credential that a request carries on this way: the upstream's own, or else what the node
    /// keeps for the host that is asked. The latter goes over verified TLS only, and only for an
    /// agent that has shown who it is. Whatever counts or sends a credential asks here.
    ///
    /// # Errors
    /// When it is not resolved on this node.
    pub(crate) fn credential<'a>(
        &self,
        snapshot: &'a Snapshot,
        upstream: &'a Upstream,
        is_proven: bool,
    ) -> Result<Option<Shown<'a>>, Refusal> {
        let is_due = upstream.scheme.is_tls() && upstream.verify && is_proven && self.asks_node;
        let Endpoint { host, port, .. } = &self.endpoint;
        let chosen = match &upstream.credential {
            Credential::None if !is_due => None,
            Credential::None => snapshot.credential_of(host, *port).map(|kept| &kept.credential),
            own @ (Credential::Ready { .. } | Credential::Unresolved { .. }) => Some(own),
        };
        match chosen {
            Some(Credential::Ready { header, value }) => Ok(Some((header, value))),
            Some(Credential::Unresolved { reference }) => Err(unresolved(reference)),
            Some(Credential::None) | None => Ok(None),
        }
    }
}

/// The credential that stands in a request.
#[derive(Default)]
pub(super) struct Standing(Option<HeaderName>);

impl Standing {
    /// Puts a credential in, and takes out the one before, which another node was shown.
    pub(super) fn show(&mut self, shown: Option<Shown<'_>>, headers: &mut HeaderMap) {
        if let Some(header) = self.0.take() {
            headers.remove(header);
        }
        if let Some((header, value)) = shown {
            headers.insert(header.clone(), value.clone());
            self.0 = Some(header.clone());
        }
    }
}

fn endpoint(
    upstream: &Upstream,
    node: &Node,
    host: Option<&HeaderValue>,
    protocols: Protocols,
) -> Endpoint {
    let rewritten = match &upstream.pass_host {
        PassHost::Rewrite(host) => Some(host),
        PassHost::Pass | PassHost::Node => None,
    };
    let asked = host.or(rewritten).and_then(|host| host.to_str().ok());
    let name = asked.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    let server_name = upstream.scheme.is_tls().then(|| match name {
        Some(name) => Arc::from(name),
        None => Arc::clone(&node.host),
    });
    Endpoint {
        host: Arc::clone(&node.host),
        port: node.port,
        server_name,
        verify: upstream.verify,
        protocols,
    }
}

/// What is spoken with an upstream; an upgrade needs HTTP/1.1.
pub(crate) const fn protocols(upstream: &Upstream, upgrades: bool) -> Protocols {
    match upstream.scheme {
        _ if upgrades => Protocols::Http1,
        UpstreamScheme::Http | UpstreamScheme::Https => Protocols::Any,
        UpstreamScheme::Grpc | UpstreamScheme::Grpcs => Protocols::Http2,
    }
}

fn host_for(upstream: &Upstream, node: &Node, head: &Head) -> HeaderValue {
    match &upstream.pass_host {
        PassHost::Pass => HeaderValue::from_str(&head.host_header)
            .ok()
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| node.host_header.clone()),
        PassHost::Node => node.host_header.clone(),
        PassHost::Rewrite(host) => host.clone(),
    }
}
