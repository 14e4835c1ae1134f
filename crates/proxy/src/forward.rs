//! To the upstream and back: rewrite, strip, inject, send; repeat only what had no effect.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use ledger::Reservation;
use model::{Attempt, Code, Refusal, Retry};
use rules::Snapshot;
use rules::plan::Plan;
use rules::route::Route;
use rules::upstream::{Credential, Node, PassHost, Upstream, UpstreamScheme};

use crate::body::{Content, RequestBody, Upload};
use crate::connect::{ConnectError, Endpoint, Protocols};
use crate::head::Head;
use crate::identify::Identified;
use crate::park::Line;
use crate::pool::Lease;
use crate::quota::{Granted, Rest};
use crate::trip::Trip;

mod exchange;
mod headers;
mod quote;

use exchange::Exchange;
use headers::Dressed;
pub(crate) use headers::{strip_hop_by_hop, strip_trailers, without_credentials};
pub(crate) use quote::ask;

/// The upstream's answer, its body still to come.
#[derive(Debug)]
pub(crate) struct Answer<B = Incoming> {
    pub(crate) response: Response<B>,
    /// What was read of its body already; boxed, since of few is.
    pub(crate) ahead: Option<Box<Bytes>>,
    pub(crate) lease: Lease,
    pub(crate) upload: Arc<Upload>,
    /// The longest pause in its body.
    pub(crate) pause_max: Duration,
    pub(crate) limits: (Plan, Reservation),
    /// What is left of the upstream's quota, where it has one.
    pub(crate) rest: Option<Box<Rest>>,
    /// The client's request id and its field, to give back (`request-id`).
    pub(crate) request_id: Option<(HeaderName, HeaderValue)>,
    /// The client's connection, when it asked to speak WebSocket.
    pub(crate) line: Option<Arc<Line>>,
}

impl Answer {
    /// The answer, and its body by itself.
    pub(crate) fn without_body(self) -> (Answer<()>, Incoming) {
        let Self { response, ahead, lease, upload, pause_max, limits, rest, request_id, line } =
            self;
        let (parts, body) = response.into_parts();
        let response = Response::from_parts(parts, ());
        let answer =
            Answer { response, ahead, lease, upload, pause_max, limits, rest, request_id, line };
        (answer, body)
    }
}

impl Answer<()> {
    /// The answer with its body again, a part of which was read.
    pub(crate) fn with_body(self, ahead: Bytes, body: Incoming) -> Answer {
        let Self { response, ahead: _, lease, upload, pause_max, limits, rest, request_id, line } =
            self;
        let (response, ahead) = (response.map(|()| body), Some(Box::new(ahead)));
        Answer { response, ahead, lease, upload, pause_max, limits, rest, request_id, line }
    }
}

