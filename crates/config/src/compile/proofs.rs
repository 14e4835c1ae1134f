//! Which resources prove agents, by what; and what becomes of a proof that two of them have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rules::Unresolved;
use rules::identity::{Agents, JwtCredential, KeyCredential, KeyDigest};

use crate::key::Key;

/// The proofs of all consumers and credentials.
#[derive(Default)]
pub(super) struct ProofsMemory {
    /// By the name tokens use; each name with the resources that have it, in their order.
    by_jwt_key: BTreeMap<Arc<str>, Vec<(Key, Arc<JwtCredential>)>>,
    by_api_key: BTreeMap<KeyDigest, Vec<(Key, KeyCredential)>>,
    /// What each resource has.
    of: BTreeMap<Key, (Option<Arc<str>>, Option<KeyDigest>)>,
    /// API keys that several resources have.
    shared: BTreeSet<KeyDigest>,
}

/// What one resource proves an agent by.
#[derive(Default)]
pub(super) struct Found {
    /// With the name that tokens use.
    pub(super) jwt: Option<(Arc<str>, JwtCredential)>,
    pub(super) api_key: Option<(KeyDigest, KeyCredential)>,
}

impl ProofsMemory {
    /// Puts what a resource has now in the place of what it had.
    pub(super) fn replace(&mut self, key: &Key, found: Found, agents: &mut Agents) {
        if let Some((name, digest)) = self.of.remove(key) {
            if let Some(name) = name {
                take(&mut self.by_jwt_key, &name, key);
                self.settle_name(&name, agents);
            }
            if let Some(digest) = digest {
                take(&mut self.by_api_key, &digest, key);
                self.settle_digest(&digest, agents);
            }
        }
        let Found { jwt, api_key } = found;
        let name = jwt.as_ref().map(|(name, _)| Arc::clone(name));
        let digest = api_key.as_ref().map(|(digest, _)| *digest);
        if name.is_none() && digest.is_none() {
            return;
        }
        if let Some((name, credential)) = jwt {
            put(self.by_jwt_key.entry(Arc::clone(&name)).or_default(), key, Arc::new(credential));
            self.settle_name(&name, agents);
        }
        if let Some((digest, credential)) = api_key {
            put(self.by_api_key.entry(digest).or_default(), key, credential);
            self.settle_digest(&digest, agents);
        }
        self.of.insert(key.clone(), (name, digest));
    }

    /// API keys that prove nobody because several resources have them, by each after the first.
    pub(super) fn twice(&self) -> impl Iterator<Item = (&Key, Unresolved)> {
        let owners = self.shared.iter().filter_map(|digest| self.by_api_key.get(digest));
        owners.flat_map(|owners| owners.iter().skip(1)).map(|(key, _)| {
            let unresolved = Unresolved {
                place: format!("/{key}/plugins/key-auth/key"),
                reference: String::from("an API key"),
                why: String::from("another agent has the same, so it proves neither"),
            };
            (key, unresolved)
        })
    }

    /// Of several resources with one name the first counts; a state has one unless an older
    /// release made it.
    fn settle_name(&self, name: &Arc<str>, agents: &mut Agents) {
        match self.by_jwt_key.get(name).and_then(|found| found.first()) {
            Some((_, found)) => agents.by_jwt_key.insert(Arc::clone(name), Arc::clone(found)),
            None => agents.by_jwt_key.remove(name),
        }
    }

    /// Whose a key is that two references led to cannot be told.
    fn settle_digest(&mut self, digest: &KeyDigest, agents: &mut Agents) {
        let owners = self.by_api_key.get(digest).map_or(&[][..], Vec::as_slice);
        match owners {
            [(_, found)] => agents.by_api_key.insert(*digest, found.clone()),
            _ => agents.by_api_key.remove(digest),
        }
        if owners.len() > 1 {
            self.shared.insert(*digest);
        } else {
            self.shared.remove(digest);
        }
    }
}

/// Files an entry under its key; nothing is there yet.
fn put<T>(found: &mut Vec<(Key, T)>, key: &Key, entry: T) {
    let place = found.partition_point(|(other, _)| other < key);
    if found.is_empty() {
        // Nearly all are alone.
        found.reserve_exact(1);
    }
    found.insert(place, (key.clone(), entry));
}

/// Takes a resource's entry out, and the list with the last one.
fn take<N: Ord, T>(all: &mut BTreeMap<N, Vec<(Key, T)>>, name: &N, key: &Key) {
    let Some(found) = all.get_mut(name) else { return };
    found.retain(|(other, _)| other != key);
    if found.is_empty() {
        all.remove(name);
    }
}
