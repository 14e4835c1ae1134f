//! The index of routes: from a request's facts to the route that takes it.

use std::collections::HashMap;
use std::sync::Arc;

use model::RouteId;

use super::Route;
use super::forest::{Claim, Forest};
use super::host::{Hosts, Numbers};
use super::pattern::Pattern;
use crate::fact::Facts;

/// Every route, findable. Built off the request path and swapped whole; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RouteIndex(Arc<Index>);

#[derive(Debug, Default)]
struct Index {
    /// In the order given.
    routes: Vec<Arc<Route>>,
    /// Numbers of routes.
    by_id: HashMap<RouteId, usize>,
    hosts: Hosts,
    forest: Forest,
}

/// The encoded slashes of a path decide which route takes it: two parsers would disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an encoded slash or backslash stands where no trailing `*` of a route takes it")]
pub struct Ambiguous;

impl RouteIndex {
    /// Indexes routes; among equals the one given first wins.
    #[must_use]
    pub fn build(routes: Vec<Arc<Route>>) -> Self {
        let mut by_id = HashMap::with_capacity(routes.len());
        let mut numbers = Numbers::default();
        let mut claims = Vec::with_capacity(routes.len());
        for (number, route) in routes.iter().enumerate() {
            by_id.entry(route.id.clone()).or_insert(number);
            for uri in &route.uris {
                let mut add = |tree| {
                    let pattern = Pattern::new(uri);
                    claims.push(Claim { tree, pattern, priority: route.priority, route: number });
                };
                if route.hosts.is_empty() {
                    add(Numbers::HOSTLESS);
                }
                route.hosts.iter().for_each(|host| add(numbers.of(host)));
            }
        }
        let (forest, trees) = Forest::build(claims, numbers.count());
        let hosts = Hosts::build(numbers, &trees);
        Self(Arc::new(Index { routes, by_id, hosts, forest }))
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

    /// The routes in the order given.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Route>> {
        self.0.routes.iter()
    }

    /// The route of this id.
    #[must_use]
    pub fn get(&self, id: &RouteId) -> Option<&Arc<Route>> {
        self.0.routes.get(*self.0.by_id.get(id)?)
    }

    /// The route that takes a request; `None` when none does.
    ///
    /// The most specific host pattern first, then the exact path, then the longest prefix; on the
    /// same path the higher priority, the longer pattern, the one given first. A route whose
    /// conditions fail leaves the request to the next.
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
        let Index { routes, hosts, forest, .. } = &*self.0;
        let path = facts.target.normal();
        hosts.find(facts.host, facts.host_header, |tree| {
            let (claim, taken_from) = forest.find(tree, path, |claim| {
                routes.get(claim.route).is_some_and(|route| route.accepts(facts))
            })?;
            Some((routes.get(claim.route)?, taken_from))
        })
    }
}

impl<'a> IntoIterator for &'a RouteIndex {
    type Item = &'a Arc<Route>;
    type IntoIter = std::slice::Iter<'a, Arc<Route>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests;
