//! What the cluster must not forget besides the document: small, typed, rarely changed.
//!
//! Facts are kept beside the document in the same log, so they survive and agree as it does, but
//! they make no revision of it. [`Facts::apply`] is pure: each node that applies the same commands
//! holds the same facts.

mod command;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Timestamp;

pub use command::{FactChange, FactCommand, FactExpect, FactRejected};
pub(crate) use value::micros;
pub use value::{
    Approval, ApprovalState, AuditAnchor, Departure, Fact, FactKey, FactKind, JoinToken,
    LedgerCheckpoint, Suspension,
};

/// Every fact. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts(Arc<BTreeMap<FactKey, Fact>>);

/// What a command did to one fact: what it is now, or `None` once cleared.
pub(crate) type Changed = BTreeMap<FactKey, Option<Fact>>;

impl Facts {
    /// Facts as they were stored.
    pub(crate) fn restore(facts: BTreeMap<FactKey, Fact>) -> Self {
        Self(Arc::new(facts))
    }

    /// Whether nothing has changed between two; facts that are made equal again may be told apart.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// One fact.
    #[must_use]
    pub fn get(&self, kind: FactKind, id: &str) -> Option<&Fact> {
        self.0.get(&FactKey::new(kind, id))
    }

    /// The facts of a kind, in the order of their ids.
    pub fn list(&self, kind: FactKind) -> impl Iterator<Item = (&str, &Fact)> {
        let first = FactKey::new(kind, "");
        let of_kind = self.0.range(first..).take_while(move |(key, _)| key.kind == kind);
        of_kind.map(|(key, fact)| (key.id.as_str(), fact))
    }

    /// Every fact.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&FactKey, &Fact)> {
        self.0.iter()
    }

    /// Makes all of a command's changes, or none.
    ///
    /// # Errors
    /// When the command does not fit the facts; nothing has changed then.
    pub(crate) fn apply(&mut self, command: &FactCommand) -> Result<Changed, FactRejected> {
        let mut next = BTreeMap::clone(&self.0);
        let mut changed = Changed::new();
        for change in &command.changes {
            make(&mut next, &mut changed, change, command.at)?;
        }
        self.0 = Arc::new(next);
        Ok(changed)
    }
}

fn make(
    facts: &mut BTreeMap<FactKey, Fact>,
    changed: &mut Changed,
    change: &FactChange,
    at: Timestamp,
) -> Result<(), FactRejected> {
    let (key, new) = match change {
        FactChange::Set { id, fact, .. } => (FactKey::new(fact.kind(), id), Some(fact)),
        FactChange::Clear { key, .. } => (key.clone(), None),
    };
    change.expect().check(&key, facts.get(&key))?;
    if let Some(fact) = new {
        value::check_size(&key, fact)?;
        if !facts.contains_key(&key) {
            make_room(facts, changed, key.kind, at)?;
        }
        facts.insert(key.clone(), fact.clone());
    } else {
        facts.remove(&key);
    }
    changed.insert(key, new.cloned());
    Ok(())
}

/// At the bound of a kind those go whose time is over; if there is none, nothing more comes in.
fn make_room(
    facts: &mut BTreeMap<FactKey, Fact>,
    changed: &mut Changed,
    kind: FactKind,
    at: Timestamp,
) -> Result<(), FactRejected> {
    let of_kind = || facts.range(FactKey::new(kind, "")..).take_while(|(key, _)| key.kind == kind);
    if of_kind().count() < kind.most() {
        return Ok(());
    }
    let is_over = |fact: &Fact| fact.expires().is_some_and(|end| end < at);
    let over: Vec<FactKey> =
        of_kind().filter(|(_, fact)| is_over(fact)).map(|(key, _)| key.clone()).collect();
    if over.is_empty() {
        return Err(FactRejected::Full { kind });
    }
    for key in over {
        facts.remove(&key);
        changed.insert(key, None);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
