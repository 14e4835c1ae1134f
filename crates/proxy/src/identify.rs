//! Who asks: the credentials that the route wants, each verified.

use std::sync::Arc;

use http::HeaderName;
use model::{Bucket, Code, Custom, Identity, Rate, Refusal, RefusalBody, Retry, Tokens};
use rules::fact::Facts;
use rules::identity::{Denial, Proven, run_id};
use rules::limit::Short;
use rules::plan::{BucketKey, Draw, DrawRule, Plan, Scope, Subject, network};
use rules::plugin::{JwtAuth, KeyAuth, Plugin, Plugins};
use rules::route::Route;

use crate::head::Head;
use crate::trip::Trip;

/// Proof that a request's identity is what its route asks for, and that it is not suspended. Only [`identify`] makes one.
#[derive(Debug)]
pub(crate) struct Identified {
    route: Arc<Route>,
    /// The agent's plugins over its team's over the route's; `None` for the route's alone.
    plugins: Option<Plugins>,
    custom_id: Option<Arc<str>>,
    is_proven: bool,
}

impl Identified {
    pub(crate) const fn route(&self) -> &Arc<Route> {
        &self.route
    }

    pub(crate) fn plugins(&self) -> &Plugins {
        self.plugins.as_ref().unwrap_or(&self.route.plugins)
    }

    pub(crate) const fn custom_id(&self) -> Option<&Arc<str>> {
        self.custom_id.as_ref()
    }

    /// Whether a credential showed which agent this is.
    pub(crate) const fn is_proven(&self) -> bool {
        self.is_proven
    }
}

/// Verifies what the route asks for, and notes who it is and what the loggers want of it.
///
/// Every failure has one answer, whatever its reason; the reason stands in the record.
pub(crate) fn identify(
    trip: &mut Trip,
    head: &Head,
    route: Arc<Route>,
) -> Result<Identified, Refusal> {
    let found = prove(trip, head, &route.plugins);
    let Ok(Some(proven)) = found else {
        trip.prepare_record(&route.plugins, head);
        let nobody = Identified { route, plugins: None, custom_id: None, is_proven: false };
        found?;
        trip.board(None)?;
        return Ok(nobody);
    };
    let named = head.headers.get(RUN_HEADER).and_then(|value| value.to_str().ok());
    let Proven { agent, credential, run, is_anonymous, until: _ } = proven;
    trip.identified(Identity {
        organisation: agent.organisation.clone(),
        team: agent.team.clone(),
        agent: agent.id.clone(),
        run: run.or_else(|| named.and_then(run_id)),
        credential,
    });
    let plugins = (!agent.plugins.is_empty()).then(|| agent.plugins.over(&route.plugins));
    let custom_id = agent.custom_id.clone();
    let identified = Identified { route, plugins, custom_id, is_proven: !is_anonymous };
    trip.prepare_record(identified.plugins(), head);
    trip.board(Some(agent))?;
    Ok(identified)
}

/// Every credential the route asks for must prove the same agent; `None` if it asks for none.
fn prove(trip: &Trip, head: &Head, plugins: &Plugins) -> Result<Option<Proven>, Refusal> {
    let facts = trip.facts(head);
    let jwt = plugins.jwt_auth.as_ref().filter(|plugin| applies(plugin, &facts));
    let key = plugins.key_auth.as_ref().filter(|plugin| applies(plugin, &facts));
    let by_token = jwt.map(|plugin| token(trip, head, plugin)).transpose()?;
    let by_key = key.map(|plugin| api_key(trip, head, plugin)).transpose()?;
    match (by_token, by_key) {
        (Some(one), Some(other)) if one.agent.id != other.agent.id => {
            let realm = key.map_or("", |plugin| &*plugin.rule.realm);
            Err(refusal("the two credentials prove two agents", "apikey", realm, None))
        }
        (proven, None) | (None, proven) | (proven, Some(_)) => Ok(proven),
    }
}

fn applies<T>(plugin: &Arc<Plugin<T>>, facts: &Facts<'_>) -> bool {
    plugin.filter.as_ref().is_none_or(|filter| filter.holds(facts))
}

