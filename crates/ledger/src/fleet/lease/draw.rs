//! Draws on several leases at once: all or nothing.

use super::holding::{Drawn, Holding};
use super::purse::Spent;

/// What a request took of leases.
pub(crate) type Purchase = [Option<Spent>; LEVELS_MAX];

/// Why it took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The store has to be asked.
    Short,
    /// This one has nothing for the node until then.
    Refused(usize, u64),
}

/// Takes so many tokens of each, or of none. `due` is called with each that has to be looked at.
///
/// # Errors
/// Why nothing was taken.
pub(crate) fn take_all(
    levels: &[(&Holding, u32)],
    now: u64,
    mut due: impl FnMut(usize),
) -> Result<Purchase, Lack> {
    let mut purchase: Purchase = [None; LEVELS_MAX];
    for (at, ((holding, cost), slot)) in levels.iter().zip(&mut purchase).enumerate() {
        match holding.take(now, *cost) {
            Drawn::Taken(spent) => {
                if spent.is_low && holding.becomes_due() {
                    due(at);
                }
                *slot = Some(spent);
            }
            lacking => {
                undo(levels, &purchase);
                return Err(lack(levels, (at, lacking), now, due));
            }
        }
    }
    Ok(purchase)
}

/// Gives back what a request took and cannot use.
pub(crate) fn undo(levels: &[(&Holding, u32)], purchase: &Purchase) {
    for ((holding, cost), spent) in levels.iter().zip(purchase) {
        if let Some(spent) = spent {
            holding.undo(*spent, *cost);
        }
    }
}

/// The first that lacked tokens, and what the others say. One that refuses decides.
fn lack(
    levels: &[(&Holding, u32)],
    (first, lacking): (usize, Drawn),
    now: u64,
    mut due: impl FnMut(usize),
) -> Lack {
    let mut found = Lack::Short;
    for (at, (holding, cost)) in levels.iter().enumerate().skip(first) {
        let drawn = if at == first { lacking } else { holding.lacks(now, *cost) };
        match drawn {
            Drawn::Taken(_) => {}
            Drawn::Short => {
                if holding.becomes_due() {
                    due(at);
                }
            }
            Drawn::Refused(until) => found = Lack::Refused(at, until),
        }
    }
    found
}

/// Leases that one request may draw on; one that draws on more goes to the store.
pub(crate) const LEVELS_MAX: usize = 8;
