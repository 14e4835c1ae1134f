//! One request's trip: what is learnt on the way, and the outcome it leaves however it ends.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use audit::{Bodies, Body, Captures, Due, Entry, Loggers, Seat, SecretNames};
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use hyper::body::Incoming;
use model::{
    Attempt, Ending, Identity, Outcome, Refusal, RequestId, Revision, Scheme, Timing, Trace, Uptime,
};
use rules::fact::Facts;
use rules::field::masked_arguments;
use rules::identity::Agent;
use rules::plugin::Plugins;
use rules::route::Route;
use telemetry::context::{SpanId, TraceContext, TraceId};

use crate::bill::Bill;
use crate::body::Upload;
use crate::core::{Core, CoreSnapshot};
use crate::head::{self, Head};
use crate::repeat::Flight;
use crate::suspension::Berth;

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
    pub(crate) snapshot: Arc<CoreSnapshot>,
    server: SocketAddr,
    pub(crate) since: Uptime,
    /// The request's place in its trace, and the caller's.
    pub(crate) trace: TraceContext,
    parent: Option<TraceContext>,
    pub(crate) route: Option<Arc<Route>>,
    /// The request's body on its way, once it is forwarded.
    pub(crate) upload: Option<Arc<Upload>>,
    /// What it holds of its budgets; settled when the trip ends.
    pub(crate) bill: Option<Box<Bill>>,
    /// What is told of the request to those that repeat it, when it may be repeated.
    pub(crate) flight: Option<Box<Flight>>,
    /// Where it can be ended from outside, once it is known who asks.
    pub(crate) berth: Berth,
    /// Taken when the trip ends, which is when it is dropped.
    record: Option<(Seat, Box<Entry>)>,
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
        let snapshot = core.snapshot();
        let trace = Trace { trace_id: trace_id.get(), span_id: span_id.get(), sampled };
        let mut outcome = begun(core, peer, RequestId(ids.request), request);
        (outcome.revision, outcome.trace) = (snapshot.revision, Some(trace));
        let entry = Entry {
            outcome,
            loggers: Loggers::default(),
            captures: Captures::default(),
            bodies: Bodies::default(),
            due: None,
        };
        Self {
            snapshot,
            server: peer.server,
            since: core.shared.clock.uptime(),
            trace: TraceContext { trace_id, span_id, sampled },
            parent,
            route: None,
            upload: None,
            bill: None,
            flight: None,
            berth: core.riders.enter(),
            record: Some((seat, Box::new(entry))),
            core: Arc::clone(core),
        }
    }

    /// What will be recorded, as far as it is known.
    pub(crate) fn entry(&self) -> &Entry {
        let (_, entry) = self.record.as_ref().expect("it is taken in `drop` only");
        entry
    }

    fn entry_mut(&mut self) -> &mut Entry {
        let (_, entry) = self.record.as_mut().expect("it is taken in `drop` only");
        entry
    }

    pub(crate) fn outcome(&self) -> &Outcome {
        &self.entry().outcome
    }

    /// The request's id as headers carry it.
    pub(crate) fn request_id(&self) -> HeaderValue {
        let mut text = [0; 32];
        // The buffer holds every digit, so encoding does not fail.
        let _fits = hex::encode_to_slice(self.outcome().request_id.0.to_be_bytes(), &mut text);
        HeaderValue::from_bytes(&text).expect("hex digits are a header value")
    }

    /// The outcome to be filled in.
    pub(crate) fn learnt(&mut self) -> &mut Outcome {
        &mut self.entry_mut().outcome
    }

    /// The last try at the upstream, to be filled in.
    pub(crate) fn attempt(&mut self) -> Option<&mut Attempt> {
        self.learnt().attempt.as_mut()
    }

    /// The facts of the request as far as they are known.
    pub(crate) fn facts<'a>(&'a self, head: &'a Head) -> Facts<'a> {
        let outcome = self.outcome();
        Facts {
            request_id: outcome.request_id,
            client: outcome.client,
            server: self.server,
            scheme: outcome.scheme,
            protocol: outcome.protocol,
            method: head.method.as_str(),
            host: &head.host,
            host_header: &head.host_header,
            target: &head.target,
            headers: &head.headers,
            route: self.route.as_deref(),
            identity: outcome.identity.as_ref(),
            call: None,
        }
    }

    /// Lets a request go on from whose agent it is known, unless the agent is suspended.
    pub(crate) fn board(&mut self, agent: Option<Arc<Agent>>) -> Result<(), Refusal> {
        self.core.riders.board(self.berth, agent, self.outcome().started)
    }

    /// Notes who asks.
    pub(crate) fn identified(&mut self, identity: Identity) {
        self.learnt().identity = Some(identity);
    }

    /// Notes what the loggers of these plugins want of the request, and masks the credentials
    /// that only these plugins read from its query.
    pub(crate) fn prepare_record(&mut self, plugins: &Plugins, head: &Head) {
        let secrets = SecretNames::of(plugins);
        if secrets.add_arguments()
            && let Some(query) = head.target.query()
            && let Some(masked) = masked_arguments(query, &|name| secrets.hold_argument(name))
        {
            self.learnt().query = Some(Arc::from(masked));
        }
        let facts = self.facts(head);
        let loggers = Loggers::choose(plugins, &facts);
        if loggers.is_empty() {
            return;
        }
        let captures = Captures::take(&loggers, &facts, secrets);
        let entry = self.entry_mut();
        entry.bodies = Bodies {
            request: (loggers.request_body_max() > 0).then(Body::default),
            response: (loggers.response_body_max() > 0).then(Body::default),
        };
        (entry.loggers, entry.captures) = (loggers, captures);
    }

    /// Counts a piece of the answer's body, and keeps it if a logger wants it.
    pub(crate) fn sent(&mut self, data: &[u8]) {
        if let Some(bill) = &mut self.bill {
            bill.hear(data);
        }
        let entry = self.entry_mut();
        entry.outcome.sent += data.len() as u64;
        if let Some(body) = &mut entry.bodies.response {
            keep(body, data, entry.loggers.response_body_max());
        }
    }

    /// Whether its answer may say what it costs.
    pub(crate) fn has_price(&self) -> bool {
        self.bill.as_ref().is_some_and(|bill| bill.is_priced())
    }

    /// Whether what is still to come of the answer says what the request costs.
    pub(crate) fn wants_more(&self) -> bool {
        self.bill.as_ref().is_some_and(|bill| bill.wants_more())
    }

    /// Whether a logger wants the request's body, and how much of it.
    pub(crate) fn request_body_max(&self) -> usize {
        self.entry().loggers.request_body_max()
    }

    /// Whether the request has a span here, or nobody above it has one: otherwise the caller's
    /// place in the trace is passed on as it came.
    pub(crate) fn is_traced(&self) -> bool {
        self.core.shared.spans.is_some() || self.parent.is_none()
    }

    pub(crate) fn is_head(&self) -> bool {
        *self.outcome().method == *"HEAD"
    }

    /// Notes that the request is refused.
    pub(crate) fn refused(&mut self, status: u16, refusal: &Refusal) {
        let outcome = self.learnt();
        outcome.status = status;
        outcome.refusal = Some(refusal.code);
        outcome.detail = Some(Arc::from(&*refusal.detail));
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        self.core.riders.leave(self.berth);
        let Some((seat, mut entry)) = self.record.take() else { return };
        if let Some(upload) = &self.upload {
            entry.outcome.received = upload.bytes();
            entry.bodies.request = upload.kept();
        }
        if let Some(bill) = self.bill.take() {
            entry.due = bill.end(&mut entry.outcome).map(|unrecorded| Box::new(unrecorded) as Due);
        }
        let outcome = &mut entry.outcome;
        outcome.route = self.route.as_ref().map(|route| route.id.clone());
        outcome.timing.total = self.core.shared.clock.uptime().since(self.since);
        self.core.counts.count(outcome);
        if self.trace.sampled
            && let Some(spans) = &self.core.shared.spans
        {
            spans.finish(crate::core::span_of(outcome, self.trace, self.parent));
        }
        seat.record(entry);
    }
}

