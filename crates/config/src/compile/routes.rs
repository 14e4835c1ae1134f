//! Routes with their upstreams, and the index over them.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::RouteId;
use rules::route::{Route, RouteIndex};

use super::opened::Opened;
use crate::document::{self, Document};
use crate::key::{Key, Kind};
use crate::state::State;

/// The routes that take requests, as they were compiled last.
#[derive(Default)]
pub(super) struct RoutesMemory {
    index: RouteIndex,
}

impl RoutesMemory {
    /// Compiles the routes again that were opened again, or whose upstream was.
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
                | Kind::Limit
                | Kind::UpstreamQuota
                | Kind::Response
                | Kind::Zone
                | Kind::Policy
                | Kind::Price
                | Kind::Budget => {}
            }
        }
        for key in &touched {
            match (route(key, opened), state.get(key)) {
                // Among equals the one that was there first wins; those of one command, by their
                // ids.
                (Some(route), Some(stored)) => self.index.insert(stored.created, Arc::new(route)),
                _ => self.index.remove(&RouteId::new(&key.id)),
            }
        }
    }

    /// Every route, findable.
    pub(super) const fn index(&self) -> &RouteIndex {
        &self.index
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
