//! Routes with their upstreams, and the index over them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::Revision;
use rules::route::{Route, RouteIndex};

use super::opened::Opened;
use crate::document::{self, Document};
use crate::key::{Key, Kind};
use crate::state::State;

/// The routes that take requests, as they were compiled last.
#[derive(Default)]
pub(super) struct RoutesMemory {
    /// Each with the revision that made it.
    routes: BTreeMap<Key, (Revision, Arc<Route>)>,
    index: RouteIndex,
}

impl RoutesMemory {
    /// Compiles the routes again that were opened again, or whose upstream was. The index is built
    /// anew when there is one.
    pub(super) fn renew(&mut self, state: &State, opened: &Opened, stale: &BTreeSet<Key>) {
        let mut touched: BTreeSet<&Key> = BTreeSet::new();
        for key in stale {
            match key.kind {
                Kind::Route => {
                    touched.insert(key);
                }
                Kind::Upstream => {
                    touched.extend(state.referrers(key).filter(|by| by.kind == Kind::Route));
                }
                Kind::Secret
                | Kind::ConsumerGroup
                | Kind::Consumer
                | Kind::Credential
                | Kind::Limit => {}
            }
        }
        for key in &touched {
            match (route(key, opened), state.get(key)) {
                (Some(route), Some(stored)) => {
                    self.routes.insert((*key).clone(), (stored.created, Arc::new(route)));
                }
                _ => {
                    self.routes.remove(*key);
                }
            }
        }
        if !touched.is_empty() {
            self.index = self.build();
        }
    }

    /// Every route, findable.
    pub(super) const fn index(&self) -> &RouteIndex {
        &self.index
    }

    fn build(&self) -> RouteIndex {
        let mut routes: Vec<&(Revision, Arc<Route>)> = self.routes.values().collect();
        // Among equals the one that was there first wins; those of one command, by their ids.
        routes.sort_by_key(|(created, _)| *created);
        RouteIndex::build(routes.into_iter().map(|(_, route)| Arc::clone(route)).collect())
    }
}

/// A route with its upstream; `None` when it takes no requests.
fn route(key: &Key, opened: &Opened) -> Option<Route> {
    let Some(Document::Route(document)) = opened.get(key) else { return None };
    let document::route::Document { route, upstream_id, enabled } = &**document;
    if !enabled {
        return None;
    }
    let mut route = route.clone();
    if let Some(id) = upstream_id
        && let Some(Document::Upstream(upstream)) = opened.get(&Key::new(Kind::Upstream, id))
    {
        route.upstream = Some(Arc::clone(upstream));
    }
    Some(route)
}
