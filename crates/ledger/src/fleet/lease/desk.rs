//! Where requests spend leases.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::{Clock, Tokens};
use rules::limit::{Mode, Short, Taken};
use rules::plan::{Draw, Plan};
use tokio::sync::mpsc;

use super::book::NODE_TOKENS;
use super::draw::{LEVELS_MAX, Lack, Purchase, take_all, undo};
use super::holding::{Drawn, Holding};
use super::table::{Entry, Table};
use crate::{Denial, Reservation};

/// What is to be looked at.
#[derive(Debug)]
pub(crate) enum Due {
    /// The leases of one request.
    Look(Vec<Arc<Entry>>),
    /// One whose limit has changed: it is given back.
    Retire(Arc<Entry>),
}

/// The leases as requests see them.
pub(crate) struct Desk {
    pub(crate) table: Arc<Table>,
    pub(crate) due: mpsc::Sender<Due>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("table", &self.table).finish_non_exhaustive()
    }
}

/// What leases say to a plan.
#[derive(Debug)]
pub(crate) enum Local {
    /// The store decides on all of it.
    Nothing,
    /// This much is taken; the store decides on the rest, if there is any.
    Taken(Held),
    Refused(Denial),
}

/// What a request took of leases, given back when it is dropped before it is used.
#[derive(Debug)]
pub(crate) struct Held {
    /// For each draw of the plan that is leased: what it got. A shadow draw may have got nothing.
    draws: Vec<(usize, Arc<Entry>, Result<Taken, Short>, u32)>,
    purchase: Purchase,
    is_used: bool,
}

impl Held {
    /// What the leased draw at this place of the plan found.
    pub(crate) fn found(&self, draw: usize) -> Option<Result<Taken, Short>> {
        self.draws.iter().find(|(at, ..)| *at == draw).map(|(_, _, found, _)| *found)
    }

    pub(crate) const fn count(&self) -> usize {
        self.draws.len()
    }

    /// Uses it at once, for a plan of leased draws alone.
    pub(crate) fn into_reservation(mut self, plan: &Plan) -> Reservation {
        self.is_used = true;
        let taken = (0..plan.draws.len()).map(|at| self.found(at)?.ok()).collect();
        Reservation { taken, ..Reservation::default() }
    }

    /// Uses it, once the store has granted the rest. Where a lease was counted anew or ended since,
    /// it is taken again; where that fails, what the store granted is lost.
    ///
    /// # Errors
    /// Which draw was short then.
    pub(crate) fn spend(mut self, clock: &dyn Clock) -> Result<(), Denial> {
        let now = clock.uptime().as_micros();
        self.is_used = true;
        for ((draw, entry, found, cost), spent) in self.draws.iter().zip(&self.purchase) {
            let Some(spent) = spent else { continue };
            let is_held = found.is_err() || entry.holding.holds(*spent, now);
            if !is_held && !matches!(entry.holding.take(now, *cost), Drawn::Taken(_)) {
                let short = Short::For(one_more(entry));
                return Err(Denial::Short { draw: *draw, short });
            }
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_used {
            return;
        }
        for ((_, entry, _, cost), spent) in self.draws.iter().zip(&self.purchase) {
            if let Some(spent) = spent {
                entry.holding.undo(*spent, *cost);
            }
        }
    }
}

impl Desk {
    /// Draws on leases: on all that the plan has, or on none.
    pub(crate) fn draw(&self, plan: &Plan, now: u64) -> Local {
        let mut draws = Vec::new();
        for (at, draw) in plan.draws.iter().enumerate() {
            let (Some(always), Ok(cost)) = (leasable(draw), u32::try_from(draw.cost.0)) else {
                continue;
            };
            let Some(entry) = self.entry(draw, always, now) else { continue };
            draws.push((at, entry, draw.rule.is_shadow(), cost));
        }
        if draws.is_empty() || draws.len() > LEVELS_MAX {
            return Local::Nothing;
        }
        // Those that only report stand last: they refuse nothing.
        draws.sort_by_key(|(_, _, shadow, _)| *shadow);
        let binding = draws.iter().take_while(|(_, _, shadow, _)| !shadow).count();
        let levels: Vec<(&Holding, u32)> =
            draws.iter().map(|(_, entry, _, cost)| (&entry.holding, *cost)).collect();
        let (bound, shadows) = levels.split_at(binding);
        let mut due = Vec::new();
        let taken = take_all(bound, now, |level| due.push(level));
        let decided = match taken {
            Ok(mut purchase) => {
                match report(shadows, now, purchase.get_mut(binding..).unwrap_or_default()) {
                    true => Ok(purchase),
                    false => {
                        undo(&levels, &purchase);
                        due.extend((binding..draws.len()).filter(|at| self.falls_due(&draws, *at)));
                        Err(Lack::Short)
                    }
                }
            }
            Err(lack) => Err(lack),
        };
        if !due.is_empty() {
            let entries = due.iter().filter_map(|at| draws.get(*at));
            self.tell(Due::Look(entries.map(|(_, entry, ..)| Arc::clone(entry)).collect()));
        }
        match decided {
            Ok(purchase) => Local::Taken(held(draws, purchase)),
            Err(Lack::Short) => Local::Nothing,
            Err(Lack::Refused(level, until)) => {
                let draw = draws.get(level).map_or(0, |(at, ..)| *at);
                let wait = Duration::from_micros(until.saturating_sub(now));
                Local::Refused(Denial::Short { draw, short: Short::For(wait) })
            }
        }
    }

