//! To the upstream and back: rewrite, strip, inject, send; repeat only what had no effect.

use std::sync::Arc;
use std::time::Duration;

use http::header::{EXPECT, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;
use ledger::Reservation;
use model::{Attempt, Code, Refusal, Retry};
use rules::plan::Plan;
use rules::upstream::{Credential, Node, PassHost, Timeouts, Upstream, UpstreamScheme};

use crate::admit::Admitted;
use crate::body::{RequestBody, Upload};
use crate::connect::{Channel, ConnectError, Endpoint};
use crate::head::Head;
use crate::pool::Lease;
use crate::trip::Trip;

mod headers;

pub(crate) use headers::strip_hop_by_hop;

/// The upstream's answer, its body still to come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
    pub(crate) upload: Arc<Upload>,
    /// The longest pause in its body.
    pub(crate) pause_max: Duration,
    pub(crate) limits: (Plan, Reservation),
    /// The client's request id and its field, to give back (`request-id`).
    pub(crate) request_id: Option<(http::HeaderName, HeaderValue)>,
}

/// What is sent, whatever the connection.
struct Outgoing {
    request: Request<RequestBody>,
    target: PathAndQuery,
    host: HeaderValue,
    scheme: UpstreamScheme,
}

/// Why an exchange failed.
enum Failure {
    /// Nothing was sent; the request is here again.
    Unsent(Box<Outgoing>),
    /// It may have had an effect.
    Lost(hyper::Error),
    Late,
}

/// Sends an admitted request to its upstream.
pub(crate) async fn forward(
    trip: &mut Trip,
    head: &mut Head,
    body: Incoming,
    admitted: Admitted,
) -> Result<Answer, Refusal> {
    let route = Arc::clone(admitted.identified().route());
    let upstream = route.upstream.as_ref().ok_or_else(absent)?;
    if let Some(reference) = &route.unresolved {
        return Err(unresolved(reference));
    }
    if let Credential::Unresolved { reference } = &upstream.credential {
        return Err(unresolved(reference));
    }
    let timeouts = route.timeouts.unwrap_or(upstream.timeouts);
    let dressed = headers::dress(trip, head, admitted.identified(), upstream)?;
    let upload = Upload::new(trip.request_body_max());
    let mut request = Request::new(RequestBody::new(body, Arc::clone(&upload)));
    *request.method_mut() = dressed.method;
    *request.headers_mut() = std::mem::take(&mut head.headers);
    let request_id = dressed.request_id;
    let order: Vec<Node> = trip.core.turns.lock().order(upstream).into_iter().cloned().collect();
    let started = trip.core.shared.clock.uptime();
    let mut last = None;
    for (tries, node) in (1..=upstream.retries.saturating_add(1)).zip(&order) {
        let waited = trip.core.shared.clock.uptime().since(started);
        if tries > 1 && upstream.retry_within.is_some_and(|within| waited >= within) {
            break;
        }
        note(trip, upstream, node, tries);
        let endpoint = endpoint(upstream, node, dressed.host.as_ref());
        let now = trip.core.shared.clock.uptime();
        let pool = &trip.core.pool;
        let lent = pool.lend(endpoint.clone(), upstream.keepalive, timeouts.connect, now).await;
        let lease = match lent {
            Ok(lease) => lease,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        let host = dressed.host.clone().unwrap_or_else(|| host_for(upstream, node, head));
        let outgoing =
            Outgoing { request, target: dressed.target.clone(), host, scheme: upstream.scheme };
        let exchange = Exchange { endpoint, upstream, timeouts, upload: &upload };
        let (response, lease) = exchange.run(trip, lease, outgoing).await?;
        let pause_max = timeouts.read;
        trip.learnt.upstream = Some(trip.core.shared.clock.uptime().since(started));
        let limits = admitted.into_limits();
        return Ok(Answer { response, lease, upload, pause_max, limits, request_id });
    }
    Err(last.map_or_else(absent, |error| unreachable(&error)))
}

/// One request on one node.
struct Exchange<'a> {
    endpoint: Endpoint,
    upstream: &'a Upstream,
    timeouts: Timeouts,
    upload: &'a Arc<Upload>,
}

