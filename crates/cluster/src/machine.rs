//! The replicated step: what an entry of the log makes of the document and the facts.
//!
//! Pure: each node that applies the same entries reaches the same machine.

use std::collections::BTreeMap;

use config::{Applied, EffectKind, Key, Rejected, State, Stored};
use model::Revision;

use crate::entry::{Batch, Change, ProposalId, Verdict};
use crate::fact::{Changed, FactRejected, Facts};
use crate::recent::{Done, DoneBatch, Recent};

/// Everything the log has made so far. The state and the facts are cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) state: State,
    pub(crate) facts: Facts,
    pub(crate) recent: Recent,
    /// The index of the last entry that changed anything.
    pub(crate) effective: u64,
}

/// Rows that changed: as they are now, or `None` for one that is deleted.
pub(crate) type Rows = BTreeMap<Key, Option<Stored>>;

/// What one entry changed, for the store.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) verdict: Verdict,
    pub(crate) rows: Rows,
    pub(crate) facts: Changed,
    /// What its proposals did; `None` when nothing was made.
    pub(crate) done: Option<DoneBatch>,
    /// Entries whose proposals are forgotten for it.
    pub(crate) forgotten: Vec<u64>,
}

/// This release's rules come out elsewhere than those of the leader that judged the entry. The
/// node stays out: it would hold another document than the others.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Divergence {
    #[error("this release rejects a change that the leader's took")]
    Rejected(#[source] Rejected),
    #[error("this release rejects a change of facts that the leader's took")]
    Facts(#[source] FactRejected),
    #[error("the entry makes revision {expected}, but here it makes {found}")]
    Revision { expected: Revision, found: Revision },
}

impl Machine {
    /// A machine as it was stored.
    pub(crate) fn restore(state: State, facts: Facts, recent: Recent) -> Self {
        let effective = recent.batches().last().map_or(0, |(index, _)| *index);
        Self { state, facts, recent, effective }
    }

    /// Makes all of an entry's changes, or none.
    pub(crate) fn apply(&mut self, index: u64, batch: &Batch) -> Result<Step, Divergence> {
        if batch.base != self.state.revision() {
            return Ok(Step::nothing());
        }
        let mut draft = Draft::new(self);
        for proposal in &batch.proposals {
            // Its first copy may have been taken by a leader that could not say so any more.
            if self.recent.holds(proposal.id) {
                continue;
            }
            match &proposal.change {
                Change::Document(command) => {
                    let applied = draft.document(command).map_err(Divergence::Rejected)?;
                    draft.note(proposal.id, Some(&applied));
                }
                Change::Facts(command) => {
                    draft.facts(command).map_err(Divergence::Facts)?;
                    draft.note(proposal.id, None);
                }
            }
        }
        let found = draft.state.revision();
        if found != batch.after {
            return Err(Divergence::Revision { expected: batch.after, found });
        }
        Ok(self.take(index, draft))
    }

    /// Takes over what was made on a copy of this very machine.
    pub(crate) fn adopt(&mut self, index: u64, draft: Draft) -> Step {
        debug_assert_eq!(draft.effective, self.effective, "a draft is adopted by its own machine");
        self.take(index, draft)
    }

    fn take(&mut self, index: u64, draft: Draft) -> Step {
        let Draft { state, facts, rows, changed, done, effective: _ } = draft;
        self.state = state;
        self.facts = facts;
        self.effective = index;
        let done: DoneBatch = done.into();
        let forgotten = self.recent.note(index, done.clone());
        Step { verdict: Verdict::Made, rows, facts: changed, done: Some(done), forgotten }
    }
}

impl Step {
    /// What an entry did that changes nothing.
    pub(crate) const fn nothing() -> Self {
        Self {
            verdict: Verdict::Outrun,
            rows: Rows::new(),
            facts: Changed::new(),
            done: None,
            forgotten: Vec::new(),
        }
    }
}

/// Changes made on a copy: by the leader that judges them, and by each node when it applies them.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) state: State,
    pub(crate) facts: Facts,
    pub(crate) rows: Rows,
    pub(crate) changed: Changed,
    pub(crate) done: Vec<Done>,
    /// The last entry that had changed anything in what was copied.
    pub(crate) effective: u64,
}

impl Draft {
    pub(crate) fn new(machine: &Machine) -> Self {
        Self {
            state: machine.state.clone(),
            facts: machine.facts.clone(),
            effective: machine.effective,
            rows: Rows::new(),
            changed: Changed::new(),
            done: Vec::new(),
        }
    }

    /// Makes the changes of a command whose secrets are sealed.
    pub(crate) fn document(&mut self, command: &config::Command) -> Result<Applied, Rejected> {
        let applied = self.state.apply(command)?;
        for effect in &applied.effects {
            if effect.kind != EffectKind::Unchanged {
                self.rows.insert(effect.key.clone(), effect.stored.clone());
            }
        }
        Ok(applied)
    }

    /// Remembers what a proposal did: to the document, if it was of it.
    pub(crate) fn note(&mut self, id: ProposalId, applied: Option<&Applied>) {
        let revision = self.state.revision().number();
        self.done.push(Done { id, revision, effects: kinds(applied) });
    }

    pub(crate) fn facts(&mut self, command: &crate::fact::FactCommand) -> Result<(), FactRejected> {
        self.changed.extend(self.facts.apply(command)?);
        Ok(())
    }
}

fn kinds(applied: Option<&Applied>) -> Vec<(Key, EffectKind)> {
    let effects = applied.into_iter().flat_map(|applied| &applied.effects);
    effects.map(|effect| (effect.key.clone(), effect.kind)).collect()
}

#[cfg(test)]
mod tests;
