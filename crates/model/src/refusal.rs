//! An expected no: what the gate answers when it does not forward a request.

use std::borrow::Cow;
use std::time::Duration;

/// Makes the closed set of refusal codes: variant, stable name, what it means for an operator.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)+) => {
        /// The stable code of a refusal, in the answer, in the record and in the metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that programs match on.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

codes! {
    /// Two parsers could read the request target differently.
    TargetAmbiguous => "request.target_ambiguous",
    /// The request target is not an absolute path this gate takes.
    TargetInvalid => "request.target_invalid",
    /// No host, more than one, or one that is not a host name.
    HostInvalid => "request.host_invalid",
    /// Length and transfer coding contradict each other or are repeated.
    FramingInvalid => "request.framing_invalid",
    /// A header field cannot be forwarded.
    HeaderInvalid => "request.header_invalid",
    /// The method is one the gate does not carry (`CONNECT`, `TRACE`).
    MethodRefused => "request.method_refused",
    /// The client asked for a change of protocol that the route does not carry.
    UpgradeRefused => "request.upgrade_refused",
    /// No route matches.
    RouteNotFound => "route.not_found",
    /// The request carries no identity that the gate accepts. One code for every reason.
    IdentityRefused => "identity.refused",
    /// Too many failed identities from this address.
    IdentityThrottled => "identity.throttled",
    /// The agent, its team or everybody is suspended.
    IdentitySuspended => "identity.suspended",
    /// A policy forbids it, or none permits it.
    PolicyRefused => "policy.refused",
    /// A group must be asked first.
    PolicyAsk => "policy.ask",
    /// A policy could not be evaluated.
    PolicyFailed => "policy.error",
    /// A policy reads the body, and it cannot be read in one way.
    PolicyBodyUnreadable => "policy.body_unreadable",
    /// A policy reads the body, and it is longer than can be judged.
    PolicyBodyTooLarge => "policy.body_too_large",
    /// A policy reads a header or an argument that cannot be read in one way.
    PolicyRequestUnreadable => "policy.request_unreadable",
    /// A limit has no tokens left for now.
    LimitExceeded => "limit.exceeded",
    /// The request costs more than the limit ever holds.
    LimitNever => "limit.never",
    /// What the call costs cannot be known, so no budget can pay it.
    BudgetPriceUnknown => "budget.price_unknown",
    /// A budget cannot pay for the request.
    BudgetExhausted => "budget.exhausted",
    /// The upstream's quota has no turn for the request in time.
    QuotaExceeded => "quota.exceeded",
    /// The upstream has refused everybody on its credential for a while.
    QuotaBlocked => "quota.blocked",
    /// The ledger cannot answer.
    LedgerUnavailable => "ledger.unavailable",
    /// The real credential of the upstream, or another secret of the route, is not resolved.
    SecretUnresolved => "secret.unresolved",
    /// The upstream has no node to send to.
    UpstreamAbsent => "upstream.absent",
    /// No connection to the upstream.
    UpstreamUnreachable => "upstream.unreachable",
    /// The upstream's certificate was not accepted.
    UpstreamUntrusted => "upstream.untrusted",
    /// The upstream did not answer in time.
    UpstreamTimeout => "upstream.timeout",
    /// The upstream answered something that is not HTTP, or broke off.
    UpstreamBroken => "upstream.broken",
    /// A rule keeps the upstream's answer back.
    ResponseRefused => "response.refused",
    /// The upstream's answer may hold secrets, and cannot be looked through.
    ResponseUnreadable => "response.unreadable",
    /// The request's body could not be read to its end.
    BodyBroken => "request.body_broken",
    /// The request's `Idempotency-Key` is none.
    KeyInvalid => "request.key_invalid",
    /// The `Idempotency-Key` was used for another request.
    KeyReused => "request.key_reused",
    /// A request with an `Idempotency-Key` has a body that is too large to be compared.
    KeyBodyTooLarge => "request.key_body_too_large",
    /// The same request is still under way.
    RepeatUnderWay => "repeat.under_way",
    /// The same request went to the upstream, and nobody knows what came of it.
    RepeatUnknown => "repeat.outcome_unknown",
    /// The same request was answered, and the answer is not kept.
    RepeatNotKept => "repeat.answer_not_kept",
    /// It cannot be known or remembered whether the request is a repeat.
    RepeatUnavailable => "repeat.unavailable",
    /// The node has as many requests as it may hold.
    Overloaded => "gate.overloaded",
    /// Too many requests wait for their turn.
    QueueFull => "gate.queue_full",
    /// The node has no rules yet.
    NotReady => "gate.not_ready",
    /// A defect of the gate.
    Internal => "gate.internal",
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much of a reason the client may have: none, or the sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// The client sees the code and its general sentence only; the detail goes to the record.
    Sealed,
    /// The client sees the detail too.
    Open,
}

/// Whether the same request can succeed later, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// A retry cures nothing.
    #[default]
    Never,
    /// A retry may succeed at once or soon; the gate does not know when.
    Soon,
    /// A retry before this has passed is refused again.
    After(Duration),
}

/// An expected no, with everything the answer and the record need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// What was refused, in a sentence without secrets.
    pub detail: Cow<'static, str>,
    pub grade: Grade,
    pub retry: Retry,
    /// The limit that said no, by name.
    pub limit: Option<crate::LimitId>,
    /// The budget that said no; never the amounts of others.
    pub budget: Option<Box<Exhausted>>,
    /// The policy that said no; boxed, since few refusals have it.
    pub policy: Option<Box<Ruled>>,
    /// What a route's author wants said instead; boxed, since few refusals have it.
    pub custom: Option<Box<Custom>>,
}

/// Who of the policies said no, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruled {
    /// `None` where none permits the request.
    pub policy: Option<std::sync::Arc<str>>,
    /// What its author says (`@reason`).
    pub reason: Option<std::sync::Arc<str>>,
    /// The group to be asked (`@ask`).
    pub group: Option<std::sync::Arc<str>>,
}

/// A budget that cannot pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted {
    pub budget: crate::BudgetId,
    /// When its period ends and it can pay again; `None` when it never does by itself.
    pub until: Option<crate::Timestamp>,
}

/// What a route's author wants of a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Custom {
    /// The status (`rejected_code`), instead of the code's own.
    pub status: Option<u16>,
    /// The message (`rejected_msg`).
    pub message: Option<std::sync::Arc<str>>,
    /// The whole body (`_meta.error_response`), instead of the gate's.
    pub body: Option<RefusalBody>,
    /// The challenge of a 401 (RFC 9110 §11.6.1).
    pub challenge: Option<std::sync::Arc<str>>,
}

/// A body that replaces the gate's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalBody {
    pub content_type: &'static str,
    pub text: std::sync::Arc<str>,
}

impl Refusal {
    /// A refusal that a retry does not cure and whose detail the client may read.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            grade: Grade::Open,
            retry: Retry::Never,
            limit: None,
            budget: None,
            policy: None,
            custom: None,
        }
    }

    /// The same, with when to try again.
    #[must_use]
    pub const fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The same, said as a route's author wants it.
    #[must_use]
    pub fn custom(mut self, custom: Custom) -> Self {
        self.custom = Some(Box::new(custom));
        self
    }

    /// The same, with the detail kept from the client.
    #[must_use]
    pub const fn sealed(mut self) -> Self {
        self.grade = Grade::Sealed;
        self
    }
}
