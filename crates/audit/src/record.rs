//! tollgate's own record: one request as one JSON object.
//!
//! The names below are a contract with those who read the file. A member that has no value is
//! absent. Names may be added; none changes its meaning.
//!
//! | member | what it is |
//! |---|---|
//! | `time` | when the request's head had arrived, RFC 3339, UTC, microseconds |
//! | `request_id` | the gate's id of the request, 32 hex digits |
//! | `node`, `revision` | which node judged it, by which state of the rules |
//! | `organisation`, `team`, `agent`, `run`, `credential` | the proven identity |
//! | `client` | `ip` and `port` of the client's connection |
//! | `scheme`, `protocol`, `method`, `host`, `path`, `query` | as the client sent them; credentials in the query masked |
//! | `route` | the id of the route |
//! | `decision`, `policy` | what policies decided, `permit`, `ask`, `refuse`, `failed` or `unreadable`, and which of them |
//! | `shadow_decision`, `shadow_policy` | what they would have decided with those that are only reported, where that is another thing |
//! | `operation` | the operation's name, where the upstream's API has names for its calls; else `unknown` |
//! | `limits` | the limits it drew on |
//! | `budgets` | the budgets that bind it: `budget`, `unit`; the row that it counts in: `per`, `subject`, `every`, `period` (its beginning; none of a `lifetime`); `held` before it left, and `charged`; decimals of the unit. They are reserved under the `request_id` |
//! | `upstream` | `id`, `node` as configured, `address` connected to, `tries`, `status` it answered |
//! | `forwarded_path` | the path the upstream saw, where it is another |
//! | `replayed` | `true` where the answer is one that the same request got before |
//! | `status` | what the client got; 0 when nothing was sent |
//! | `refusal`, `detail` | the code of a refusal, and the whole reason |
//! | `ending` | `complete`, `client_gone`, `upstream_broken` or `cut` |
//! | `received`, `sent` | bytes of the bodies |
//! | `latency_us` | `total`, `queued` at a limit, `upstream` until its head; microseconds |
//! | `trace_id`, `span_id` | the W3C trace context, hex |
//! | `user_agent`, `client_retry` | what the client says of itself; `client_retry` is its SDK's count |

use std::time::Duration;

use model::{Attempt, Outcome, Timestamp};

use crate::json::Object;

/// Writes the members of the record into an open object.
pub(crate) fn write(object: &mut Object<'_>, outcome: &Outcome) {
    object.time("time", outcome.started);
    object.hex("request_id", outcome.request_id.0, 32);
    object.text("node", outcome.node.as_str());
    object.number("revision", outcome.revision.number());
    if let Some(identity) = &outcome.identity {
        object.text("organisation", identity.organisation.as_str());
        object.maybe_text("team", identity.team.as_ref().map(|id| id.as_str()));
        object.text("agent", identity.agent.as_str());
        object.maybe_text("run", identity.run.as_ref().map(|id| id.as_str()));
        object.maybe_text("credential", identity.credential.as_ref().map(|id| id.as_str()));
    }
    let mut client = object.object("client");
    client.ip("ip", outcome.client.ip().to_canonical());
    client.number("port", u64::from(outcome.client.port()));
    client.end();
    write_request(object, outcome);
    write_answer(object, outcome);
}

fn write_request(object: &mut Object<'_>, outcome: &Outcome) {
    object.text("scheme", outcome.scheme.as_str());
    object.text("protocol", outcome.protocol.as_str());
    object.text("method", &outcome.method);
    object.maybe_text("host", outcome.host.as_deref());
    object.text("path", &outcome.path);
    object.maybe_text("query", outcome.query.as_deref());
    object.maybe_text("route", outcome.route.as_ref().map(|id| id.as_str()));
    object.maybe_text("operation", outcome.operation.as_deref());
    if let Some(ruling) = &outcome.ruling {
        object.text("decision", ruling.kind.as_str());
        object.maybe_text("policy", ruling.policy.as_deref());
        if let Some(shadow) = &ruling.shadow {
            object.text("shadow_decision", shadow.kind.as_str());
            object.maybe_text("shadow_policy", shadow.policy.as_deref());
        }
    }
    if !outcome.limits.is_empty() {
        object.texts("limits", outcome.limits.iter().map(|id| id.as_str()));
    }
    if !outcome.budgets.is_empty() {
        object.objects("budgets", outcome.budgets.iter(), |mut object, paid| {
            object.text("budget", paid.budget.as_str());
            object.text("unit", paid.unit.as_str());
            object.text("per", paid.per);
            object.text("subject", &paid.subject);
            object.text("every", paid.every);
            if paid.period != Timestamp::default() {
                object.time("period", paid.period);
            }
            object.text("held", &paid.held.text(&paid.unit));
            object.text("charged", &paid.charged.text(&paid.unit));
            object.end();
        });
    }
    if let Some(attempt) = &outcome.attempt {
        write_attempt(object.object("upstream"), attempt);
    }
    object.maybe_text("forwarded_path", outcome.forwarded_path.as_deref());
}

fn write_attempt(mut upstream: Object<'_>, attempt: &Attempt) {
    upstream.text("id", attempt.upstream.as_str());
    upstream.text("node", &attempt.node);
    if let Some(address) = attempt.address {
        upstream.address("address", address);
    }
    upstream.number("tries", u64::from(attempt.tries));
    if let Some(status) = attempt.status {
        upstream.number("status", u64::from(status));
    }
    upstream.end();
}

fn write_answer(object: &mut Object<'_>, outcome: &Outcome) {
    if outcome.replayed {
        object.yes("replayed");
    }
    object.number("status", u64::from(outcome.status));
    object.maybe_text("refusal", outcome.refusal.map(|code| code.as_str()));
    object.maybe_text("detail", outcome.detail.as_deref());
    object.text("ending", outcome.ending.as_str());
    object.number("received", outcome.received);
    object.number("sent", outcome.sent);
    let mut latency = object.object("latency_us");
    latency.number("total", micros(outcome.timing.total));
    latency.number("queued", micros(outcome.timing.queued));
    if let Some(upstream) = outcome.timing.upstream {
        latency.number("upstream", micros(upstream));
    }
    latency.end();
    if let Some(trace) = outcome.trace {
        object.hex("trace_id", trace.trace_id, 32);
        object.hex("span_id", u128::from(trace.span_id), 16);
    }
    object.maybe_text("user_agent", outcome.user_agent.as_deref());
    if let Some(retry) = outcome.client_retry {
        object.number("client_retry", u64::from(retry));
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Every name of the record: what a format adds must not be named like one of them.
pub(crate) const MEMBERS: &[&str] = &[
    "time",
    "request_id",
    "node",
    "revision",
    "organisation",
    "team",
    "agent",
    "run",
    "credential",
    "client",
    "scheme",
    "protocol",
    "method",
    "host",
    "path",
    "query",
    "route",
    "operation",
    "limits",
    "budgets",
    "upstream",
    "forwarded_path",
    "replayed",
    "status",
    "refusal",
    "detail",
    "ending",
    "received",
    "sent",
    "latency_us",
    "trace_id",
    "span_id",
    "user_agent",
    "client_retry",
];
