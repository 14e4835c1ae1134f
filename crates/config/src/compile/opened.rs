//! The resources of a state, read, with their secrets open.

use std::collections::{BTreeMap, BTreeSet};

use rules::Unresolved;

use super::memory::Sources;
use crate::custody::Opener;
use crate::document::{self, Document};
use crate::fault::Fault;
use crate::key::{Key, Kind};
use crate::parallel::in_parallel;
use crate::reference::Vaults;
use crate::state::State;

/// Every resource as it was opened last.
#[derive(Default)]
pub(super) struct Opened {
    /// Those without faults.
    documents: BTreeMap<Key, Document>,
    faults: BTreeMap<Key, Vec<Fault>>,
    /// Secrets that were not there, by the resource that needs them.
    unresolved: BTreeMap<Key, Vec<Unresolved>>,
    /// Resources that refer to secrets.
    referring: BTreeSet<Key>,
    vaults: Vaults,
}

impl Opened {
    /// Opens these resources of a state again, and forgets those of them that it lacks.
    pub(super) fn renew(&mut self, state: &State, sources: Sources<'_>, stale: &BTreeSet<Key>) {
        if stale.iter().any(|key| key.kind == Kind::Secret) {
            self.vaults = Vaults::of(state);
        }
        let Sources { keyring, secrets: resolve, resolved: _ } = sources;
        let (vaults, keys) = (&self.vaults, Vec::from_iter(stale));
        let opened = in_parallel(&keys, |key| {
            let opener = Opener { key, keyring, vaults, resolve };
            state.get(key).map(|stored| document::open(opener, &stored.value))
        });
        for (key, opened) in keys.into_iter().zip(opened) {
            self.documents.remove(key);
            self.faults.remove(key);
            self.unresolved.remove(key);
            self.referring.remove(key);
            let Some(opened) = opened else { continue };
            match opened {
                Ok((document, notes)) => {
                    self.documents.insert(key.clone(), document);
                    if !notes.unresolved.is_empty() {
                        self.unresolved.insert(key.clone(), notes.unresolved);
                    }
                    if notes.refers {
                        self.referring.insert(key.clone());
                    }
                }
                Err(faults) => {
                    self.faults.insert(key.clone(), faults);
                }
            }
        }
    }

    /// One resource; `None` when it has faults.
    pub(super) fn get(&self, key: &Key) -> Option<&Document> {
        self.documents.get(key)
    }

    /// The resources of a kind, in the order of their ids; without those with faults.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Document)> {
        let from = self.documents.range(Key::new(kind, "")..);
        from.take_while(move |(key, _)| key.kind == kind)
    }

    /// Resources that refer to secrets.
    pub(super) fn referring(&self) -> impl Iterator<Item = &Key> {
        self.referring.iter()
    }

    /// Secrets that were not there, by the resource that needs them.
    pub(super) fn unresolved(&self) -> impl Iterator<Item = (&Key, Unresolved)> {
        let all = self.unresolved.iter();
        all.flat_map(|(key, found)| found.iter().map(move |found| (key, found.clone())))
    }

    /// Every fault.
    pub(super) fn faults(&self) -> Vec<(Key, Fault)> {
        let all = self.faults.iter();
        all.flat_map(|(key, faults)| faults.iter().map(|fault| (key.clone(), fault.clone())))
            .collect()
    }
}
