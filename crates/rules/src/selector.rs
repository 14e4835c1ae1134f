//! Which requests a limit, a budget or a price binds.

use std::collections::HashMap;
use std::sync::Arc;

use model::{AgentId, RouteId, TeamId};

use crate::fact::Facts;
use crate::operation::{Named, Operations};

/// Which requests a rule binds: those that each list that is given names. An empty one binds all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pub routes: Vec<RouteId>,
    pub agents: Vec<AgentId>,
    pub teams: Vec<TeamId>,
    /// Upper-case methods.
    pub methods: Vec<Arc<str>>,
    /// `None` binds all, also calls without a name.
    pub operations: Option<Operations>,
    pub effects: Vec<Deed>,
}

/// What is known of what a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deed {
    /// It changes nothing.
    Read,
    /// It changes something, or only its body says that it does not.
    Write,
    /// Its upstream's calls have names, and it has none.
    Unknown,
}

/// What has a selector.
pub trait Selects {
    /// Which requests it binds.
    fn selector(&self) -> &Selector;
}

impl Selector {
    /// Whether a request is bound: its route, who asks, and what for.
    #[must_use]
    pub fn binds(&self, route: &RouteId, facts: &Facts<'_>) -> bool {
        let Self { routes, agents, teams, methods, operations, effects } = self;
        let agent = facts.identity.map(|identity| &identity.agent);
        let team = facts.identity.and_then(|identity| identity.team.as_ref());
        (routes.is_empty() || routes.contains(route))
            && (agents.is_empty() || agent.is_some_and(|agent| agents.contains(agent)))
            && (teams.is_empty() || team.is_some_and(|team| teams.contains(team)))
            && (methods.is_empty() || methods.iter().any(|listed| **listed == *facts.method))
            && operations.as_ref().is_none_or(|operations| {
                facts.call.is_some_and(|call| operations.contains(call.operation()))
            })
            && (effects.is_empty() || effects.contains(&Deed::of(facts)))
    }
}

impl Deed {
    /// What a request does: what is said of its call, else what its method says.
    #[must_use]
    pub fn of(facts: &Facts<'_>) -> Self {
        facts.call.map_or_else(|| Self::of_method(facts.method), |call| call.deed())
    }

    /// What a method alone says.
    fn of_method(method: &str) -> Self {
        crate::operation::Effect::of_method(method).into()
    }
}

/// Rules filed under their narrowest selector, so that a request looks only at those that can bind
/// it. Cheap to clone.
#[derive(Debug)]
pub struct SelectorIndex<T>(Arc<Index<T>>);

#[derive(Debug)]
struct Index<T> {
    everywhere: Vec<Arc<T>>,
    by_agent: HashMap<AgentId, Vec<Arc<T>>>,
    by_operation: HashMap<&'static str, Vec<Arc<T>>>,
    by_route: HashMap<RouteId, Vec<Arc<T>>>,
    by_team: HashMap<TeamId, Vec<Arc<T>>>,
    /// Each once, in the order they were given.
    all: Vec<Arc<T>>,
}

impl<T: Selects> SelectorIndex<T> {
    /// Files every rule once for each name in its narrowest selector.
    #[must_use]
    pub fn build(rules: Vec<Arc<T>>) -> Self {
        let mut index = Index { all: rules.clone(), ..Index::default() };
        for rule in rules {
            let Selector { routes, agents, teams, methods: _, operations, effects: _ } =
                rule.selector();
            let few = operations.as_ref().map(Operations::names);
            let few = few.filter(|names| names.len() <= FILED_OPERATIONS_MAX);
            if !agents.is_empty() {
                file(&mut index.by_agent, agents, &rule);
            } else if let Some(names) = few {
                file(&mut index.by_operation, names, &rule);
            } else if !routes.is_empty() {
                file(&mut index.by_route, routes, &rule);
            } else if !teams.is_empty() {
                file(&mut index.by_team, teams, &rule);
            } else {
                index.everywhere.push(rule);
            }
        }
        Self(Arc::new(index))
    }

    /// The rules that bind a request.
    pub fn binding<'a>(
        &'a self,
        route: &'a RouteId,
        facts: &'a Facts<'_>,
    ) -> impl Iterator<Item = &'a Arc<T>> {
        let index = &*self.0;
        let by_agent = facts.identity.and_then(|identity| index.by_agent.get(&identity.agent));
        let team = facts.identity.and_then(|identity| identity.team.as_ref());
        let by_team = team.and_then(|team| index.by_team.get(team));
        let by_route = index.by_route.get(route);
        let operation = facts.call.as_ref().map(Named::operation);
        // Most documents have no rule of an operation, and so nothing to look up.
        let operation = operation.filter(|_| !index.by_operation.is_empty());
        let by_operation = operation.and_then(|name| index.by_operation.get(name));
        [Some(&index.everywhere), by_agent, by_operation, by_route, by_team]
            .into_iter()
            .flatten()
            .flatten()
            .filter(move |rule| rule.selector().binds(route, facts))
    }
}

impl<T> SelectorIndex<T> {
    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.all.len()
    }

    /// Every rule once, in the order they were given.
    #[must_use]
    pub fn all(&self) -> &[Arc<T>] {
        &self.0.all
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.all.is_empty()
    }
}

impl<T> Clone for SelectorIndex<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for SelectorIndex<T> {
    fn default() -> Self {
        Self(Arc::new(Index::default()))
    }
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self {
            everywhere: Vec::new(),
            by_agent: HashMap::new(),
            by_operation: HashMap::new(),
            by_route: HashMap::new(),
            by_team: HashMap::new(),
            all: Vec::new(),
        }
    }
}

fn file<T, Id: Clone + Eq + std::hash::Hash>(
    map: &mut HashMap<Id, Vec<Arc<T>>>,
    ids: &[Id],
    rule: &Arc<T>,
) {
    for id in ids {
        let filed = map.entry(id.clone()).or_default();
        // A selector that names an id twice still binds once.
        if !filed.last().is_some_and(|other| Arc::ptr_eq(other, rule)) {
            filed.push(Arc::clone(rule));
        }
    }
}

/// Operations that a rule is filed under; one that binds more is filed as if it named none, and
/// asked for each request.
const FILED_OPERATIONS_MAX: usize = 256;

#[cfg(test)]
mod tests;