    fn falls_due(&self, draws: &[(usize, Arc<Entry>, bool, u32)], at: usize) -> bool {
        draws.get(at).is_some_and(|(_, entry, ..)| entry.holding.becomes_due())
    }

    /// The lease of a draw's bucket. One of a bucket that has changed goes.
    fn entry(&self, draw: &Draw, always: bool, now: u64) -> Option<Arc<Entry>> {
        match self.table.find(&draw.key) {
            Some(entry) if entry.bucket == draw.bucket => Some(entry),
            Some(entry) => {
                self.table.remove(&entry);
                entry.holding.close();
                self.tell(Due::Retire(entry));
                None
            }
            None => self.table.add(&draw.key, draw.bucket, always, now),
        }
    }

    fn tell(&self, due: Due) {
        if let Err(error) = self.due.try_send(due)
            && let Due::Look(entries) = error.into_inner()
        {
            entries.iter().for_each(|entry| entry.holding.not_due());
        }
    }
}

/// Takes of those that only report: whether each said what it has.
fn report(
    shadows: &[(&Holding, u32)],
    now: u64,
    slots: &mut [Option<super::purse::Spent>],
) -> bool {
    shadows.iter().zip(slots).all(|((holding, cost), slot)| match holding.take(now, *cost) {
        Drawn::Taken(spent) => {
            *slot = Some(spent);
            true
        }
        Drawn::Refused(_) => true,
        Drawn::Short => false,
    })
}

fn held(draws: Vec<(usize, Arc<Entry>, bool, u32)>, purchase: Purchase) -> Held {
    let found = draws.into_iter().zip(&purchase).map(|((at, entry, _, cost), spent)| {
        let more = one_more(&entry);
        let found = spent.as_ref().map_or(Err(Short::For(more)), |spent| {
            let there = entry.left.load(Ordering::Relaxed).saturating_add(spent.left.into());
            let left = Tokens(there.min(entry.bucket.burst().0));
            Ok(Taken { turn: Duration::ZERO, left, more })
        });
        (at, entry, found, cost)
    });
    Held { draws: found.collect(), purchase, is_used: false }
}

/// Until another token comes.
fn one_more(entry: &Entry) -> Duration {
    entry.bucket.refill_time(entry.bucket.unit()).unwrap_or(Duration::MAX)
}

/// Whether a draw may be leased, and if so, whether always.
fn leasable(draw: &Draw) -> Option<bool> {
    let full = draw.bucket.time_to_full()?;
    let always = match draw.rule.mode() {
        Mode::Exact => return None,
        Mode::Leased => true,
        Mode::Auto => false,
    };
    let is_large = always || draw.bucket.burst().0 >= NODE_TOKENS;
    (is_large && full >= FULL_MIN).then_some(always)
}

/// A bucket that is full sooner is drawn on exactly: its tokens would come back before a lease
/// has made its way.
const FULL_MIN: Duration = Duration::from_millis(20);
