//! One plan for everything a request draws on, made before anything is taken.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use model::{Amount, Bucket, Identity, LimitId, ReservationId, Timestamp, Tokens};

use crate::budget::{Budget, Hold, RowKey};
use crate::fact::Facts;
use crate::limit::{Limit, Mode, OnOutage, Per};
use crate::plugin::{KeySource, LimitReq, Plugin};
use crate::price::{Evidence, Needs, Price, Tariff, Unpriced};
use crate::route::Route;
use crate::snapshot::Snapshot;
use crate::variable::Variable;

/// Everything a request draws on: taken in one atomic step, all or nothing.
#[derive(Debug, Default)]
pub struct Plan {
    /// The holds are made once under this id, however often the plan is taken.
    pub id: ReservationId,
    pub draws: Vec<Draw>,
    pub holds: Vec<Hold>,
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

impl std::fmt::Display for Subject {
    /// As operators read it: a run as `AGENT/RUN`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Text(text) => f.write_str(text),
            Self::Run(agent, run) => write!(f, "{agent}/{run}"),
        }
    }
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
            Self::Limit(limit) => match limit.on_outage {
                OnOutage::Allow => true,
                OnOutage::Refuse | OnOutage::Share => false,
            },
            Self::Failures => true,
        }
    }

    /// Whether nodes go on with a share of it when the fleet's store is away.
    #[must_use]
    pub fn shares(&self) -> bool {
        match self {
            Self::LimitReq(_) | Self::Failures => false,
            Self::Limit(limit) => limit.on_outage == OnOutage::Share,
        }
    }

    /// How a fleet counts the draw. A queue is exact: who waits for a turn needs the one order
    /// of all nodes.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self {
            Self::LimitReq(plugin) if plugin.rule.nodelay => Mode::Auto,
            Self::LimitReq(_) | Self::Failures => Mode::Exact,
            Self::Limit(limit) => limit.mode,
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

/// A plan of which some holds still need a price. [`Draft::price`] makes it whole.
#[derive(Debug)]
pub struct Draft {
    id: ReservationId,
    draws: Vec<Draw>,
    holds: Vec<Open>,
}

/// A hold whose amount is not known.
#[derive(Debug)]
struct Open {
    row: RowKey,
    budget: Arc<Budget>,
    /// `None` where every call costs one.
    price: Option<Arc<Price>>,
}

impl Draft {
    /// What must be known before the holds have a price. Mostly nothing.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.prices().fold(Needs::default(), |all, price| {
            let needs = price.needs();
            Needs { request: all.request || needs.request, quote: all.quote || needs.quote }
        })
    }

    /// The prices that ask for a quote, each once.
    #[must_use]
    pub fn quoted(&self) -> Vec<&Arc<Price>> {
        let mut quoted: Vec<&Arc<Price>> = Vec::new();
        for price in self.prices().filter(|price| price.needs().quote) {
            if !quoted.iter().any(|known| Arc::ptr_eq(known, price)) {
                quoted.push(price);
            }
        }
        quoted
    }

    /// What it draws on, as a plan of its own: what is left only holds.
    #[must_use]
    pub fn take_draws(&mut self) -> Plan {
        Plan { id: self.id, draws: std::mem::take(&mut self.draws), holds: Vec::new() }
    }

    /// Prices every hold.
    ///
    /// # Errors
    /// When a price cannot be known. A budget that only reports holds nothing then.
    pub fn price(self, evidence: &Evidence<'_>) -> Result<Plan, Unpriced> {
        let mut holds = Vec::with_capacity(self.holds.len());
        for Open { row, budget, price } in self.holds {
            let tariff = match price.map(|price| Tariff::new(&price, evidence)).transpose() {
                Ok(tariff) => tariff,
                Err(_) if budget.shadow => continue,
                Err(unpriced) => return Err(unpriced),
            };
            let amount = tariff.as_ref().map_or(Amount::ONE, Tariff::held);
            holds.push(Hold { row, amount, budget, tariff });
        }
        Ok(Plan { id: self.id, draws: self.draws, holds })
    }

    fn prices(&self) -> impl Iterator<Item = &Arc<Price>> {
        self.holds.iter().filter_map(|open| open.price.as_ref())
    }
}

