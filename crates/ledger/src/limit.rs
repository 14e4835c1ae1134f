//! What the ledger answers to a plan.

use std::time::Duration;

use rules::limit::{Short, Taken};

/// Proof that every draw of a plan was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// What each draw of the plan found, in its order; `None` where a shadow draw was short.
    pub taken: Vec<Option<Taken>>,
    /// How long the request waits for its turn, because a limit queues.
    pub turn: Duration,
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The draw at this place of the plan found its bucket short: of those that are short, the
    /// one that is short for longest.
    Short { draw: usize, short: Short },
    /// There is no room for another bucket (see [`crate::Embedded`]): the draw at this place could
    /// not be counted.
    Full { draw: usize },
}
