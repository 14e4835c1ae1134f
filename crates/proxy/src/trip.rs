//! One request's trip: what is learnt on the way, and the outcome it leaves however it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use audit::{Bodies, Body, Captures, Entry, Loggers, Seat, SecretNames};
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use model::{
    Attempt, Ending, Identity, LimitId, Outcome, Protocol, Refusal, RequestId, Scheme, Timestamp,
    Timing, Trace, Uptime,
};
use rules::Snapshot;
use rules::fact::Facts;
use rules::field::masked_arguments;
use rules::plugin::Plugins;
use rules::route::Route;
use telemetry::context::{SpanId, TraceContext, TraceId};

use crate::core::Core;
use crate::head::{self, Head};

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) scheme: Scheme,
}

/// A request on its way. Dropping it records its outcome, so that none is lost: not when the
/// client hangs up, not when a stage fails.
#[derive(Debug)]
pub(crate) struct Trip {
    pub(crate) core: Arc<Core>,
    pub(crate) peer: Peer,
    pub(crate) request_id: RequestId,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) protocol: Protocol,
    pub(crate) started: Timestamp,
    pub(crate) since: Uptime,
    /// The request's place in its trace, and the caller's.
    pub(crate) trace: TraceContext,
    parent: Option<TraceContext>,
    seat: Option<Seat>,
    pub(crate) learnt: Learnt,
    loggers: Loggers,
    captures: Captures,
    pub(crate) bodies: Bodies,
}

/// What becomes known on the way.
#[derive(Debug)]
pub(crate) struct Learnt {
    method: Arc<str>,
    path: Arc<str>,
    query: Option<Arc<str>>,
    host: Option<Arc<str>>,
    user_agent: Option<Arc<str>>,
    client_retry: Option<u16>,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) identity: Option<Identity>,
    pub(crate) limits: Vec<LimitId>,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) forwarded_path: Option<Arc<str>>,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) status: u16,
    pub(crate) ending: Ending,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) queued: Duration,
    pub(crate) upstream: Option<Duration>,
}

impl Trip {
    /// Begins a trip whose seat in the record is taken.
    pub(crate) fn begin(
        core: &Arc<Core>,
        peer: Peer,
        seat: Seat,
        request: &Request<Incoming>,
    ) -> Self {
        let ids = core.ids();
        let parent = TraceContext::of(request.headers());
        let trace_id =
            parent.map_or_else(|| TraceId::from_random(ids.trace), |parent| parent.trace_id);
        let sampled = core.shared.sampler.decide(parent.as_ref(), trace_id);
        let span_id = SpanId::from_random(ids.span);
        Self {
            peer,
            request_id: RequestId(ids.request),
            snapshot: core.snapshot(),
            protocol: head::protocol(request.version()),
            started: core.shared.clock.now(),
            since: core.shared.clock.uptime(),
            trace: TraceContext { trace_id, span_id, sampled },
            parent,
            seat: Some(seat),
            learnt: Learnt::of(request),
            loggers: Loggers::default(),
            captures: Captures::default(),
            bodies: Bodies::default(),
            core: Arc::clone(core),
        }
    }

    /// The facts of the request as far as they are known.
    pub(crate) fn facts<'a>(&'a self, head: &'a Head) -> Facts<'a> {
        Facts {
            request_id: self.request_id,
            client: self.peer.client,
            server: self.peer.server,
            scheme: self.peer.scheme,
            protocol: self.protocol,
            method: head.method.as_str(),
            host: &head.host,
            host_header: &head.host_header,
            target: &head.target,
            headers: &head.headers,
            route: self.learnt.route.as_deref(),
            identity: self.learnt.identity.as_ref(),
        }
    }

    /// Notes what the loggers of these plugins want of the request, and masks the credentials
    /// that its query may hold.
    pub(crate) fn prepare_record(&mut self, plugins: &Plugins, head: &Head) {
        let secrets = SecretNames::of(plugins);
        if let Some(query) = head.target.query() {
            let is_secret = |name: &str| secrets.hold_argument(name);
            self.learnt.query = masked_arguments(query, &is_secret)
                .map(Arc::from)
                .or_else(|| self.learnt.query.take());
        }
        let facts = self.facts(head);
        let loggers = Loggers::choose(plugins, &facts);
        if loggers.is_empty() {
            return;
        }
        let captures = Captures::take(&loggers, &facts, &secrets);
        self.bodies = Bodies {
            request: (loggers.request_body_max() > 0).then(Body::default),
            response: (loggers.response_body_max() > 0).then(Body::default),
        };
        (self.loggers, self.captures) = (loggers, captures);
    }

