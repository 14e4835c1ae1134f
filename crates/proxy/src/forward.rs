//! To the upstream and back: rewrite, strip, inject, send; repeat only what had no effect.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use ledger::Reservation;
use model::{Attempt, Code, Refusal, Retry};
use rules::plan::Plan;
use rules::route::Route;
use rules::upstream::{Credential, Node, Upstream};

use crate::balance;
use crate::body::{Content, RequestBody, Upload};
use crate::connect::ConnectError;
use crate::head::Head;
use crate::park::Line;
use crate::pool::Lease;
use crate::quota::{Granted, Rest};
use crate::trip::Trip;

mod credential;
mod exchange;
mod headers;
mod quote;

use credential::Standing;
pub(crate) use credential::{Shown, Way, protocols};
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
    let (mut standing, is_proven) =
        (Standing::default(), granted.described().identified().is_proven());
    let Dressed { method, target, headers, host, request_id } = dressed;
    let upload = Upload::new(trip.request_body_max());
    trip.upload = Some(Arc::clone(&upload));
    let request = Some(request(method, headers, RequestBody::new(body, Arc::clone(&upload))));
    let (unknown, place) = (HeaderValue::from_static(""), granted.place());
    let mut exchange =
        Exchange { upstream, timeouts, upload, target, host: unknown, request, place };
    let first = exchange.place.as_ref().map(|place| place.first_node());
    let first = first.unwrap_or_else(|| trip.core.turns.lock().first(upstream));
    let protocols = protocols(upstream, upgrades);
    let started = trip.core.shared.clock.uptime();
    let mut last = None;
    for (tries, node) in
        (1..=upstream.retries.saturating_add(1)).zip(balance::order(upstream, first))
    {
        let now = trip.core.shared.clock.uptime();
        if tries > 1 && upstream.retry_within.is_some_and(|within| now.since(started) >= within) {
            break;
        }
        note(trip, upstream, node, tries);
        let way = Way::to(node, upstream, host.as_ref(), head, protocols);
        exchange.show(way.credential(&trip.snapshot, upstream, is_proven)?, &mut standing);
        let Way { endpoint, host, .. } = way;
        exchange.host = host;
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
