//! Who may count a fleet's shared limits, and when: the store, or each node its share.
//!
//! The fleet agrees on an [`Epoch`]; what is agreed on is known to a node later than to another,
//! or never. So each node may rely on what it knows only for [`AUTHORITY`] after it has heard that
//! nothing newer was agreed on ([`Holder`]), and what an epoch allows begins only when all
//! authority over the one before, and the last lease under it, is over ([`WAIT`]). At every
//! instant, then, either the store counts a limit or some nodes have shares of it, which together
//! are no more than the whole.

mod decide;
mod holder;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::Bucket;
use serde::{Deserialize, Serialize};

pub use decide::{Sight, decide};
pub use holder::{Holder, Source, Terms};

/// What the fleet has agreed on about the store of its counts. Each follows from the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Grows whenever the store has to begin anew: it keeps the number, and one with a lower number
    /// is not counted in.
    pub number: u64,
    /// Grows whenever somebody may not count any more who could before.
    pub era: u64,
    /// Which life of the store counts, by when it began; 0: none is agreed on yet. Where none ever
    /// was, any.
    pub life: u64,
    pub mode: Mode,
    /// The nodes that keep to this, by their numbers, each with its name in the ledger. What they
    /// have spent is known to them: a store that forgot must hear all of them.
    pub members: BTreeMap<u64, String>,
}

/// Who counts limits that may be shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The store.
    Store,
    /// Each of these nodes an equal part.
    Local { sharing: BTreeSet<u64> },
}

/// What a node says of itself to who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its name in the ledger.
    pub name: String,
    pub reach: Reach,
    /// For how long that has been so, in milliseconds.
    pub for_ms: u64,
}

/// How a node reaches the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// It may not be asked yet.
    Waits,
    Away,
    /// It is there, in this life.
    At {
        life: u64,
    },
    /// It is there, and keeps a number that is higher than the fleet's.
    Ahead {
        number: u64,
    },
}

impl Epoch {
    /// Before anything was agreed on: nodes count in the store as each of them finds it.
    #[must_use]
    pub const fn first() -> Self {
        Self { number: 0, era: 0, life: 0, mode: Mode::Store, members: BTreeMap::new() }
    }

    /// Of how many equal parts a node has one; `None` for one that has no share.
    #[must_use]
    pub fn parts(&self, node: u64) -> Option<u64> {
        match &self.mode {
            Mode::Store => None,
            Mode::Local { sharing } => {
                sharing.contains(&node).then(|| u64::try_from(sharing.len()).unwrap_or(u64::MAX))
            }
        }
    }
}

/// A bucket of one of so many equal parts: it fills slower by that, and holds less by that, exactly.
/// `None` where not a single token fits into it.
#[must_use]
pub fn part(bucket: Bucket, parts: u64) -> Option<Bucket> {
    let unit = bucket.unit().checked_mul(parts)?;
    Bucket::from_parts(bucket.refill(), unit, bucket.capacity()).filter(|part| part.burst().0 > 0)
}

/// How long a node relies on what it knows after it has asked whether that is the newest. Longer
/// than an election, so that limits do not stop for one.
pub const AUTHORITY: Duration = Duration::from_secs(3);

/// Longest lease of tokens that the store gives.
pub const LEASE: Duration = Duration::from_secs(2);

/// From when something is agreed on until it begins: authority and leases are over then, by any two
/// clocks that differ by less than one part in 64.
pub const WAIT: Duration = Duration::from_millis(5_100);

#[cfg(test)]
mod tests;
