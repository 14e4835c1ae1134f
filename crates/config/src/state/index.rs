//! What the resources of a state say of each other, kept while they change: so a change looks at
//! those that it concerns, and not at all.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::document;
use crate::key::{Key, Kind};
use crate::plugin;
use crate::reference::{Written, mentioned};
use crate::rows::Rows;

/// Who names whom, what identifies whom, and which secrets are referred to.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// What is named, and by whom.
    links: Rows<(Key, Key), ()>,
    /// What identifies an agent, and where it stands.
    identities: Rows<(Identity, Key), ()>,
    /// References, and how many resources hold each.
    references: Rows<Written, usize>,
}

/// An auth plugin, and the text that is an agent's own there.
pub(super) type Identity = (&'static str, String);

impl Index {
    /// Takes in a resource that was written.
    pub(super) fn note(&mut self, key: &Key, value: &Value) {
        for link in document::links(key.kind, value) {
            self.links.insert((link.key, key.clone()), ());
        }
        for identity in identities(key, value) {
            self.identities.insert((identity, key.clone()), ());
        }
        for written in of_document(key, value) {
            let count = self.references.get(&written).map_or(1, |count| count + 1);
            self.references.insert(written, count);
        }
    }

    /// Takes out a resource that was deleted or written anew; the value is that of before.
    pub(super) fn forget(&mut self, key: &Key, value: &Value) {
        for link in document::links(key.kind, value) {
            self.links.remove(&(link.key, key.clone()));
        }
        for identity in identities(key, value) {
            self.identities.remove(&(identity, key.clone()));
        }
        for written in of_document(key, value) {
            match self.references.get(&written).copied() {
                Some(count) if count > 1 => self.references.insert(written, count - 1),
                Some(_) | None => self.references.remove(&written),
            };
        }
    }

    /// The resources that name this one, in their order.
    pub(super) fn referrers<'a>(&'a self, named: &Key) -> impl Iterator<Item = &'a Key> + use<'a> {
        let named = named.clone();
        let first = (named.clone(), Key::FIRST);
        let from = self.links.starting_at(&first).map(|(pair, ())| pair);
        from.take_while(move |(other, _)| *other == named).map(|(_, by)| by)
    }

    /// The resources in which this identifies an agent, in their order.
    pub(super) fn owners<'a>(
        &'a self,
        identity: &Identity,
    ) -> impl Iterator<Item = &'a Key> + use<'a> {
        let identity = identity.clone();
        let first = (identity.clone(), Key::FIRST);
        let from = self.identities.starting_at(&first).map(|(pair, ())| pair);
        from.take_while(move |(other, _)| *other == identity).map(|(_, owner)| owner)
    }

    /// Every reference that a resource holds.
    pub(super) fn references(&self) -> impl Iterator<Item = &Written> {
        self.references.iter().map(|(written, _)| written)
    }
}

fn identities(key: &Key, value: &Value) -> BTreeSet<Identity> {
    if !matches!(key.kind, Kind::Consumer | Kind::Credential) {
        return BTreeSet::new();
    }
    plugin::identities(value).map(|(what, _, text)| (what, text.to_owned())).collect()
}

/// A resource counts once, however often it holds a reference.
fn of_document(key: &Key, value: &Value) -> BTreeSet<Written> {
    let mut found = BTreeSet::new();
    mentioned(key, value, &mut |written| {
        found.insert(written);
    });
    found
}