/// Plans what a request draws on and holds, once its route, identity and call are known.
///
/// `limit_req` is the one that counts after agent, team and route had their say.
#[must_use]
pub fn plan(
    snapshot: &Snapshot,
    limit_req: Option<&Arc<Plugin<LimitReq>>>,
    route: &Route,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Draft {
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
    let from_limits = snapshot.limits.binding(&route.id, facts).filter_map(|limit| {
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
    let draws = from_plugin.into_iter().chain(from_limits).collect();
    let id = ReservationId(facts.request_id.0);
    Draft { id, draws, holds: opens(snapshot, route, facts, now) }
}

/// The holds of a request: one for each budget that binds it and in whose unit it has a price.
fn opens(snapshot: &Snapshot, route: &Route, facts: &Facts<'_>, now: Timestamp) -> Vec<Open> {
    if snapshot.budgets.is_empty() {
        return Vec::new();
    }
    let prices = Price::counting(snapshot.prices.binding(&route.id, facts));
    let budgets = snapshot.budgets.binding(&route.id, facts);
    budgets
        .filter_map(|budget| {
            let price = prices.iter().find(|price| price.unit == budget.unit);
            if price.is_none() && !budget.unit.is_requests() {
                return None;
            }
            let subject = counted(budget.per, route, facts)?;
            let period = budget.calendar.at(now).start;
            let row = RowKey::of(budget, subject, period);
            let price = price.map(|price| Arc::clone(price));
            Some(Open { row, budget: Arc::clone(budget), price })
        })
        .collect()
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
        Per::Operation => facts.call.map(|call| Subject::Text(Arc::from(call.operation()))),
        Per::Upstream => {
            route.upstream.as_ref().map(|upstream| Subject::Text(upstream.id.shared()))
        }
        Per::Address => Some(Subject::Address(network(facts.client.ip()))),
        Per::Run => {
            let identity = facts.identity?;
            // An agent that names no run has one run without a name.
            let run = identity.run.as_ref().map_or_else(|| Arc::from(""), model::RunId::shared);
            Some(Subject::Run(identity.agent.shared(), run))
        }
    }
}

/// The key a plugin names; the client's network where the request has no such thing. The client's
/// address is its [`network`] wherever a key holds it: else one host had a bucket for each of its
/// addresses.
fn subject_of(key: &KeySource, facts: &Facts<'_>) -> Subject {
    let network = network(facts.client.ip());
    let facts = &Facts { client: SocketAddr::new(network, facts.client.port()), ..*facts };
    let text = match key {
        KeySource::Variable(Variable::RemoteAddr) => None,
        KeySource::Variable(variable) => variable.value(facts),
        KeySource::Combination(template) if template.resolves(facts) => {
            Some(Cow::Owned(template.fill(facts, None)))
        }
        KeySource::Combination(_) => None,
    };
    text.map_or(Subject::Address(network), |text| Subject::Text(Arc::from(text)))
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

#[cfg(test)]
mod tests {
    use super::{Facts, KeySource, SocketAddr, Subject, subject_of};
    use crate::fact::sample::Sample;
    use crate::variable::{Template, Variable};

    /// Whether requests from two addresses draw on one bucket, whatever way a key holds the
    /// address; and whom the plain one counts.
    #[track_caller]
    fn check(one: &str, other: &str, share: bool, counted: &str) {
        let sample = Sample::new("/");
        let keys = [
            KeySource::Variable(Variable::RemoteAddr),
            KeySource::Variable(Variable::parse("http_absent").unwrap()),
            KeySource::Combination(Template::parse("$http_absent").unwrap()),
            KeySource::Combination(Template::parse("$remote_addr $agent").unwrap()),
        ];
        let subject = |key: &KeySource, address: &str| {
            let client = SocketAddr::new(address.parse().unwrap(), 4711);
            subject_of(key, &Facts { client, ..sample.facts() })
        };
        for key in &keys {
            assert_eq!(subject(key, one) == subject(key, other), share, "{key:?}");
        }
        for key in keys.iter().take(3) {
            assert_eq!(subject(key, one), Subject::Address(counted.parse().unwrap()), "{key:?}");
        }
    }

    #[test]
    fn the_addresses_of_one_64_share_a_bucket_and_those_of_two_do_not() {
        check("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", true, "2001:db8:0:1::");
        check("2001:db8:0:1::1", "2001:db8:0:2::1", false, "2001:db8:0:1::");
    }

    #[test]
    fn each_address_of_ipv4_has_a_bucket_of_its_own() {
        check("192.0.2.1", "192.0.2.2", false, "192.0.2.1");
        check("192.0.2.1", "::ffff:192.0.2.1", true, "192.0.2.1");
        check("::ffff:192.0.2.1", "::ffff:192.0.2.2", false, "192.0.2.1");
    }

    #[test]
    fn a_key_without_the_address_is_its_text() {
        let key = KeySource::Variable(Variable::ConsumerName);
        let subject = subject_of(&key, &Sample::new("/").facts());
        assert_eq!(subject, Subject::Text("bot".into()));
    }
}