/// Sends a request whose turn it is to its upstream.
pub(crate) async fn forward(
    trip: &mut Trip,
    head: &mut Head,
    body: Content,
    mut granted: Granted,
) -> Result<Answer, Refusal> {
    let route = Arc::clone(granted.described().identified().route());
    let upstream = upstream_of(&route)?;
    let upgrades = head.upgrade.is_some();
    if upgrades && !route.websocket {
        let detail = "the route does not carry WebSocket (`enable_websocket`)";
        return Err(Refusal::new(Code::UpgradeRefused, detail));
    }
    let timeouts = route.timeouts.unwrap_or(upstream.timeouts);
    let dressed = headers::dress(trip, head, granted.described(), upstream)?;
    let mut kept = Kept::of(granted.described().identified(), upstream);
    let Dressed { method, target, headers, host, request_id } = dressed;
    let upload = Upload::new(trip.request_body_max());
    trip.upload = Some(Arc::clone(&upload));
    let request = Some(request(method, headers, RequestBody::new(body, Arc::clone(&upload))));
    let (unknown, place) = (HeaderValue::from_static(""), granted.place());
    let mut exchange =
        Exchange { upstream, timeouts, upload, target, host: unknown, request, place };
    let order = trip.core.turns.lock().order(upstream);
    let started = trip.core.shared.clock.uptime();
    let mut last = None;
    for (tries, node) in (1..=upstream.retries.saturating_add(1)).zip(order) {
        let now = trip.core.shared.clock.uptime();
        if tries > 1 && upstream.retry_within.is_some_and(|within| now.since(started) >= within) {
            break;
        }
        note(trip, upstream, node, tries);
        let endpoint = endpoint(upstream, node, host.as_ref(), upgrades);
        exchange.host = host.clone().unwrap_or_else(|| host_for(upstream, node, head));
        if let Some(request) = &mut exchange.request {
            let is_node = exchange.host == node.host_header;
            kept.dress(&trip.snapshot, is_node.then_some(&endpoint), request.headers_mut())?;
        }
        let pool = &trip.core.pool;
        let lease = match pool.lend(&endpoint, upstream.keepalive, timeouts.connect, now).await {
            Ok(lease) => lease,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        let (response, lease) = exchange.run(trip, &endpoint, lease).await?;
        trip.learnt().timing.upstream = Some(trip.core.shared.clock.uptime().since(started));
        let rest = exchange.rest(trip, &response)?;
        let (limits, upload) = (granted.into_limits(), exchange.upload);
        let (ahead, pause_max, line) = (None, timeouts.read, head.upgrade.take());
        let answer =
            Answer { response, ahead, lease, upload, pause_max, limits, rest, request_id, line };
        return Ok(answer);
    }
    Err(last.map_or_else(absent, |error| unreachable(&error)))
}

/// A request without its target, which depends on the connection.
fn request(method: Method, headers: HeaderMap, body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::new(body);
    (*request.method_mut(), *request.headers_mut()) = (method, headers);
    request
}

/// The upstream, with every secret that the route and it need.
fn upstream_of(route: &Route) -> Result<&Arc<Upstream>, Refusal> {
    let upstream = route.upstream.as_ref().ok_or_else(absent)?;
    match (&route.unresolved, &upstream.credential) {
        (Some(reference), _) | (None, Credential::Unresolved { reference }) => {
            Err(unresolved(reference))
        }
        (None, Credential::None | Credential::Ready { .. }) => Ok(upstream),
    }
}

/// The credential that this node keeps for the host it is about to ask.
enum Kept {
    /// The upstream names its own, or nothing shows who asks or who answers.
    Never,
    /// Put in for a host that has one; holds the field while it stands in the request.
    PerHost(Option<HeaderName>),
}

impl Kept {
    fn of(identified: &Identified, upstream: &Upstream) -> Self {
        let is_due = matches!(upstream.credential, Credential::None)
            && upstream.scheme.is_tls()
            && upstream.verify
            && identified.is_proven();
        if is_due { Self::PerHost(None) } else { Self::Never }
    }

    /// Puts the host's credential in, and takes out another host's. `None` stands for an endpoint
    /// that is asked for another host than its own.
    fn dress(
        &mut self,
        snapshot: &Snapshot,
        endpoint: Option<&Endpoint>,
        headers: &mut HeaderMap,
    ) -> Result<(), Refusal> {
        let Self::PerHost(standing) = self else { return Ok(()) };
        if let Some(header) = standing.take() {
            headers.remove(header);
        }
        // The certificate and the request must both name the very host that the credential
        // belongs to: servers that share an address tell their customers apart by `Host` alone.
        let Some(endpoint) = endpoint.filter(|one| one.server_name.as_ref() == Some(&one.host))
        else {
            return Ok(());
        };
        match snapshot.credential_of(&endpoint.host, endpoint.port).map(|kept| &kept.credential) {
            Some(Credential::Ready { header, value }) => {
                headers.insert(header.clone(), value.clone());
                *standing = Some(header.clone());
                Ok(())
            }
            Some(Credential::Unresolved { reference }) => Err(unresolved(reference)),
            Some(Credential::None) | None => Ok(()),
        }
    }
}

fn endpoint(
    upstream: &Upstream,
    node: &Node,
    host: Option<&HeaderValue>,
    upgrades: bool,
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
        protocols: match upstream.scheme {
            _ if upgrades => Protocols::Http1,
            UpstreamScheme::Http | UpstreamScheme::Https => Protocols::Any,
            UpstreamScheme::Grpc | UpstreamScheme::Grpcs => Protocols::Http2,
        },
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

fn note(trip: &mut Trip, upstream: &Upstream, node: &Node, tries: u32) {
    trip.learnt().attempt = Some(Attempt {
        upstream: upstream.id.clone(),
        node: Arc::clone(&node.authority),
        address: None,
        tries,
        status: None,
    });
}

fn absent() -> Refusal {
    Refusal::new(Code::UpstreamAbsent, "the route has no upstream node").retry(Retry::Soon)
}

fn unresolved(reference: &str) -> Refusal {
    let detail = format!("the secret {reference} is not resolved on this node");
    Refusal::new(Code::SecretUnresolved, detail).retry(Retry::Soon).sealed()
}

fn unreachable(error: &ConnectError) -> Refusal {
    let (code, retry) = match error {
        ConnectError::Untrusted { .. } | ConnectError::Name { .. } => {
            (Code::UpstreamUntrusted, Retry::Never)
        }
        ConnectError::Late { .. } => (Code::UpstreamTimeout, Retry::Soon),
        ConnectError::Resolve { .. }
        | ConnectError::Connect { .. }
        | ConnectError::Tls { .. }
        | ConnectError::Http { .. } => (Code::UpstreamUnreachable, Retry::Soon),
    };
    Refusal::new(code, error.to_string()).retry(retry).sealed()
}

fn broken(cause: &hyper::Error) -> Refusal {
    let code = if cause.is_user() { Code::BodyBroken } else { Code::UpstreamBroken };
    Refusal::new(code, format!("the exchange broke off: {cause}")).sealed()
}
