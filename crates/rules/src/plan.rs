//! One plan for everything a request draws on, made before anything is taken.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use model::{Bucket, Identity, LimitId, Tokens};

use crate::fact::Facts;
use crate::limit::{Limit, LimitIndex, OnOutage, Per};
use crate::plugin::{KeySource, LimitReq, Plugin};
use crate::route::Route;

/// Everything a request draws on: taken in one atomic step, all or nothing.
#[derive(Debug, Default)]
pub struct Plan {
    pub draws: Vec<Draw>,
}

/// Tokens from one bucket.
#[derive(Debug)]
pub struct Draw {
    pub key: BucketKey,
    pub bucket: Bucket,
    pub cost: Tokens,
    pub rule: DrawRule,
}

/// Who asks for the draw, and what a short bucket means.
#[derive(Clone, Debug)]
pub enum DrawRule {
    LimitReq(Arc<Plugin<LimitReq>>),
    Limit(Arc<Limit>),
    /// Identities that failed.
    Failures,
}

/// A bucket's name: what it belongs to, and whom it counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BucketKey {
    pub scope: Scope,
    pub subject: Subject,
}

/// What a bucket belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A limit of the document.
    Limit(LimitId),
    /// The `limit-req` of the place.
    LimitReq(Arc<str>),
    /// Failed identities.
    Failures,
}

/// Whom a bucket counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Address(IpAddr),
    Text(Arc<str>),
    /// A run of an agent.
    Run(Arc<str>, Arc<str>),
}

impl DrawRule {
    /// The limit's name in records.
    #[must_use]
    pub fn id(&self) -> LimitId {
        match self {
            Self::LimitReq(plugin) => LimitId::from_shared(Arc::clone(&plugin.place)),
            Self::Limit(limit) => limit.id.clone(),
            Self::Failures => LimitId::new("failures"),
        }
    }

    /// The limit's name in `RateLimit` fields and refusals.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::LimitReq(_) => "limit-req",
            Self::Limit(limit) => limit.id.as_str(),
            Self::Failures => "failures",
        }
    }

    /// Whether a short bucket is only reported.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        match self {
            Self::LimitReq(_) | Self::Failures => false,
            Self::Limit(limit) => limit.shadow,
        }
    }

    /// Whether the request passes when the ledger cannot answer.
    #[must_use]
    pub fn passes_without_ledger(&self) -> bool {
        match self {
            Self::LimitReq(plugin) => plugin.rule.allow_degradation,
            Self::Limit(limit) => limit.on_outage == OnOutage::Allow,
            Self::Failures => true,
        }
    }

    /// Whether the request waits its turn in the bucket's queue.
    #[must_use]
    pub fn queues(&self) -> bool {
        match self {
            Self::LimitReq(plugin) => !plugin.rule.nodelay,
            Self::Limit(_) | Self::Failures => false,
        }
    }
}

/// Plans the draws of a request whose route and identity are proven.
///
/// `limit_req` is the one that counts after agent, team and route had their say.
#[must_use]
pub fn plan(
    limits: &LimitIndex,
    limit_req: Option<&Arc<Plugin<LimitReq>>>,
    route: &Route,
    facts: &Facts<'_>,
) -> Plan {
    let from_plugin = limit_req
        .filter(|plugin| plugin.filter.as_ref().is_none_or(|filter| filter.holds(facts)))
        .map(|plugin| Draw {
            key: BucketKey {
                scope: Scope::LimitReq(Arc::clone(&plugin.place)),
                subject: subject_of(&plugin.rule.key, facts),
            },
            bucket: plugin.rule.bucket,
            cost: Tokens(1),
            rule: DrawRule::LimitReq(Arc::clone(plugin)),
        });
    let from_limits = limits.binding(&route.id, facts.identity, facts.method).filter_map(|limit| {
        Some(Draw {
            key: BucketKey {
                scope: Scope::Limit(limit.id.clone()),
                subject: counted(limit.per, route, facts)?,
            },
            bucket: limit.bucket,
            cost: Tokens(1),
            rule: DrawRule::Limit(Arc::clone(limit)),
        })
    });
    Plan { draws: from_plugin.into_iter().chain(from_limits).collect() }
}

/// Whom a limit counts; `None` when the request has no such part, so that the limit says nothing
/// of it.
fn counted(per: Per, route: &Route, facts: &Facts<'_>) -> Option<Subject> {
    let of =
        |part: fn(&Identity) -> Option<Arc<str>>| facts.identity.and_then(part).map(Subject::Text);
    match per {
        Per::Organisation => of(|identity| Some(identity.organisation.shared())),
        Per::Team => of(|identity| identity.team.as_ref().map(model::TeamId::shared)),
        Per::Agent => of(|identity| Some(identity.agent.shared())),
        Per::Route => Some(Subject::Text(route.id.shared())),
        Per::Address => Some(Subject::Address(network(facts.client.ip()))),
        Per::Run => {
            let identity = facts.identity?;
            // An agent that names no run has one run without a name.
            let run = identity.run.as_ref().map_or_else(|| Arc::from(""), model::RunId::shared);
            Some(Subject::Run(identity.agent.shared(), run))
        }
    }
}

/// The key a plugin names; the client's address where the request has no such thing.
fn subject_of(key: &KeySource, facts: &Facts<'_>) -> Subject {
    let text = match key {
        KeySource::Variable(crate::variable::Variable::RemoteAddr) => None,
        KeySource::Variable(variable) => variable.value(facts),
        KeySource::Combination(template) if template.resolves(facts) => {
            Some(Cow::Owned(template.fill(facts, None)))
        }
        KeySource::Combination(_) => None,
    };
    match text {
        Some(text) => Subject::Text(Arc::from(text)),
        None => Subject::Address(facts.client.ip().to_canonical()),
    }
}

/// The address by which strangers are counted: IPv4 as it is, IPv6 by its /64, since one host
/// commands a whole /64 (RFC 6177 §2).
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}
