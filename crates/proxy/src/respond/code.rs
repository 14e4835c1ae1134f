//! What each code of a refusal is for clients: a status and a sentence.

use http::StatusCode;
use model::Code;

/// The status of a code, unless a route's author chose another.
#[must_use]
pub const fn status_of(code: Code) -> StatusCode {
    match code {
        Code::TargetAmbiguous
        | Code::TargetInvalid
        | Code::HostInvalid
        | Code::FramingInvalid
        | Code::HeaderInvalid
        | Code::KeyInvalid
        | Code::PolicyBodyUnreadable
        | Code::PolicyRequestUnreadable
        | Code::BodyBroken => StatusCode::BAD_REQUEST,
        Code::KeyBodyTooLarge | Code::PolicyBodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        Code::MethodRefused | Code::UpgradeRefused => StatusCode::NOT_IMPLEMENTED,
        Code::RouteNotFound => StatusCode::NOT_FOUND,
        // No SDK comes back by itself after a 402.
        Code::BudgetExhausted | Code::BudgetPriceUnknown => StatusCode::PAYMENT_REQUIRED,
        Code::IdentityRefused => StatusCode::UNAUTHORIZED,
        Code::IdentitySuspended
        | Code::ResponseRefused
        | Code::PolicyRefused
        | Code::PolicyAsk
        | Code::PolicyFailed => StatusCode::FORBIDDEN,
        Code::IdentityThrottled
        | Code::LimitExceeded
        | Code::LimitNever
        | Code::QuotaExceeded
        | Code::QuotaBlocked => StatusCode::TOO_MANY_REQUESTS,
        Code::UpstreamUnreachable
        | Code::UpstreamUntrusted
        | Code::UpstreamBroken
        | Code::ResponseUnreadable => StatusCode::BAD_GATEWAY,
        Code::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        Code::LedgerUnavailable
        | Code::SecretUnresolved
        | Code::UpstreamAbsent
        | Code::RepeatUnderWay
        | Code::RepeatUnknown
        | Code::RepeatNotKept
        | Code::RepeatUnavailable
        | Code::Overloaded
        | Code::QueueFull
        | Code::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What a code says in general: all that a client learns of a sealed refusal.
pub(super) const fn title(code: Code) -> &'static str {
    match code {
        Code::TargetAmbiguous => "the request target can be read in two ways",
        Code::TargetInvalid => "the request target is not one this gate takes",
        Code::HostInvalid => "the request names no single host",
        Code::FramingInvalid => "the length of the request is contradictory",
        Code::HeaderInvalid => "a header of the request cannot be forwarded",
        Code::BodyBroken => "the body of the request broke off",
        Code::MethodRefused => "this method is not carried",
        Code::UpgradeRefused => "a change of protocol is not carried",
        Code::RouteNotFound => "404 Route Not Found",
        Code::IdentityRefused => "the request carries no valid identity",
        Code::IdentityThrottled => "too many failed identities",
        Code::IdentitySuspended => "suspended",
        Code::ResponseRefused => "the answer is kept back",
        Code::ResponseUnreadable => "the answer cannot be looked through",
        Code::PolicyRefused => "no policy permits this request, or one forbids it",
        Code::PolicyAsk => "somebody must be asked first",
        Code::PolicyFailed => "a policy could not be evaluated",
        Code::PolicyBodyUnreadable => "the body cannot be judged by policy",
        Code::PolicyBodyTooLarge => "the body is too long to be judged by policy",
        Code::PolicyRequestUnreadable => "the request cannot be judged by policy",
        Code::LimitExceeded => "a rate limit is used up",
        Code::LimitNever => "the request is more than its limit ever allows",
        Code::BudgetPriceUnknown => "what the request costs cannot be known",
        Code::BudgetExhausted => "a budget is used up",
        Code::QuotaExceeded => "the upstream's quota is used up",
        Code::QuotaBlocked => "the upstream takes no calls for now",
        Code::LedgerUnavailable => "the limits of this request cannot be counted now",
        Code::SecretUnresolved => "a secret of this route is not available",
        Code::UpstreamAbsent => "the route has no upstream",
        Code::UpstreamUnreachable => "the upstream cannot be reached",
        Code::UpstreamUntrusted => "the upstream's certificate is not accepted",
        Code::UpstreamTimeout => "the upstream did not answer in time",
        Code::UpstreamBroken => "the upstream broke off",
        Code::KeyInvalid => "the `Idempotency-Key` is none",
        Code::KeyReused => "the `Idempotency-Key` was used for another request",
        Code::KeyBodyTooLarge => "the body is too large for an `Idempotency-Key`",
        Code::RepeatUnderWay => "the same request is still under way",
        Code::RepeatUnknown => "the same request was sent, and its outcome is not known",
        Code::RepeatNotKept => "the same request was answered, and the answer is not kept",
        Code::RepeatUnavailable => "it cannot be known whether the request is a repeat",
        Code::Overloaded => "the node is overloaded",
        Code::QueueFull => "too many requests wait for their turn",
        Code::NotReady => "the node has no rules yet",
        Code::Internal => "the gate failed",
    }
}
