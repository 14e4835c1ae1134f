//! A change on its way to whoever judges it, and the answer on its way back.
//!
//! Both travel between nodes as JSON when another node leads.

use std::sync::Arc;

use config::{Applied, Fault, Key, Rejected};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::entry::{Change, ProposalId};
use crate::fact::FactRejected;

/// A change to be judged; secrets as people wrote them.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) id: ProposalId,
    /// Given when it may have been sent before: an entry that was applied before the first time.
    pub(crate) since: Option<u64>,
    /// Shared, since it may be large and is asked more than once.
    pub(crate) change: Arc<Change>,
}

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// It was judged: it is made, or will never be.
    Judged(Result<Applied, Refusal>),
    /// It was not judged, and not made: ask who leads now.
    NotHere,
    /// It was not judged, and not made.
    Busy { why: String },
    /// Nobody knows whether it is made: ask again, with the same id.
    Unsure { why: String },
    /// Nobody will ever know whether it is made.
    Forgotten,
}

/// Why a change was judged and not made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    Rejected(Rejected),
    Facts(FactRejected),
    Faults(Vec<(Key, Fault)>),
    /// It is larger than an entry may be.
    Oversized {
        bytes: usize,
    },
    Defect,
}

/// A change that waits for its turn. Skipped when nobody waits for the answer any more.
pub(crate) struct Waiting {
    pub(crate) ask: Ask,
    pub(crate) answer: oneshot::Sender<Told>,
}

/// What the proposer is asked to do.
pub(crate) enum Job {
    Judge(Waiting),
    /// A secret has moved; a compile may be due.
    Look,
    /// Finish what waits and end.
    Stop,
}

impl Ask {
    /// Ends the ask. What is large is taken apart on a thread that may block: it takes up to a
    /// second, for which neither the next change nor the runtime waits.
    pub(crate) fn end(self) {
        if self.changes() > ENDED_AT_ONCE_MAX {
            drop(tokio::task::spawn_blocking(move || drop(self)));
        }
    }

    /// How many resources or facts it changes.
    pub(crate) fn changes(&self) -> usize {
        match &*self.change {
            Change::Document(command) => command.changes.len(),
            Change::Facts(command) => command.changes.len(),
        }
    }
}

impl Told {
    pub(crate) fn busy(why: &str) -> Self {
        Self::Busy { why: why.to_owned() }
    }

    pub(crate) fn unsure(why: &str) -> Self {
        Self::Unsure { why: why.to_owned() }
    }
}

/// Changes of an ask that is ended where it is: less than a millisecond.
const ENDED_AT_ONCE_MAX: usize = 256;