/// What the head alone says. Unless something else is noted, the client has gone.
fn begun(core: &Core, peer: Peer, id: RequestId, request: &Request<Incoming>) -> Outcome {
    let uri = request.uri();
    let said = Said::of(request.headers());
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let query = uri.query().map(|query| {
        let names = SecretNames::default();
        masked_arguments(query, &|name| names.hold_argument(name))
            .map_or_else(|| Arc::from(query), Arc::from)
    });
    Outcome {
        request_id: id,
        node: core.node.clone(),
        revision: Revision::default(),
        started: core.shared.clock.now(),
        client: peer.client,
        scheme: peer.scheme,
        protocol: head::protocol(request.version()),
        method: name_of(request.method()),
        host: authority.or(said.host).map(Arc::from),
        path: Arc::from(uri.path()),
        query,
        user_agent: said.user_agent.map(Arc::from),
        route: None,
        identity: None,
        operation: None,
        ruling: None,
        limits: Vec::new(),
        budgets: Vec::new(),
        attempt: None,
        forwarded_path: None,
        replayed: false,
        status: 0,
        refusal: None,
        detail: None,
        ending: Ending::ClientGone,
        received: 0,
        sent: 0,
        timing: Timing::default(),
        trace: None,
        client_retry: said.retry.and_then(|count| count.parse().ok()),
    }
}

/// The header fields that a record quotes.
#[derive(Default)]
struct Said<'a> {
    host: Option<&'a str>,
    user_agent: Option<&'a str>,
    retry: Option<&'a str>,
}

impl<'a> Said<'a> {
    /// Walks the few fields once, which is cheaper than a search for each.
    fn of(headers: &'a HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            let place = if name == HOST {
                &mut said.host
            } else if name == USER_AGENT {
                &mut said.user_agent
            } else if name == RETRY_COUNT {
                &mut said.retry
            } else {
                continue;
            };
            if place.is_none() {
                *place = value.to_str().ok();
            }
        }
        said
    }
}

/// The method's name; the usual ones cost nothing.
fn name_of(method: &Method) -> Cow<'static, str> {
    let usual = match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => return Cow::Owned(method.as_str().to_owned()),
    };
    Cow::Borrowed(usual)
}

/// Keeps a piece of a body for a logger, up to its bound.
pub(crate) fn keep(body: &mut Body, data: &[u8], max: usize) {
    let room = max.saturating_sub(body.bytes.len());
    body.is_cut |= data.len() > room;
    body.bytes.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
}

/// The official SDKs' count of tries.
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");
