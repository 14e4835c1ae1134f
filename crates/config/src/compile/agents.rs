//! Agents, their teams, and what proves them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use model::OrganisationId;
use rules::Unresolved;
use rules::identity::{Agent, Agents, JwtCredential, KeyCredential};

use super::memory::Sources;
use super::opened::Opened;
use super::proofs::{Found, ProofsMemory};
use crate::document::{Document, consumer, consumer_group};
use crate::key::{Key, Kind};
use crate::plugin::{JwtProof, KeyProof, Proofs};
use crate::state::State;

/// Kinds whose changes change who is proven, or by what: a secret's settings say where the
/// secrets are that prove agents.
const KINDS: [Kind; 4] = [Kind::Secret, Kind::ConsumerGroup, Kind::Consumer, Kind::Credential];

/// The agents as they were compiled last.
#[derive(Default)]
pub(super) struct AgentsMemory {
    agents: Agents,
    proofs: ProofsMemory,
    /// Consumers whose team is not there.
    orphans: BTreeMap<Key, Unresolved>,
}

impl AgentsMemory {
    /// Compiles the agents again that were opened again, or whose team was.
    pub(super) fn renew(&mut self, state: &State, opened: &Opened, stale: &BTreeSet<Key>) {
        let mut consumers: BTreeSet<&Key> = BTreeSet::new();
        let mut credentials: BTreeSet<Key> = BTreeSet::new();
        for key in stale {
            match key.kind {
                Kind::Consumer => {
                    consumers.insert(key);
                }
                Kind::ConsumerGroup => {
                    consumers.extend(state.referrers(key).filter(|by| by.kind == Kind::Consumer));
                }
                Kind::Credential => {
                    credentials.insert(key.clone());
                }
                Kind::Secret
                | Kind::Upstream
                | Kind::Route
                | Kind::Limit
                | Kind::Price
                | Kind::Budget
                | Kind::Response
                | Kind::UpstreamQuota
                | Kind::Zone
                | Kind::Policy => {}
            }
        }
        for key in consumers {
            self.renew_consumer(key, opened);
            // They hold the agent.
            credentials.extend(state.credentials(key));
        }
        for key in credentials {
            self.renew_credential(&key, opened);
        }
    }

    /// Completes the agents once all of them are compiled.
    pub(super) fn finish(&mut self, state: &State, sources: Sources<'_>) {
        let is_needed = !self.agents.by_api_key.is_empty();
        self.agents.digester = is_needed.then(|| sources.keyring.digester().clone());
        self.agents.version = version(state, sources.resolved);
    }

    /// Every agent, by what proves it.
    pub(super) const fn agents(&self) -> &Agents {
        &self.agents
    }

    /// What keeps agents from being proven, by the resource at fault.
    pub(super) fn unresolved(&self) -> impl Iterator<Item = (&Key, Unresolved)> {
        let orphans = self.orphans.iter().map(|(key, orphan)| (key, orphan.clone()));
        orphans.chain(self.proofs.twice())
    }

    /// Compiles one agent. One that lacks anything it is judged by is left out, so that nothing
    /// proves it: its own or its team's rules need a secret that this node does not have, or its
    /// team is gone.
    fn renew_consumer(&mut self, key: &Key, opened: &Opened) {
        self.orphans.remove(key);
        let document = match opened.get(key) {
            Some(Document::Consumer(document)) => Some(&**document),
            _ => None,
        };
        let team = document.and_then(|document| document.team.as_ref());
        let found = team.map(|team| opened.get(&Key::new(Kind::ConsumerGroup, team.as_str())));
        let team = match (team, found) {
            (_, Some(Some(Document::ConsumerGroup(team)))) => Some(team),
            (None, _) => None,
            (Some(team), _) => {
                self.orphans.insert(key.clone(), orphan(key, team.as_str()));
                return self.leave_out(key);
            }
        };
        let is_closed = |document: &consumer::Document| {
            document.is_closed || team.is_some_and(|team| team.is_closed)
        };
        let Some(document) = document.filter(|document| !is_closed(document)) else {
            return self.leave_out(key);
        };
        let agent = Arc::new(agent(document, team));
        let found = found_in(&document.proofs, &agent, None);
        self.agents.by_id.insert(agent.id.clone(), agent);
        self.proofs.replace(key, found, &mut self.agents);
    }

    fn renew_credential(&mut self, key: &Key, opened: &Opened) {
        let owner = key.consumer();
        let agent = owner.and_then(|owner| self.agents.by_id.get(owner.id.as_str()));
        let found = match (opened.get(key), agent) {
            (Some(Document::Credential(document)), Some(agent)) => {
                found_in(&document.proofs, agent, Some(&document.id))
            }
            _ => Found::default(),
        };
        self.proofs.replace(key, found, &mut self.agents);
    }

    fn leave_out(&mut self, key: &Key) {
        self.agents.by_id.remove(key.id.as_str());
        self.proofs.replace(key, Found::default(), &mut self.agents);
    }
}

fn orphan(key: &Key, team: &str) -> Unresolved {
    Unresolved {
        place: format!("/{key}/team"),
        reference: team.to_owned(),
        why: String::from("there is no such team, so the agent is refused"),
    }
}

/// A number that changes with every change of an agent, a team, a credential or a secret.
fn version(state: &State, resolved: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    resolved.hash(&mut hasher);
    KINDS.map(|kind| state.changed(kind).number()).hash(&mut hasher);
    hasher.finish()
}

fn agent(document: &consumer::Document, team: Option<&consumer_group::Document>) -> Agent {
    let of_team = team.map(|team| &team.organisation);
    let organisation = of_team
        .or(document.organisation.as_ref())
        .cloned()
        .unwrap_or_else(|| OrganisationId::new(consumer_group::ORGANISATION));
    let plugins = &document.plugins;
    Agent {
        id: document.id.clone(),
        team: document.team.clone(),
        organisation,
        plugins: team.map_or_else(|| plugins.clone(), |team| plugins.or(&team.plugins)),
        custom_id: document.custom_id.clone(),
    }
}

/// What proves an agent, as far as it is open on this node.
fn found_in(
    proofs: &Proofs,
    agent: &Arc<Agent>,
    credential: Option<&model::CredentialId>,
) -> Found {
    let Proofs { jwt, api_key } = proofs;
    let jwt = match jwt {
        Some(JwtProof { name, key: Some(key), grace }) => {
            let (agent, credential) = (Arc::clone(agent), credential.cloned());
            let found = JwtCredential { agent, credential, key: key.clone(), grace: *grace };
            Some((Arc::clone(name), found))
        }
        Some(JwtProof { key: None, .. }) | None => None,
    };
    let api_key = match api_key {
        Some(KeyProof { digest: Some(digest) }) => {
            let found = KeyCredential { agent: Arc::clone(agent), credential: credential.cloned() };
            Some((*digest, found))
        }
        Some(KeyProof { digest: None }) | None => None,
    };
    Found { jwt, api_key }
}