    /// Counts a piece of the answer's body, and keeps it if a logger wants it.
    pub(crate) fn sent(&mut self, data: &[u8]) {
        self.learnt.sent += data.len() as u64;
        if let Some(body) = &mut self.bodies.response {
            keep(body, data, self.loggers.response_body_max());
        }
    }

    /// Whether a logger wants the request's body, and how much of it.
    pub(crate) fn request_body_max(&self) -> usize {
        self.loggers.request_body_max()
    }

    fn outcome(&mut self) -> Outcome {
        let core = Arc::clone(&self.core);
        let learnt = &mut self.learnt;
        let (refusal, detail) = match learnt.refusal.take() {
            Some(refusal) => (Some(refusal.code), Some(Arc::from(&*refusal.detail))),
            None => (None, None),
        };
        Outcome {
            request_id: self.request_id,
            node: core.shared.node.clone(),
            revision: self.snapshot.revision,
            started: self.started,
            client: self.peer.client,
            scheme: self.peer.scheme,
            protocol: self.protocol,
            method: Arc::clone(&learnt.method),
            host: learnt.host.take(),
            path: Arc::clone(&learnt.path),
            query: learnt.query.take(),
            user_agent: learnt.user_agent.take(),
            route: learnt.route.as_ref().map(|route| route.id.clone()),
            identity: learnt.identity.take(),
            limits: std::mem::take(&mut learnt.limits),
            attempt: learnt.attempt.take(),
            forwarded_path: learnt.forwarded_path.take(),
            status: learnt.status,
            refusal,
            detail,
            ending: learnt.ending,
            received: learnt.received,
            sent: learnt.sent,
            timing: Timing {
                total: core.shared.clock.uptime().since(self.since),
                queued: learnt.queued,
                upstream: learnt.upstream,
            },
            trace: Some(Trace {
                trace_id: self.trace.trace_id.get(),
                span_id: self.trace.span_id.get(),
                sampled: self.trace.sampled,
            }),
            client_retry: learnt.client_retry,
        }
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        let outcome = self.outcome();
        self.core.shared.metrics.count(&outcome);
        if self.trace.sampled
            && let Some(spans) = &self.core.shared.spans
        {
            spans.finish(crate::core::span_of(&outcome, self.trace, self.parent));
        }
        seat.record(Entry {
            outcome,
            loggers: std::mem::take(&mut self.loggers),
            captures: std::mem::take(&mut self.captures),
            bodies: std::mem::take(&mut self.bodies),
        });
    }
}

impl Learnt {
    fn of(request: &Request<Incoming>) -> Self {
        let (uri, headers) = (request.uri(), request.headers());
        let text = |name: &str| header_text(headers, name).map(Arc::from);
        let authority = uri.authority().map(|authority| Arc::from(authority.as_str()));
        let retry = header_text(headers, "x-stainless-retry-count");
        let query = uri.query().map(|query| {
            let secrets = SecretNames::default();
            let is_secret = |name: &str| secrets.hold_argument(name);
            masked_arguments(query, &is_secret).map_or_else(|| Arc::from(query), Arc::from)
        });
        Self {
            method: Arc::from(request.method().as_str()),
            path: Arc::from(uri.path()),
            query,
            host: authority.or_else(|| text("host")),
            user_agent: text("user-agent"),
            client_retry: retry.and_then(|count| count.parse().ok()),
            route: None,
            identity: None,
            limits: Vec::new(),
            attempt: None,
            forwarded_path: None,
            refusal: None,
            status: 0,
            ending: Ending::ClientGone,
            received: 0,
            sent: 0,
            queued: Duration::ZERO,
            upstream: None,
        }
    }
}

/// Keeps a piece of a body for a logger, up to its bound.
pub(crate) fn keep(body: &mut Body, data: &[u8], max: usize) {
    let room = max.saturating_sub(body.bytes.len());
    body.is_cut |= data.len() > room;
    body.bytes.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
