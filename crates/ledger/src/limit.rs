//! What the ledger answers to a plan.

use std::time::Duration;

use model::Amount;
use rules::limit::{Short, Taken};
use rules::plan::Plan;

use crate::Held;

/// Proof that every draw and every hold of a plan was taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// What each draw of the plan found, in its order; `None` where a shadow draw was short.
    pub taken: Vec<Option<Taken>>,
    /// How long the request waits for its turn, because a limit queues.
    pub turn: Duration,
    /// What the plan's budgets hold; `None` for a plan without holds.
    pub held: Option<Box<Held>>,
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
    /// The budget of the hold at this place of the plan has only so much left: of those that are
    /// short, the first.
    Overdrawn { hold: usize, left: Amount },
    /// There is no room for another account or reservation (see [`crate::Accounts`]): the hold at
    /// this place could not be made.
    Crowded { hold: usize },
    /// The plan's id was used before, for other holds.
    Mismatch,
    /// The fleet's store cannot be asked, or did not answer in time. What it was asked may have
    /// been taken all the same.
    Away,
}

/// The draw that keeps the request away for longest; `None` when none does. `shorts` says of each
/// draw of the plan how its bucket is short.
pub(crate) fn worst(plan: &Plan, shorts: impl Iterator<Item = Option<Short>>) -> Option<Denial> {
    let binding = plan.draws.iter().zip(shorts).enumerate();
    binding
        .filter(|(_, (draw, _))| !draw.rule.is_shadow())
        .filter_map(|(draw, (_, short))| short.map(|short| (draw, short)))
        .max_by_key(|(_, short)| match short {
            Short::Never => Duration::MAX,
            Short::For(wait) => *wait,
        })
        .map(|(draw, short)| Denial::Short { draw, short })
}