impl Exchange<'_> {
    /// Sends the request; once more on a new connection if the old one had been closed unseen and
    /// nothing was sent, or if the request is safe (RFC 9110 §9.2.1) and has no body.
    async fn run(
        &self,
        trip: &mut Trip,
        lease: Lease,
        outgoing: Outgoing,
    ) -> Result<(Response<Incoming>, Lease), Refusal> {
        let is_reused = lease.is_reused;
        let spare = (is_reused && is_repeatable(&outgoing.request)).then(|| self.copy(&outgoing));
        let again = match self.send(trip, lease, outgoing).await {
            Ok(answered) => return Ok(answered),
            Err(Failure::Unsent(outgoing)) if is_reused => *outgoing,
            Err(Failure::Lost(cause)) => spare.ok_or_else(|| broken(&cause))?,
            Err(failure) => return Err(failure.refusal(self.timeouts.read)),
        };
        if let Some(attempt) = &mut trip.learnt.attempt {
            attempt.tries += 1;
        }
        let pool = &trip.core.pool;
        let opened =
            pool.open(self.endpoint.clone(), self.upstream.keepalive, self.timeouts.connect).await;
        let lease = opened.map_err(|error| unreachable(&error))?;
        let answered = self.send(trip, lease, again).await;
        answered.map_err(|failure| failure.refusal(self.timeouts.read))
    }

    fn copy(&self, outgoing: &Outgoing) -> Outgoing {
        let mut request = Request::new(RequestBody::empty(Arc::clone(self.upload)));
        request.method_mut().clone_from(outgoing.request.method());
        request.headers_mut().clone_from(outgoing.request.headers());
        let Outgoing { target, host, scheme, request: _ } = outgoing;
        Outgoing { request, target: target.clone(), host: host.clone(), scheme: *scheme }
    }

    async fn send(
        &self,
        trip: &mut Trip,
        mut lease: Lease,
        mut outgoing: Outgoing,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        if let Some(attempt) = &mut trip.learnt.attempt {
            attempt.address = Some(lease.address);
        }
        let Ok(()) = outgoing.dress(&lease.channel) else {
            return Err(Failure::Unsent(Box::new(outgoing)));
        };
        let Outgoing { request, target, host, scheme } = outgoing;
        let sent = match &mut lease.channel {
            Channel::H1(sender) => match sender.ready().await {
                Ok(()) => self.answer(sender.try_send_request(request)).await,
                Err(_) => Err(Sending::Unsent(Box::new(request))),
            },
            Channel::H2(sender) => match sender.ready().await {
                Ok(()) => self.answer(sender.try_send_request(request)).await,
                Err(_) => Err(Sending::Unsent(Box::new(request))),
            },
        };
        match sent {
            Ok(response) => {
                if let Some(attempt) = &mut trip.learnt.attempt {
                    attempt.status = Some(response.status().as_u16());
                }
                Ok((response, lease))
            }
            Err(Sending::Unsent(request)) => {
                let request = *request;
                Err(Failure::Unsent(Box::new(Outgoing { request, target, host, scheme })))
            }
            Err(Sending::Lost(cause)) => Err(Failure::Lost(cause)),
            Err(Sending::Late) => Err(Failure::Late),
        }
    }

    /// Waits for the answer's head. The deadline starts anew while the upstream takes the body.
    async fn answer(
        &self,
        sending: impl Future<Output = Result<Response<Incoming>, TrySendError>>,
    ) -> Result<Response<Incoming>, Sending> {
        let mut sending = std::pin::pin!(sending);
        let patience = self.timeouts.read.max(self.timeouts.send);
        loop {
            let before = self.upload.bytes();
            match tokio::time::timeout(patience, &mut sending).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(mut error)) => {
                    return Err(match error.take_message() {
                        Some(request) => Sending::Unsent(Box::new(request)),
                        None => Sending::Lost(error.into_error()),
                    });
                }
                Err(_) if self.upload.bytes() != before => {}
                Err(_) => return Err(Sending::Late),
            }
        }
    }
}

type TrySendError = hyper::client::conn::TrySendError<Request<RequestBody>>;

/// How a single send failed.
enum Sending {
    Unsent(Box<Request<RequestBody>>),
    Lost(hyper::Error),
    Late,
}

impl Outgoing {
    /// Gives the request the form its connection's protocol wants.
    fn dress(&mut self, channel: &Channel) -> Result<(), http::Error> {
        match channel {
            Channel::H1(_) => {
                *self.request.uri_mut() = Uri::from(self.target.clone());
                self.request.headers_mut().insert(HOST, self.host.clone());
            }
            Channel::H2(_) => {
                let scheme = if self.scheme.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
                let authority = Authority::try_from(self.host.as_bytes())?;
                *self.request.uri_mut() = Uri::builder()
                    .scheme(scheme)
                    .authority(authority)
                    .path_and_query(self.target.clone())
                    .build()?;
                self.request.headers_mut().remove(HOST);
            }
        }
        self.request.headers_mut().remove(EXPECT);
        Ok(())
    }
}

impl Failure {
    fn refusal(self, patience: Duration) -> Refusal {
        match self {
            Self::Unsent(_) => {
                let detail = "the upstream closed the connection before the request was sent";
                Refusal::new(Code::UpstreamUnreachable, detail).retry(Retry::Soon)
            }
            Self::Lost(cause) => broken(&cause),
            Self::Late => {
                let detail = format!("no answer within {} ms", patience.as_millis());
                Refusal::new(Code::UpstreamTimeout, detail)
            }
        }
    }
}

fn is_repeatable(request: &Request<RequestBody>) -> bool {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    is_safe && request.body().is_empty()
}

fn endpoint(upstream: &Upstream, node: &Node, host: Option<&HeaderValue>) -> Endpoint {
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
        only_h2: matches!(upstream.scheme, UpstreamScheme::Grpc | UpstreamScheme::Grpcs),
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
    trip.learnt.attempt = Some(Attempt {
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
