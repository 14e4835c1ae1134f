//! Drawing on this node's share of the limits, while the store is left alone.

use std::sync::Arc;

use model::Uptime;
use rules::limit::{OnOutage, Short, Taken};
use rules::outage::part;
use rules::plan::{Draw, Plan};

use super::Fleet;
use super::lease::desk::Local;
use super::outage::{Outage, Share};
use crate::{Answer, Denial, Reservation};

/// What a share gave to a plan: for each of its draws that are shared, its place, and what it found;
/// `None` of one that only reports and was short.
#[derive(Debug, Default)]
pub(crate) struct Shared(Vec<(usize, Option<Taken>)>);

impl Shared {
    /// Takes of the share everything that is shared, or nothing. It does not come back: where the
    /// store refuses the rest, it is lost.
    fn take(share: &Share, plan: &Plan, now: Uptime) -> Result<Self, Denial> {
        let places = plan.draws.iter().enumerate().filter(|(_, draw)| draw.rule.shares());
        let cut = |(at, draw): (usize, &Draw)| {
            let (key, rule) = (draw.key.clone(), draw.rule.clone());
            Some((at, Draw { key, bucket: part(draw.bucket, share.parts)?, cost: draw.cost, rule }))
        };
        // A share that holds no token is none.
        let cut: Option<(Vec<usize>, Vec<Draw>)> = places.map(cut).collect();
        let (places, draws) = cut.ok_or(Denial::Away)?;
        let own = Plan { draws, ..Plan::default() };
        let taken = share.book().take(&own, now).map_err(|denial| at_home(denial, &places))?;
        Ok(Self(places.into_iter().zip(taken.taken).collect()))
    }

    /// What the draw at this place found; `None` of one that is not shared.
    pub(crate) fn found(&self, draw: usize) -> Option<Result<Taken, Short>> {
        let (_, taken) = self.0.iter().find(|(at, _)| *at == draw)?;
        Some(taken.ok_or(Short::Never))
    }

    fn is_all(&self, plan: &Plan) -> bool {
        self.0.len() == plan.draws.len() && plan.holds.is_empty()
    }

    /// Serves a plan of which nothing else is counted.
    fn into_reservation(self, plan: &Plan) -> Reservation {
        let taken = (0..plan.draws.len()).map(|at| self.found(at)?.ok()).collect();
        Reservation { taken, ..Reservation::default() }
    }
}

impl Fleet {
    /// Takes what is shared of this node's share, and the rest of the store.
    pub(crate) fn draw_shared(&self, plan: &Plan, share: &Share, now: Uptime) -> Answer {
        let shared = match Shared::take(share, plan, now) {
            Ok(shared) => shared,
            Err(denial) => return Answer::Now(Err(denial)),
        };
        if shared.is_all(plan) {
            return Answer::Now(Ok(shared.into_reservation(plan)));
        }
        if !self.is_up() && passes(plan) {
            self.note_uncounted(true);
            return Answer::Now(Ok(shared.into_reservation(plan)));
        }
        self.ask_with(plan, None, Sharing::Own(Box::new(shared)))
            .map_or_else(|denial| Answer::Now(Err(denial)), Answer::Later)
    }

    /// Takes what is leased, while nobody may be asked for more.
    pub(crate) fn draw_held(&self, plan: &Plan, now: Uptime) -> Answer {
        match self.desk.draw(plan, now.as_micros()) {
            Local::Refused(denial) => Answer::Now(Err(denial)),
            Local::Taken(held) if held.count() == plan.draws.len() && plan.holds.is_empty() => {
                Answer::Now(Ok(held.into_reservation(plan)))
            }
            Local::Taken(_) | Local::Nothing => Answer::Now(Err(Denial::Away)),
        }
    }
}

/// How what may be shared of a plan is counted while the store is asked.
#[derive(Debug)]
pub(crate) enum Sharing {
    /// Nothing of it may be.
    Nothing,
    /// The node's share gave this.
    Own(Box<Shared>),
    /// The store counts it, as long as that is sure: the node may lose touch with the others.
    Store(Arc<Outage>),
}

impl Sharing {
    /// Of a plan that the store decides on.
    pub(crate) fn by_store(plan: &Plan, outage: &Arc<Outage>) -> Self {
        let is_shared = plan.draws.iter().any(|draw| draw.rule.shares());
        if is_shared { Self::Store(Arc::clone(outage)) } else { Self::Nothing }
    }

    /// What the share gave to the draw at this place.
    pub(crate) fn found(&self, draw: usize) -> Option<Result<Taken, Short>> {
        match self {
            Self::Own(shared) => shared.found(draw),
            Self::Nothing | Self::Store(_) => None,
        }
    }

    /// Whether what the store gave may be used still.
    pub(crate) fn is_sure(&self) -> bool {
        match self {
            Self::Store(outage) => outage.is_sure(),
            Self::Nothing | Self::Own(_) => true,
        }
    }
}

/// Whether everything that is not shared lets a request pass that nobody counts.
fn passes(plan: &Plan) -> bool {
    let draws = plan.draws.iter().map(|draw| &draw.rule).filter(|rule| !rule.shares());
    let holds = plan.holds.iter().map(|hold| &hold.budget);
    draws.into_iter().all(|rule| rule.is_shadow() || rule.passes_without_ledger())
        && holds.into_iter().all(|budget| budget.shadow || budget.on_outage == OnOutage::Allow)
}

/// A refusal by the places of the whole plan.
fn at_home(denial: Denial, places: &[usize]) -> Denial {
    let home = |draw: usize| places.get(draw).copied().unwrap_or(draw);
    match denial {
        Denial::Short { draw, short } => Denial::Short { draw: home(draw), short },
        Denial::Full { draw } => Denial::Full { draw: home(draw) },
        Denial::Overdrawn { .. } | Denial::Crowded { .. } | Denial::Mismatch | Denial::Away => {
            denial
        }
    }
}
