//! What was compiled last, and how the next state is compiled from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use rules::budget::BudgetIndex;
use rules::limit::LimitIndex;
use rules::policy::Policies;
use rules::price::PriceIndex;
use rules::quota::QuotaIndex;
use rules::response::ResponseIndex;
use rules::{Snapshot, Unresolved};

use super::Resolve;
use super::agents::AgentsMemory;
use super::opened::Opened;
use super::routes::RoutesMemory;
use crate::document::Document;
use crate::fault::Fault;
use crate::key::{Key, Kind};
use crate::keyring::Keyring;
use crate::state::State;

/// What a node brings to a compile.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) keyring: &'a Keyring,
    pub(super) secrets: &'a Resolve<'a>,
    pub(super) resolved: u64,
}

/// The state that was compiled last, with everything that was made of it.
#[derive(Default)]
pub(super) struct Memory {
    state: State,
    resolved: u64,
    opened: Opened,
    routes: RoutesMemory,
    agents: AgentsMemory,
    limits: LimitIndex,
    quotas: QuotaIndex,
    budgets: BudgetIndex,
    prices: PriceIndex,
    responses: ResponseIndex,
    policies: Policies,
}

/// The opened resources of a kind, in the order of their ids.
macro_rules! documents {
    ($memory:ident, $kind:ident) => {
        $memory
            .opened
            .of(Kind::$kind)
            .filter_map(|(_, document)| match document {
                Document::$kind(document) => Some(Arc::clone(document)),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
}

impl Memory {
    /// Compiles a state; the memory is then of that state, also when it has faults.
    pub(super) fn compile(
        mut self,
        state: &State,
        sources: Sources<'_>,
    ) -> (Self, Result<Snapshot, Vec<(Key, Fault)>>) {
        let stale = self.stale(state, sources.resolved);
        self.opened.renew(state, sources, &stale);
        self.state = state.clone();
        self.resolved = sources.resolved;
        self.routes.renew(&self.state, &self.opened, &stale);
        self.agents.renew(&self.state, &self.opened, &stale);
        self.agents.finish(&self.state, sources);
        self.renew_selected(&stale);
        self.renew_policies(&stale);
        let faults = self.opened.faults();
        let compiled = if faults.is_empty() { Ok(self.snapshot()) } else { Err(faults) };
        (self, compiled)
    }

    /// Files anew what binds requests by selectors, where one of a kind is not as it was.
    fn renew_selected(&mut self, stale: &BTreeSet<Key>) {
        let is_stale = |kind| stale.iter().any(|key| key.kind == kind);
        if is_stale(Kind::Limit) {
            self.limits = LimitIndex::build(documents!(self, Limit));
        }
        if is_stale(Kind::UpstreamQuota) {
            self.quotas = QuotaIndex::build(&documents!(self, UpstreamQuota));
        }
        if is_stale(Kind::Budget) {
            self.budgets = BudgetIndex::build(documents!(self, Budget));
        }
        if is_stale(Kind::Price) {
            self.prices = PriceIndex::build(documents!(self, Price));
        }
        if is_stale(Kind::Response) {
            self.responses = ResponseIndex::build(documents!(self, Response));
        }
    }

    /// Files the policies anew where one of them, or a zone, is not as it was. A document that has
    /// any is judged by them, also when all are disabled: to disable one must not open the gate.
    fn renew_policies(&mut self, stale: &BTreeSet<Key>) {
        if !stale.iter().any(|key| matches!(key.kind, Kind::Policy | Kind::Zone)) {
            return;
        }
        let zones = self.opened.of(Kind::Zone).filter_map(|(_, document)| match document {
            Document::Zone(zone) => Some(zone.clone()),
            _ => None,
        });
        let texts = self.opened.of(Kind::Policy).filter_map(|(_, document)| match document {
            Document::Policy(document) => Some(document),
            _ => None,
        });
        let mut enabled = Vec::new();
        let mut is_judged = false;
        for document in texts {
            is_judged = true;
            if !document.is_disabled {
                enabled.extend(document.text.policies.iter().map(Arc::clone));
            }
        }
        let zones: Vec<_> = zones.collect();
        self.policies =
            if is_judged { Policies::new(enabled, &zones) } else { Policies::default() };
    }

    /// The resources that must be opened again: those that are not as they were, those whose
    /// secrets may have moved, and those whose secrets were not there.
    pub(super) fn stale(&self, state: &State, resolved: u64) -> BTreeSet<Key> {
        let differences = |kind: &Kind| State::differences(&self.state, state, *kind);
        let mut stale: BTreeSet<Key> = Kind::ALL.iter().flat_map(differences).cloned().collect();
        // Settings of vaults are a part of the references into them.
        if resolved != self.resolved || stale.iter().any(|key| key.kind == Kind::Secret) {
            stale.extend(self.opened.referring().cloned());
        }
        stale.extend(self.opened.unresolved().map(|(key, _)| key.clone()));
        stale
    }

    fn snapshot(&self) -> Snapshot {
        let mut unresolved: Vec<(&Key, Unresolved)> = self.opened.unresolved().collect();
        unresolved.extend(self.agents.unresolved());
        unresolved.sort_by_key(|(key, _)| *key);
        Snapshot {
            revision: self.state.revision(),
            routes: self.routes.index().clone(),
            agents: self.agents.agents().clone(),
            limits: self.limits.clone(),
            budgets: self.budgets.clone(),
            prices: self.prices.clone(),
            responses: self.responses.clone(),
            quotas: self.quotas.clone(),
            policies: self.policies.clone(),
            credentials: Vec::new(),
            unresolved: unresolved.into_iter().map(|(_, unresolved)| unresolved).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
