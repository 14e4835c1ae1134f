//! From a state to the snapshot that the gate reads.

mod agents;

use std::collections::HashMap;
use std::sync::Arc;

use model::Secret;
use rules::Snapshot;
use rules::Unresolved;
use rules::limit::LimitIndex;
use rules::route::{Route, RouteIndex};
use rules::upstream::Upstream;

use crate::custody::Opener;
use crate::document::{self, Document};
use crate::fault::Fault;
use crate::key::{Key, Kind};
use crate::keyring::Keyring;
use crate::reference::{Reference, Vaults};
use crate::state::State;

/// The value of a reference on this node, or why there is none (a sentence without secrets).
pub type Resolve<'a> = dyn Fn(&Reference) -> Result<Secret<String>, String> + 'a;

/// Compiles the whole state.
///
/// `resolved` counts how often this node has resolved its secrets anew: whoever was proven by an
/// older value must be proven again.
///
/// # Errors
/// Every fault of every resource. A state made by [`State::apply`] has none, unless an older
/// release with other rules made it.
pub fn compile(
    state: &State,
    keyring: &Keyring,
    secrets: &Resolve<'_>,
    resolved: u64,
) -> Result<Snapshot, Vec<(Key, Fault)>> {
    let vaults = Vaults::of(state);
    let mut compiler = Compiler {
        state,
        keyring,
        vaults: &vaults,
        resolve: secrets,
        faults: Vec::new(),
        unresolved: Vec::new(),
    };
    let agents = compiler.agents(resolved);
    let routes = compiler.routes();
    let limits = compiler.limits();
    let _vaults = compiler.open(Kind::Secret);
    let Compiler { faults, unresolved, .. } = compiler;
    if !faults.is_empty() {
        return Err(faults);
    }
    let revision = state.revision();
    Ok(Snapshot { revision, routes, agents, limits, unresolved })
}

/// What a compile gathers on its way.
struct Compiler<'a> {
    state: &'a State,
    keyring: &'a Keyring,
    vaults: &'a Vaults,
    resolve: &'a Resolve<'a>,
    faults: Vec<(Key, Fault)>,
    unresolved: Vec<Unresolved>,
}

impl<'a> Compiler<'a> {
    /// Reads the resources of a kind and opens their secrets, in the order of their ids.
    fn open(&mut self, kind: Kind) -> Vec<(&'a Key, Document)> {
        let mut documents = Vec::with_capacity(self.state.count(kind));
        for (key, stored) in self.state.list(kind) {
            let Self { keyring, vaults, resolve, .. } = *self;
            match document::open(Opener { key, keyring, vaults, resolve }, &stored.value) {
                Ok((document, notes)) => {
                    self.unresolved.extend(notes.unresolved);
                    documents.push((key, document));
                }
                Err(faults) => {
                    self.faults.extend(faults.into_iter().map(|fault| (key.clone(), fault)));
                }
            }
        }
        documents
    }

    fn upstreams(&mut self) -> HashMap<&'a str, Arc<Upstream>> {
        let documents = self.open(Kind::Upstream).into_iter();
        documents
            .filter_map(|(key, document)| match document {
                Document::Upstream(upstream) => Some((key.id.as_str(), Arc::new(upstream))),
                _ => None,
            })
            .collect()
    }

    fn routes(&mut self) -> RouteIndex {
        let upstreams = self.upstreams();
        let mut routes = Vec::with_capacity(self.state.count(Kind::Route));
        for (key, document) in self.open(Kind::Route) {
            let Document::Route(document) = document else { continue };
            if !document.enabled {
                continue;
            }
            let document::route::Document { mut route, upstream_id, .. } = *document;
            if let Some(id) = &upstream_id {
                route.upstream = upstreams.get(id.as_str()).map(Arc::clone);
            }
            let created = self.state.get(key).map(|stored| stored.created);
            routes.push((created, Arc::new(route)));
        }
        // Among equals the one that was there first wins; those of one command, by their ids.
        routes.sort_by_key(|(created, _)| *created);
        let routes: Vec<Arc<Route>> = routes.into_iter().map(|(_, route)| route).collect();
        RouteIndex::build(routes)
    }

    fn limits(&mut self) -> LimitIndex {
        let documents = self.open(Kind::Limit).into_iter();
        let limits = documents.filter_map(|(_, document)| match document {
            Document::Limit(limit) => Some(Arc::new(limit)),
            _ => None,
        });
        LimitIndex::build(limits.collect())
    }
}

#[cfg(test)]
mod tests;
