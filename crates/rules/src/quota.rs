//! Upstream quotas: what an upstream lets everybody on one credential do, shared fairly.
//!
//! The quota is a [`rule::Rule`]; [`principal::Principal`] counts and queues by it; [`said`] reads
//! what the upstream says of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use model::{AgentId, Identity, QuotaId, TeamId, UpstreamId};

use crate::fact::Facts;
use crate::limit::{OnOutage, Selector};
use crate::upstream::Upstream;

mod news;
mod nodes;
mod pace;
mod principal;
mod queue;
mod ring;
mod rule;
mod said;

pub use news::{Blocked, Grant, Leave, NEVER, News, Probe, Report, Said, Step};
pub use nodes::AWAY;
pub use principal::{Past, Principal};
pub use queue::{Flow, Join, Room, WAITING_MAX, WEIGHT_MAX};
pub use ring::Ring;
pub use rule::{Edition, QUOTA_MAX, Rule, WINDOW_MAX, WINDOW_MIN};
pub use said::read as said;

/// A quota of the document (kind `upstream_quotas`).
#[derive(Clone, Debug)]
pub struct Quota {
    pub id: QuotaId,
    pub reach: Reach,
    pub per: Per,
    pub rule: Rule,
    pub classes: Classes,
    pub weights: Weights,
    /// Calls that may wait at once.
    pub room: Room,
    /// The longest wait of a call.
    pub deadline: Duration,
    /// What happens when the fleet's counts cannot be asked.
    pub on_outage: OnOutage,
}

/// Which upstreams a quota is for: those named, or those with a node of a named host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    pub upstreams: Vec<UpstreamId>,
    /// Lower-case hosts of nodes.
    pub hosts: Vec<Arc<str>>,
}

/// Each of these has a count of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Per {
    /// The credential that is sent, whichever upstreams send it.
    #[default]
    Credential,
    Upstream,
}

/// How much a call is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Nobody waits for it.
    Bulk,
    #[default]
    Automation,
    /// Somebody waits for it: it may use the reserve.
    Interactive,
}

impl Class {
    /// Every class and its name.
    pub const ALL: [(&'static str, Self); 3] = [
        ("interactive", Self::Interactive),
        ("automation", Self::Automation),
        ("bulk", Self::Bulk),
    ];

    /// By how much a class counts more than the lowest.
    const fn factor(self) -> u64 {
        match self {
            Self::Bulk => 1,
            Self::Automation => 4,
            Self::Interactive => 16,
        }
    }
}

/// Which calls are of which class.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    /// The first whose selector binds the request says its class.
    pub selectors: Vec<(Class, Selector)>,
    pub otherwise: Class,
    /// A field by which a client may lower the class of a call, never raise it.
    pub header: Option<HeaderName>,
}

/// The shares of agents, 1 where nothing is said: an agent's own comes before its team's.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    pub agents: HashMap<AgentId, u64>,
    pub teams: HashMap<TeamId, u64>,
}

/// The largest share that a document gives.
pub const SHARE_MAX: u64 = 100;

impl Quota {
    /// The class of a request.
    #[must_use]
    pub fn class(&self, facts: &Facts<'_>) -> Class {
        let Classes { selectors, otherwise, header } = &self.classes;
        let binds =
            |selector: &Selector| facts.route.is_some_and(|route| selector.binds(&route.id, facts));
        let found = selectors.iter().find(|(_, selector)| binds(selector));
        let class = found.map_or(*otherwise, |(class, _)| *class);
        let asked = header.as_ref().and_then(|header| facts.headers.get(header));
        let asked = asked.and_then(|asked| {
            Class::ALL.into_iter().find(|(name, _)| name.as_bytes() == asked.as_bytes())
        });
        asked.map_or(class, |(_, asked)| class.min(asked))
    }

    /// A request as it joins the queue; the number is the caller's to set.
    #[must_use]
    pub fn join(&self, facts: &Facts<'_>) -> Join {
        let class = self.class(facts);
        let agent = facts.identity.map_or("", |identity| identity.agent.as_str());
        Join {
            seq: 0,
            flow: Flow { class, agent: Arc::from(agent) },
            weight: self.weights.of(facts.identity) * class.factor(),
            patience: rule::millis(self.deadline),
            room: self.room,
        }
    }
}

impl Weights {
    fn of(&self, identity: Option<&Identity>) -> u64 {
        let Some(identity) = identity else { return 1 };
        let team = || identity.team.as_ref().and_then(|team| self.teams.get(team));
        self.agents.get(&identity.agent).or_else(team).copied().unwrap_or(1)
    }
}

/// The quotas of a document, found by upstream. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct QuotaIndex(Arc<Index>);

#[derive(Debug, Default)]
struct Index {
    by_upstream: HashMap<UpstreamId, Arc<Quota>>,
    by_host: HashMap<Arc<str>, Arc<Quota>>,
}

impl QuotaIndex {
    /// Files quotas in the order of their ids: where two name the same, the first counts.
    #[must_use]
    pub fn build(quotas: &[Arc<Quota>]) -> Self {
        let mut index = Index::default();
        for quota in quotas {
            for id in &quota.reach.upstreams {
                index.by_upstream.entry(id.clone()).or_insert_with(|| Arc::clone(quota));
            }
            for host in &quota.reach.hosts {
                index.by_host.entry(Arc::clone(host)).or_insert_with(|| Arc::clone(quota));
            }
        }
        Self(Arc::new(index))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.by_upstream.is_empty() && self.0.by_host.is_empty()
    }

    /// The quota that binds what goes to an upstream: the one that names it, or else the one that
    /// names the host of the first of its nodes that any names.
    #[must_use]
    pub fn of(&self, upstream: &Upstream) -> Option<&Arc<Quota>> {
        if self.is_empty() {
            return None;
        }
        let by_host = || upstream.nodes.iter().find_map(|node| self.0.by_host.get(&node.host));
        self.0.by_upstream.get(&upstream.id).or_else(by_host)
    }
}

#[cfg(test)]
mod tests;
