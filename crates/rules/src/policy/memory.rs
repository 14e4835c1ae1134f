//! The policies of a document, filed by whom they are about, and what was decided already.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid};
use model::{Identity, OrganisationId, TeamId};

use super::decide::{Decision, Open, Slice, Verdict};
use super::entity::{Asked, Zone, Zones, principal};
use super::scope::{Lineage, Uid};
use super::text::Policy;
use super::vocabulary::Vocabulary;
use crate::operation::Api;

/// All policies of a document. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Policies(Option<Arc<Set>>);

#[derive(Debug)]
struct Set {
    /// Forbids first, and then in the order of the document.
    policies: Vec<Arc<Policy>>,
    /// Places of those that are about somebody.
    by_principal: HashMap<Uid, Vec<usize>>,
    /// Places of those that are about anybody.
    of_all: Vec<usize>,
    zones: Zones,
}

/// What was found out: per worker, so that nobody waits for it.
#[derive(Debug, Default)]
pub struct Memory {
    /// The policies that it remembers.
    of: Policies,
    agents: HashMap<Arc<str>, Remembered>,
    slices: HashMap<Box<[usize]>, Arc<Slice>>,
    count: usize,
}

/// What is remembered of an agent.
#[derive(Debug)]
struct Remembered {
    team: Option<TeamId>,
    organisation: Option<OrganisationId>,
    /// By action, and by what is acted on.
    answers: HashMap<(usize, &'static str), HashMap<Box<str>, Judged>>,
}

/// What somebody may do, before there is a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    Never,
    /// What it is done to, or how, decides.
    Depends,
    /// A policy may ask a group first.
    Asks,
    Always,
}

impl Outlook {
    /// The word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Depends => "depends",
            Self::Asks => "asks",
            Self::Always => "always",
        }
    }
}

/// What is said to a question.
#[derive(Clone, Debug)]
pub enum Judged {
    Now(Arc<Verdict>),
    /// More must be known.
    Open(Arc<Open>),
}

impl Policies {
    /// The policies of a document. Even one without any policy refuses all that none permits.
    #[must_use]
    pub fn new(mut policies: Vec<Arc<Policy>>, zones: &[Zone]) -> Self {
        policies.sort_by_key(|policy| !policy.forbids);
        let mut by_principal: HashMap<Uid, Vec<usize>> = HashMap::new();
        let mut of_all = Vec::new();
        for (place, policy) in policies.iter().enumerate() {
            match &policy.principal.of {
                Some(uid) => by_principal.entry(uid.clone()).or_default().push(place),
                None => of_all.push(place),
            }
        }
        let zones = Zones::new(zones);
        Self(Some(Arc::new(Set { policies, by_principal, of_all, zones })))
    }

    /// Whether nothing is judged by policy, since the document has no `policies`.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Every policy, forbids first.
    #[must_use]
    pub fn all(&self) -> &[Arc<Policy>] {
        self.0.as_ref().map(|set| set.policies.as_slice()).unwrap_or_default()
    }

    /// Whether this is the very same set.
    fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// What the policies say to a request as far as who, what and where tell it.
    #[must_use]
    pub fn judge(&self, memory: &mut Memory, asked: &Asked<'_>) -> Judged {
        if !memory.of.is_same(self) || memory.count >= REMEMBERED_MAX {
            *memory = Memory { of: self.clone(), ..Memory::default() };
        }
        let identity = asked.identity();
        let action = asked.action();
        let (kind, id) = asked.resource();
        if let Some(known) = memory.recall(identity, (action, kind), &id) {
            return known;
        }
        let Some(set) = &self.0 else { return now(Decision::Permit { policy: None }) };
        let judged = set.judge(memory, identity, action, &set.zones.resource(kind, &id, asked.api));
        memory.keep(identity, (action, kind), &id, judged.clone());
        judged
    }

