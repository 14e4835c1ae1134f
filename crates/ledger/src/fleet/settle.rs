//! What the store's decision means in full.

use rules::limit::{Short, Taken};
use rules::plan::Plan;

use super::batch::{Found, Want};
use super::lease::desk::Held;
use super::money::judge;
use super::share::Sharing;
use crate::limit::worst;
use crate::{Denial, Reservation};

/// How the store found each draw of a plan short, in their order. What is held was not asked for.
pub(crate) fn shorts<'a>(
    (wants, found): (&'a [Want], &'a Found),
    is_held: impl Fn(usize) -> bool + 'a,
) -> impl Iterator<Item = Option<Short>> + 'a {
    let mut exact = wants.iter().zip(&found.used);
    (0..).map(move |at| {
        let (want, used) = if is_held(at) { None } else { exact.next() }?;
        want.coarse.take(*used, want.cost).err()
    })
}

/// What the draw at this place of a plan found before the store was asked.
pub(crate) fn given(
    held: Option<&Held>,
    sharing: &Sharing,
    at: usize,
) -> Option<Result<Taken, Short>> {
    sharing.found(at).or_else(|| held?.found(at))
}

/// What the store's decision means: the arithmetic of the embedded ledger on the levels found, with
/// what leases or a share gave.
pub(crate) fn settle(
    plan: &Plan,
    wants: &[Want],
    found: &Found,
    given: impl Fn(usize) -> Option<Result<Taken, Short>>,
) -> Result<Reservation, Denial> {
    let unheld = match &found.holds {
        Some(holds) if holds.verdict.is_known() && found.granted => {
            // Its draws were taken when it was made.
            let taken = vec![None; plan.draws.len()];
            return Ok(Reservation { taken, ..Reservation::default() });
        }
        Some(holds) => match judge(plan, holds) {
            Some(unheld) => unheld,
            None => return Err(defect(found)),
        },
        None => None,
    };
    let mut exact = wants.iter().zip(&found.used);
    let taken: Option<Vec<_>> = (0..plan.draws.len())
        .map(|at| match given(at) {
            Some(found) => Some(found),
            None => exact.next().map(|(want, used)| want.coarse.take(*used, want.cost)),
        })
        .collect();
    let taken = taken.ok_or(Denial::Away)?;
    let denial = worst(plan, taken.iter().map(|taken| taken.err()));
    if found.granted != (denial.is_none() && unheld.is_none()) {
        return Err(defect(found));
    }
    if let Some(denial) = unheld.or(denial) {
        return Err(denial);
    }
    let mut reservation = Reservation::default();
    for (draw, taken) in plan.draws.iter().zip(taken) {
        if let (Ok(taken), true) = (&taken, draw.rule.queues()) {
            reservation.turn = reservation.turn.max(taken.turn);
        }
        reservation.taken.push(taken.ok());
    }
    Ok(reservation)
}

/// The script and the arithmetic disagree: nothing may pass on that.
fn defect(found: &Found) -> Denial {
    tracing::error!(?found, "Redis decided against the rules");
    Denial::Away
}
