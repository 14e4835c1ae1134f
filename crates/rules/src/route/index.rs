//! The index of routes: from a request's facts to the route that takes it.

use std::sync::Arc;

use model::{Revision, RouteId};

use super::Route;
use super::host::Hosts;
use super::pattern::Pattern;
use super::tree::{Claim, Tree};
use crate::fact::Facts;
use crate::shards::Shards;

/// Every route, findable. Changed off the request path; clones cost nothing, and share what
/// neither of them changes.
#[derive(Clone, Debug, Default)]
pub struct RouteIndex(Arc<Index>);

#[derive(Clone, Debug, Default)]
struct Index {
    /// Each with the revision that made it.
    routes: Shards<RouteId, (Revision, Arc<Route>)>,
    hosts: Hosts,
}

/// The encoded slashes of a path decide which route takes it: two parsers would disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an encoded slash or backslash stands where no trailing `*` of a route takes it")]
pub struct Ambiguous;

impl RouteIndex {
    /// Puts a route in the place of the one that has its id, if there is one. Among equals the
    /// route wins that an older revision made; of those of one revision, the one with the lower id.
    pub fn insert(&mut self, made: Revision, route: Arc<Route>) {
        self.remove(&route.id);
        let Index { routes, hosts } = Arc::make_mut(&mut self.0);
        each_claim(hosts, &route, |tree, pattern| {
            tree.insert(Claim { pattern, made, route: Arc::clone(&route) });
        });
        routes.insert(route.id.clone(), (made, route));
    }

    /// Takes a route out, if it is there.
    pub fn remove(&mut self, id: &RouteId) {
        if !self.0.routes.contains_key(id) {
            return;
        }
        let Index { routes, hosts } = Arc::make_mut(&mut self.0);
        let Some((_, route)) = routes.get(id).cloned() else { return };
        each_claim(hosts, &route, |tree, pattern| tree.remove(&pattern, &route));
        routes.remove(id);
    }

    /// How many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.routes.len()
    }

    /// Whether there is no route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.routes.is_empty()
    }

    /// The routes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.0.routes.values().map(|(_, route)| route)
    }

    /// The route of this id.
    #[must_use]
    pub fn get(&self, id: &RouteId) -> Option<&Arc<Route>> {
        self.0.routes.get(id).map(|(_, route)| route)
    }

    /// The route that takes a request; `None` when none does.
    ///
    /// The most specific host pattern first, then the exact path, then the longest prefix; on the
    /// same path the higher priority, the longer pattern, the older route. A route whose conditions
    /// fail leaves the request to the next.
    ///
    /// # Errors
    /// When the path holds an encoded slash or backslash which no trailing `*` of the route took,
    /// or another route is chosen once it is read as a slash.
    pub fn find(&self, facts: &Facts<'_>) -> Result<Option<&Arc<Route>>, Ambiguous> {
        let found = self.choose(facts);
        let (Some(slash), Some(decoded)) =
            (facts.target.encoded_slash_offset(), facts.target.with_slashes_decoded())
        else {
            return Ok(found.map(|(route, _)| route));
        };
        let reread = self.choose(&Facts { target: &decoded, ..*facts });
        match (found, reread) {
            (None, None) => Ok(None),
            (Some((route, taken_from)), Some((other, _)))
                if Arc::ptr_eq(route, other) && slash >= taken_from =>
            {
                Ok(Some(route))
            }
            (Some(_), _) | (None, Some(_)) => Err(Ambiguous),
        }
    }

    /// The route of one reading of the path, and where the part begins that a trailing `*` took.
    fn choose(&self, facts: &Facts<'_>) -> Option<(&Arc<Route>, usize)> {
        let path = facts.target.normal();
        self.0.hosts.find(facts.host, facts.host_header, |tree| {
            let (claim, taken_from) = tree.find(path, |claim| claim.route.accepts(facts))?;
            Some((&claim.route, taken_from))
        })
    }
}

/// Collects routes, each with the revision that made it.
impl FromIterator<(Revision, Arc<Route>)> for RouteIndex {
    fn from_iter<I: IntoIterator<Item = (Revision, Arc<Route>)>>(routes: I) -> Self {
        let mut index = Self::default();
        routes.into_iter().for_each(|(made, route)| index.insert(made, route));
        index
    }
}

/// Changes every tree that a route has a claim in.
fn each_claim(hosts: &mut Hosts, route: &Route, mut change: impl FnMut(&mut Tree, Pattern)) {
    for uri in &route.uris {
        if route.hosts.is_empty() {
            hosts.change(None, |tree| change(tree, Pattern::new(uri)));
        }
        for host in &route.hosts {
            hosts.change(Some(host), |tree| change(tree, Pattern::new(uri)));
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
