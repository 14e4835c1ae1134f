//! What became of one request: the one value that records, metrics and spans are made from.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Amount, BudgetId, Code, Identity, LimitId, NodeName, Revision, RouteId, Timestamp, Unit,
    UpstreamId,
};

/// The id of a request: 128 random bits, in `x-tollgate-request-id` as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub u128);

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// How the client's connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The version of HTTP the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Http10,
    Http11,
    Http2,
}

impl Protocol {
    /// As in a request line: `HTTP/1.1`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// How the exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The whole answer was handed to the client's connection.
    Complete,
    /// The client went away first.
    ClientGone,
    /// The upstream broke off in the middle of its answer.
    UpstreamBroken,
    /// The gate stopped before the answer was complete.
    Cut,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 4] = [Self::Complete, Self::ClientGone, Self::UpstreamBroken, Self::Cut];

    /// The name in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::UpstreamBroken => "upstream_broken",
            Self::Cut => "cut",
        }
    }
}

/// What happened at the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub upstream: UpstreamId,
    /// The node's `host:port` as configured.
    pub node: Arc<str>,
    /// The address connected to, once there was one.
    pub address: Option<SocketAddr>,
    /// How often the request was sent or tried; 1 without a retry.
    pub tries: u32,
    /// The upstream's status, once it answered.
    pub status: Option<u16>,
}

/// What policies decided on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub kind: RulingKind,
    /// The policy that decided; `None` where none permits the request.
    pub policy: Option<Arc<str>>,
    /// What it would be with the policies that are only reported, where that is another one.
    pub shadow: Option<Box<Self>>,
}

/// What policies may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RulingKind {
    Permit,
    Ask,
    Refuse,
    /// A policy could not be evaluated.
    Failed,
    /// What a policy reads could not be read.
    Unreadable,
}

impl RulingKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Permit, Self::Ask, Self::Refuse, Self::Failed, Self::Unreadable];

    /// The name in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Ask => "ask",
            Self::Refuse => "refuse",
            Self::Failed => "failed",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What a request came to for one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    pub budget: BudgetId,
    pub unit: Unit,
    /// Whom the budget counts: the name of what it is per, and who that is; a run as `AGENT/RUN`.
    pub per: &'static str,
    pub subject: Arc<str>,
    /// The name of the period's length, and when it began; a lifetime begins at zero.
    pub every: &'static str,
    pub period: Timestamp,
    /// What was held before it left; what it asked for, where that was refused.
    pub held: Amount,
    /// What it was charged: nothing when it was refused, or had no effect.
    pub charged: Amount,
}

/// Where the time went. All from the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the end of the request's head to the end of the answer's body.
    pub total: Duration,
    /// Spent waiting for a turn because a limit queues.
    pub queued: Duration,
    /// From the first try to the end of the upstream's answer's head; `None` if never tried.
    pub upstream: Option<Duration>,
}

/// The request's place in a distributed trace (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    pub trace_id: u128,
    pub span_id: u64,
    pub sampled: bool,
}

/// What became of one request. Audit, metrics, spans and detection read this and nothing else.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub request_id: RequestId,
    pub node: NodeName,
    /// The revision of the rules that judged it.
    pub revision: Revision,
    /// When the request's head had arrived.
    pub started: Timestamp,
    pub client: SocketAddr,
    pub scheme: Scheme,
    pub protocol: Protocol,
    pub method: Cow<'static, str>,
    /// As the client sent it; `None` when there was none to trust.
    pub host: Option<Arc<str>>,
    /// The path as the client sent it, without the query.
    pub path: Arc<str>,
    /// The query, with the values of credentials masked.
    pub query: Option<Arc<str>>,
    pub user_agent: Option<Arc<str>>,
    pub route: Option<RouteId>,
    pub identity: Option<Identity>,
    /// The operation's name, where the upstream speaks an API whose calls have names; `unknown` for
    /// a call that has none.
    pub operation: Option<Cow<'static, str>>,
    /// What policies decided; `None` where nothing is judged by policy.
    pub ruling: Option<Box<Ruling>>,
    /// The limits that were drawn on: the ids of `limits`, and the places of `limit-req`.
    pub limits: Vec<LimitId>,
    /// The budgets that bind it.
    pub budgets: Vec<Paid>,
    pub attempt: Option<Attempt>,
    /// The path that was forwarded, when it is another than the client's.
    pub forwarded_path: Option<Arc<str>>,
    /// Whether the answer is one that the upstream gave to the same request before.
    pub replayed: bool,
    /// The status the client got; 0 when none was sent.
    pub status: u16,
    pub refusal: Option<Code>,
    /// The whole reason, for operators.
    pub detail: Option<Arc<str>>,
    pub ending: Ending,
    /// Bytes of the request's body that were read.
    pub received: u64,
    /// Bytes of the answer's body that were sent.
    pub sent: u64,
    pub timing: Timing,
    pub trace: Option<Trace>,
    /// The SDK's own count of tries (`x-stainless-retry-count`).
    pub client_retry: Option<u16>,
}