    /// The policies whose scope holds somebody, a call and what is acted on; forbids first.
    #[must_use]
    pub fn candidates(&self, who: &Lineage, action: usize, what: &Lineage) -> Vec<Arc<Policy>> {
        let Some(set) = &self.0 else { return Vec::new() };
        let places = set.candidates(who, action, what);
        places.iter().filter_map(|place| set.policies.get(*place)).map(Arc::clone).collect()
    }

    /// What somebody may do with a call, as far as it can be said without a request.
    #[must_use]
    pub fn outlook(&self, identity: Option<&Identity>, action: usize) -> (Outlook, Vec<Arc<str>>) {
        let who = principal(identity);
        let is_unknown = Vocabulary::get().action(action).is_some_and(|of| of.is_unknown());
        let about = |policy: &&Arc<Policy>| {
            !policy.is_shadow
                && policy.calls.contains(action)
                && (policy.forbids || policy.names_unknown || !is_unknown)
                && policy.principal.accepts(&who)
        };
        let about = self.all().iter().filter(about);
        let (forbids, permits): (Vec<&Arc<Policy>>, Vec<&Arc<Policy>>) =
            about.partition(|policy| policy.forbids);
        let ids = |policies: &[&Arc<Policy>]| {
            policies.iter().map(|policy| Arc::clone(&policy.id)).collect::<Vec<_>>()
        };
        let is_plain = |policy: &&Arc<Policy>| policy.is_plain();
        let shut: Vec<&Arc<Policy>> = forbids.iter().copied().filter(is_plain).collect();
        let all: Vec<&Arc<Policy>> = permits.iter().chain(&forbids).copied().collect();
        let outlook = if !shut.is_empty() {
            return (Outlook::Never, ids(&shut));
        } else if permits.is_empty() {
            Outlook::Never
        } else if permits.iter().any(|policy| policy.ask.is_some()) {
            Outlook::Asks
        } else if forbids.is_empty() && permits.iter().any(|policy| policy.is_plain()) {
            Outlook::Always
        } else {
            Outlook::Depends
        };
        if outlook == Outlook::Never { (outlook, Vec::new()) } else { (outlook, ids(&all)) }
    }

    /// What a zone's id, or another resource, is in.
    #[must_use]
    pub fn resource(&self, kind: &str, id: &str, api: Option<Api>) -> Lineage {
        self.0.as_ref().map_or_else(
            || Zones::default().resource(kind, id, api),
            |set| set.zones.resource(kind, id, api),
        )
    }
}

impl Set {
    fn judge(
        &self,
        memory: &mut Memory,
        identity: Option<&Identity>,
        action: usize,
        what: &Lineage,
    ) -> Judged {
        let who = principal(identity);
        let places = self.candidates(&who, action, what);
        let known = memory.slices.get(places.as_slice()).map(Arc::clone);
        let slice = known.unwrap_or_else(|| {
            let chosen = places.iter().filter_map(|place| self.policies.get(*place));
            let slice = Arc::new(Slice::new(chosen.map(Arc::clone).collect()));
            if memory.slices.len() >= SLICES_MAX {
                memory.slices.clear();
            }
            memory.slices.insert(places.clone().into(), Arc::clone(&slice));
            slice
        });
        let unknown = unknown_class(identity, action);
        if places.is_empty() {
            return now(unknown.unwrap_or(Decision::Refuse { policy: None, reason: None }));
        }
        let Some(open) = open(slice, &who, action, what) else {
            return now(Decision::Failed { policy: None });
        };
        let open = Open { otherwise: unknown, ..open };
        if !open.slice.is_settled() {
            return Judged::Open(Arc::new(open));
        }
        match open.put(Context::empty()) {
            Ok(verdict) => Judged::Now(Arc::new(verdict)),
            Err(_) => now(Decision::Failed { policy: None }),
        }
    }

