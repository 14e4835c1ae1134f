//! Agents, their teams, and what proves them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use model::{AgentId, CredentialId, OrganisationId};
use rules::Unresolved;
use rules::identity::{Agent, Agents, JwtCredential, KeyCredential, KeyDigest};

use super::Compiler;
use crate::document::{Document, consumer, consumer_group};
use crate::key::{Key, Kind};
use crate::plugin::{JwtProof, KeyProof, Proofs};

/// Kinds of which agents are made.
const KINDS: [Kind; 3] = [Kind::ConsumerGroup, Kind::Consumer, Kind::Credential];

impl<'a> Compiler<'a> {
    /// Compiles the agents. One that lacks anything it is judged by is left out, so that nothing
    /// proves it: its own or its team's rules need a secret that this node does not have, or its
    /// team is gone.
    pub(super) fn agents(&mut self, resolved: u64) -> Agents {
        let teams = self.teams();
        let mut gathered = Gathered::default();
        let mut by_id: HashMap<AgentId, Arc<Agent>> = HashMap::new();
        for (key, document) in self.open(Kind::Consumer) {
            let Document::Consumer(document) = document else { continue };
            let team = document.team.as_ref().map(|team| (team, teams.get(team.as_str())));
            if let Some((team, None)) = team {
                self.unresolved.push(Unresolved {
                    place: format!("/{key}/group_id"),
                    reference: team.to_string(),
                    why: String::from("there is no such team, so the agent is refused"),
                });
                continue;
            }
            let team = team.and_then(|(_, team)| team);
            if document.is_closed || team.is_some_and(|team| team.is_closed) {
                continue;
            }
            let (agent, proofs) = agent(*document, team);
            gathered.add(key, &agent, None, proofs);
            by_id.insert(agent.id.clone(), agent);
        }
        for (key, document) in self.open(Kind::Credential) {
            let Document::Credential(document) = document else { continue };
            let owner = key.consumer().and_then(|owner| by_id.get(owner.id.as_str()));
            if let Some(agent) = owner {
                gathered.add(key, agent, Some(&document.id), document.proofs);
            }
        }
        self.finish(gathered, by_id, resolved)
    }

    fn teams(&mut self) -> HashMap<&'a str, consumer_group::Document> {
        let documents = self.open(Kind::ConsumerGroup).into_iter();
        documents
            .filter_map(|(key, document)| match document {
                Document::ConsumerGroup(team) => Some((key.id.as_str(), team)),
                _ => None,
            })
            .collect()
    }

    fn finish(
        &mut self,
        gathered: Gathered,
        by_id: HashMap<AgentId, Arc<Agent>>,
        resolved: u64,
    ) -> Agents {
        let Gathered { by_jwt_key, by_api_key, twice } = gathered;
        self.unresolved.extend(twice);
        let api_keys = by_api_key.into_iter();
        let by_api_key: HashMap<KeyDigest, KeyCredential> =
            api_keys.filter_map(|(digest, found)| Some((digest, found?))).collect();
        let is_needed = !by_api_key.is_empty();
        Agents {
            version: self.version(resolved),
            by_id,
            by_jwt_key,
            by_api_key,
            digester: is_needed.then(|| self.keyring.digester().clone()),
        }
    }

    /// A number that changes with every change of an agent, a team, a credential or a secret.
    fn version(&self, resolved: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        resolved.hash(&mut hasher);
        for kind in KINDS {
            for (key, stored) in self.state.list(kind) {
                (key, stored.modified.number()).hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

/// The proofs of all agents.
#[derive(Default)]
struct Gathered {
    by_jwt_key: HashMap<Arc<str>, Arc<JwtCredential>>,
    /// `None` for a key that several credentials have: it proves nobody.
    by_api_key: HashMap<KeyDigest, Option<KeyCredential>>,
    twice: Vec<Unresolved>,
}

impl Gathered {
    fn add(
        &mut self,
        key: &Key,
        agent: &Arc<Agent>,
        credential: Option<&CredentialId>,
        proofs: Proofs,
    ) {
        let Proofs { jwt, api_key } = proofs;
        if let Some(JwtProof { name, key: Some(key), grace }) = jwt {
            let (agent, credential) = (Arc::clone(agent), credential.cloned());
            let found = JwtCredential { agent, credential, key, grace };
            self.by_jwt_key.entry(name).or_insert_with(|| Arc::new(found));
        }
        if let Some(KeyProof { digest: Some(digest) }) = api_key {
            let found = KeyCredential { agent: Arc::clone(agent), credential: credential.cloned() };
            if self.by_api_key.insert(digest, Some(found)).is_some() {
                // Two references led to one key: whose it is cannot be told.
                self.by_api_key.insert(digest, None);
                self.twice.push(Unresolved {
                    place: format!("/{key}/plugins/key-auth/key"),
                    reference: String::from("an API key"),
                    why: String::from("another agent has the same, so it proves neither"),
                });
            }
        }
    }
}

fn agent(
    document: consumer::Document,
    team: Option<&consumer_group::Document>,
) -> (Arc<Agent>, Proofs) {
    let consumer::Document { id, team: team_id, organisation, custom_id, plugins, proofs, .. } =
        document;
    let of_team = team.map(|team| team.organisation.clone());
    let organisation = of_team
        .or(organisation)
        .unwrap_or_else(|| OrganisationId::new(consumer_group::ORGANISATION));
    let plugins = team.map_or_else(|| plugins.clone(), |team| plugins.over(&team.plugins));
    (Arc::new(Agent { id, team: team_id, organisation, plugins, custom_id }), proofs)
}
