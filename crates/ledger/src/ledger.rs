//! The ledger a gate draws on: the node's own counts, or the fleet's.

use std::sync::Arc;

use model::Uptime;
use rules::plan::Plan;

use crate::{Denial, Embedded, Fleet, Pending, Reservation, Statement};

/// Takes plans where they are counted. Clones share the counts.
#[derive(Clone, Debug)]
pub struct Ledger {
    embedded: Arc<Embedded>,
    fleet: Option<Fleet>,
}

/// What a take comes to.
#[derive(Debug)]
pub enum Answer {
    /// It is decided.
    Now(Result<Reservation, Denial>),
    /// The store decides: [`Pending::wait`] for it.
    Later(Pending),
}

impl Ledger {
    /// One node's: everything is counted in the process.
    #[must_use]
    pub const fn embedded(embedded: Arc<Embedded>) -> Self {
        Self { embedded, fleet: None }
    }

    /// A fleet's: plans are counted in its store.
    #[must_use]
    pub const fn shared(embedded: Arc<Embedded>, fleet: Fleet) -> Self {
        Self { embedded, fleet: Some(fleet) }
    }

    /// The node's own counts: those of failed identities always, and all others where there is
    /// no fleet.
    #[must_use]
    pub fn own(&self) -> &Embedded {
        &self.embedded
    }

    /// Takes everything a plan draws on and holds, or nothing. Without a fleet it is decided at once.
    #[must_use]
    pub fn take(&self, plan: &Plan, now: Uptime) -> Answer {
        match &self.fleet {
            None => Answer::Now(self.embedded.take(plan, now)),
            Some(_) if plan.draws.is_empty() && plan.holds.is_empty() => {
                Answer::Now(Ok(Reservation::default()))
            }
            Some(fleet) => fleet.draw(plan, now),
        }
    }

    /// What this node's journals say.
    #[must_use]
    pub fn statement(&self) -> Statement {
        let mut statement = Statement::default();
        self.embedded.accounts().state(&mut statement);
        if let Some(fleet) = &self.fleet {
            fleet.state(&mut statement);
        }
        statement
    }

    /// The fleet's store, where there is one.
    #[must_use]
    pub const fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref()
    }

    /// Counts a request that the fleet's store could not count, and whether it passed.
    pub fn note_uncounted(&self, passed: bool) {
        if let Some(fleet) = &self.fleet {
            fleet.note_uncounted(passed);
        }
    }
}