    /// Places of the policies whose scope holds the question, in their order. A permit holds calls
    /// that no catalogue knows only where its scope names them.
    fn candidates(&self, who: &Lineage, action: usize, what: &Lineage) -> Vec<usize> {
        let is_unknown = Vocabulary::get().action(action).is_some_and(|of| of.is_unknown());
        let own = std::iter::once(&who.own).chain(&who.above);
        let filed = own.filter_map(|uid| self.by_principal.get(uid)).flatten();
        let mut places: Vec<usize> = filed
            .chain(&self.of_all)
            .copied()
            .filter(|place| {
                self.policies.get(*place).is_some_and(|policy| {
                    policy.calls.contains(action)
                        && (policy.forbids || policy.names_unknown || !is_unknown)
                        && policy.principal.accepts(who)
                        && policy.resource.accepts(what)
                })
            })
            .collect();
        places.sort_unstable();
        places
    }
}

/// What becomes of calls that no catalogue knows where no policy names them: an agent's reads ask.
fn unknown_class(identity: Option<&Identity>, action: usize) -> Option<Decision> {
    let action = Vocabulary::get().action(action).filter(|action| action.is_unknown())?;
    let reason = Some(Arc::from("no catalogue knows this call, and no policy names such calls"));
    let asks = identity.is_some() && action.is_in("effect:read");
    Some(if asks {
        Decision::Ask { policy: None, group: None, reason }
    } else {
        Decision::Refuse { policy: None, reason }
    })
}

fn now(decision: Decision) -> Judged {
    Judged::Now(Arc::new(Verdict { decision, shadow: None }))
}

/// The question in Cedar's words.
fn open(slice: Arc<Slice>, who: &Lineage, action: usize, what: &Lineage) -> Option<Open> {
    let action = Vocabulary::get().action(action)?;
    let groups = action.groups.iter().map(|group| Uid::new("Action", group)).collect();
    let called = Lineage { own: Uid::new("Action", &action.name), above: groups };
    let mut entities: Vec<Entity> = Vec::new();
    for lineage in [who, &called, what] {
        let above: Vec<EntityUid> = lineage.above.iter().filter_map(cedar_uid).collect();
        let own = cedar_uid(&lineage.own)?;
        entities.push(Entity::new_no_attrs(own, above.into_iter().collect()));
    }
    Some(Open {
        slice,
        principal: cedar_uid(&who.own)?,
        action: cedar_uid(&called.own)?,
        resource: cedar_uid(&what.own)?,
        entities: Entities::from_entities(entities, None).ok()?,
        otherwise: None,
    })
}

fn cedar_uid(uid: &Uid) -> Option<EntityUid> {
    let kind: EntityTypeName = uid.kind.parse().ok()?;
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(&*uid.id)))
}

impl Memory {
    fn recall(
        &self,
        identity: Option<&Identity>,
        what: (usize, &'static str),
        id: &str,
    ) -> Option<Judged> {
        let agent = identity.map_or("", |identity| identity.agent.as_str());
        let known = self.agents.get(agent).filter(|known| known.is_of(identity))?;
        known.answers.get(&what)?.get(id).cloned()
    }

    fn keep(
        &mut self,
        identity: Option<&Identity>,
        what: (usize, &'static str),
        id: &str,
        judged: Judged,
    ) {
        let agent = identity.map_or_else(|| Arc::from(""), |identity| identity.agent.shared());
        let anew = || Remembered {
            team: identity.and_then(|identity| identity.team.clone()),
            organisation: identity.map(|identity| identity.organisation.clone()),
            answers: HashMap::new(),
        };
        let known = self.agents.entry(agent).or_insert_with(anew);
        if !known.is_of(identity) {
            *known = anew();
        }
        known.answers.entry(what).or_default().insert(Box::from(id), judged);
        self.count += 1;
    }
}

impl Remembered {
    /// Whether the agent is still in the same team.
    fn is_of(&self, identity: Option<&Identity>) -> bool {
        self.team.as_ref() == identity.and_then(|identity| identity.team.as_ref())
            && self.organisation.as_ref() == identity.map(|identity| &identity.organisation)
    }
}

/// Answers that a worker remembers. When there are as many, all are forgotten, and each is found
/// out again when it is asked for.
const REMEMBERED_MAX: usize = 16_384;

/// Sets of policies that a worker keeps ready to be asked. When there are as many, all are made
/// again when they are asked for.
const SLICES_MAX: usize = 1_024;