fn token(trip: &Trip, head: &Head, plugin: &Arc<Plugin<JwtAuth>>) -> Result<Proven, Refusal> {
    let (agents, now) = (&trip.snapshot.agents, trip.outcome().started);
    let found = plugin.rule.sources.find(&head.headers, head.target.query());
    if let Some(token) = &found
        && let Some(proven) = trip.core.tokens.lock().find(token, plugin, agents.version, now)
    {
        return Ok(proven);
    }
    let verified = match &found {
        Some(token) => {
            patience(trip)?;
            agents.verify_token(token, &plugin.rule, now)
        }
        None => Err(Denial::Missing),
    };
    match (verified, &found) {
        (Ok(proven), Some(token)) => {
            trip.core.tokens.lock().keep(token, plugin, agents.version, proven.clone());
            Ok(proven)
        }
        (Ok(proven), None) => Ok(proven),
        (Err(denial), _) => {
            fall_back(trip, plugin.rule.anonymous.as_ref(), denial).ok_or_else(|| {
                refusal(denial.to_string(), "Bearer", &plugin.rule.realm, plugin.refusal_body())
            })
        }
    }
}

fn api_key(trip: &Trip, head: &Head, plugin: &Arc<Plugin<KeyAuth>>) -> Result<Proven, Refusal> {
    let (agents, now) = (&trip.snapshot.agents, trip.outcome().started);
    let verified = match plugin.rule.sources.find(&head.headers, head.target.query()) {
        Some(key) => {
            // Who was proven before does not pay for what others tried from the same address.
            if let Some(proven) = trip.core.keys.lock().find(&key, plugin, agents.version, now) {
                return Ok(proven);
            }
            patience(trip)?;
            let verified = agents.verify_key(&key);
            if let Ok(proven) = &verified {
                trip.core.keys.lock().keep(&key, plugin, agents.version, proven.clone());
            }
            verified
        }
        None => Err(Denial::Missing),
    };
    verified.or_else(|denial| {
        fall_back(trip, plugin.rule.anonymous.as_ref(), denial).ok_or_else(|| {
            refusal(denial.to_string(), "apikey", &plugin.rule.realm, plugin.refusal_body())
        })
    })
}

/// The agent that requests without a valid credential act as; a failure is counted all the same.
fn fall_back(trip: &Trip, anonymous: Option<&model::AgentId>, denial: Denial) -> Option<Proven> {
    if denial != Denial::Missing {
        // A full ledger only means that this failure is not counted. Each node counts its own: an
        // answer to a stranger must not depend on the fleet's store.
        let _counted = trip.core.shared.ledger.own().take(&failure(trip), trip.since);
    }
    let agent = trip.snapshot.agents.by_id.get(anonymous?)?;
    let until = model::Timestamp::from_micros(u64::MAX);
    Some(Proven {
        agent: Arc::clone(agent),
        credential: None,
        run: None,
        is_anonymous: true,
        until,
    })
}

/// Refuses an address that has failed too often, before its credential costs a verification.
fn patience(trip: &Trip) -> Result<(), Refusal> {
    let plan = failure(trip);
    let Some(draw) = plan.draws.first() else { return Ok(()) };
    match trip.core.shared.ledger.own().peek(draw, trip.since) {
        Ok(()) | Err(Short::Never) => Ok(()),
        Err(Short::For(wait)) => {
            let detail = "too many failed identities from this address";
            Err(Refusal::new(Code::IdentityThrottled, detail).retry(Retry::After(wait)))
        }
    }
}

fn failure(trip: &Trip) -> Plan {
    let bucket = failures();
    let subject = Subject::Address(network(trip.outcome().client.ip()));
    let key = BucketKey { scope: Scope::Failures, subject };
    let draw = bucket.map(|bucket| Draw { key, bucket, cost: Tokens(1), rule: DrawRule::Failures });
    Plan { draws: draw.into_iter().collect(), ..Plan::default() }
}

/// An address may fail 20 times at once and then once a second.
fn failures() -> Option<Bucket> {
    let rate = Rate::parse("1", std::time::Duration::from_secs(1)).ok()?;
    Bucket::new(rate, "20", Tokens(0)).ok()
}

fn refusal(
    detail: impl Into<std::borrow::Cow<'static, str>>,
    scheme: &str,
    realm: &str,
    body: Option<RefusalBody>,
) -> Refusal {
    let challenge = Some(Arc::from(format!("{scheme} realm=\"{realm}\"")));
    let custom = Custom { body, challenge, ..Custom::default() };
    Refusal::new(Code::IdentityRefused, detail).sealed().custom(custom)
}

/// Names the run of an agent whose token does not.
const RUN_HEADER: HeaderName = HeaderName::from_static("x-tollgate-run");
