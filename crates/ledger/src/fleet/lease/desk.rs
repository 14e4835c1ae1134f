//! Where requests spend leases.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::{Bucket, Clock, Tokens};
use rules::limit::{Mode, Short, Taken};
use rules::plan::{Draw, Plan};
use tokio::sync::mpsc;

use super::book::NODE_TOKENS;
use super::draw::{LEVELS_MAX, Lack, Purchase, take_all, undo};
use super::holding::{Drawn, Holding};
use super::purse::Spent;
use super::table::{Entry, Table, Terms};
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

/// A draw that may be leased: its place in the plan and its cost.
#[derive(Debug)]
struct Level {
    at: usize,
    entry: Arc<Entry>,
    is_shadow: bool,
    cost: u32,
}

/// What a request took of leases, given back when it is dropped before it is used.
#[derive(Debug)]
pub(crate) struct Held {
    levels: Vec<Level>,
    purchase: Purchase,
    is_used: bool,
}

impl Held {
    /// What the leased draw at this place of the plan found. A shadow draw may have got nothing.
    pub(crate) fn found(&self, draw: usize) -> Option<Result<Taken, Short>> {
        let mut levels = self.levels.iter().zip(&self.purchase);
        levels.find(|(level, _)| level.at == draw).map(|(level, spent)| level.found(*spent))
    }

    pub(crate) const fn count(&self) -> usize {
        self.levels.len()
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
        for (Level { at, entry, cost, .. }, spent) in self.levels.iter().zip(&self.purchase) {
            let Some(spent) = spent else { continue };
            let is_held = entry.holding.holds(*spent, now);
            if !is_held && !matches!(entry.holding.take(now, *cost), Drawn::Taken(_)) {
                let short = Short::For(one_more(entry));
                return Err(Denial::Short { draw: *at, short });
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
        for (Level { entry, cost, .. }, spent) in self.levels.iter().zip(&self.purchase) {
            if let Some(spent) = spent {
                entry.holding.undo(*spent, *cost);
            }
        }
    }
}

impl Desk {
    /// Draws on leases: on all that the plan has, or on none.
    pub(crate) fn draw(&self, plan: &Plan, now: u64) -> Local {
        let levels = self.levels(plan, now);
        if levels.len() > LEVELS_MAX {
            return Local::Nothing;
        }
        let Some(first) = levels.first() else { return Local::Nothing };
        let mut costs: [(&Holding, u32); LEVELS_MAX] = [(&first.entry.holding, 0); LEVELS_MAX];
        for (cost, level) in costs.iter_mut().zip(&levels) {
            *cost = (&level.entry.holding, level.cost);
        }
        let costs = costs.get(..levels.len()).unwrap_or_default();
        let (bound, shadows) = costs.split_at(levels.iter().filter(|l| !l.is_shadow).count());
        let mut due = Vec::new();
        let taken = take_all(bound, now, |at| due.push(at));
        let decided = taken.and_then(|mut purchase| {
            let slots = purchase.iter_mut().skip(bound.len());
            match shadows
                .iter()
                .zip(slots)
                .find_map(|(level, slot)| (!reports(level, now, slot)).then_some(()))
            {
                None => Ok(purchase),
                Some(_) => {
                    undo(costs, &purchase);
                    Err(Lack::Short)
                }
            }
        });
        if decided == Err(Lack::Short) {
            let lacking = levels.iter().enumerate().skip(bound.len());
            due.extend(lacking.filter(|(_, level)| level.entry.holding.becomes_due()).map(|l| l.0));
        }
        if !due.is_empty() {
            let entries = due.iter().filter_map(|at| levels.get(*at));
            self.tell(Due::Look(entries.map(|level| Arc::clone(&level.entry)).collect()));
        }
        match decided {
            Ok(purchase) => Local::Taken(Held { levels, purchase, is_used: false }),
            Err(Lack::Short) => Local::Nothing,
            Err(Lack::Refused(level, until)) => {
                let draw = levels.get(level).map_or(0, |level| level.at);
                let wait = Duration::from_micros(until.saturating_sub(now));
                Local::Refused(Denial::Short { draw, short: Short::For(wait) })
            }
        }
    }

    /// The draws that may be leased. Those that only report stand last: they refuse nothing.
    fn levels(&self, plan: &Plan, now: u64) -> Vec<Level> {
        let mut levels = Vec::with_capacity(plan.draws.len());
        for (at, draw) in plan.draws.iter().enumerate() {
            let always = match draw.rule.mode() {
                Mode::Exact => continue,
                Mode::Leased => true,
                Mode::Auto => false,
            };
            let Ok(cost) = u32::try_from(draw.cost.0) else { continue };
            let is_shadow = draw.rule.is_shadow();
            let level = |entry| Level { at, entry, is_shadow, cost };
            let terms = Terms { always, shares: draw.rule.shares() };
            levels.extend(self.entry(draw, terms, now).map(level));
        }
        if levels.iter().any(|level| level.is_shadow) {
            levels.sort_by_key(|level| level.is_shadow);
        }
        levels
    }

    /// The lease of a draw's bucket. One of a bucket that has changed goes.
    fn entry(&self, draw: &Draw, terms: Terms, now: u64) -> Option<Arc<Entry>> {
        match self.table.find(&draw.key) {
            Some(entry) if entry.bucket == draw.bucket && entry.terms == terms => Some(entry),
            Some(entry) => {
                self.table.remove(&entry);
                entry.holding.close();
                self.tell(Due::Retire(entry));
                None
            }
            None if is_leasable(draw.bucket, terms.always) => {
                self.table.add(&draw.key, draw.bucket, terms, now)
            }
            None => None,
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

/// Takes of one that only reports: whether it said what it has.
fn reports((holding, cost): &(&Holding, u32), now: u64, slot: &mut Option<Spent>) -> bool {
    match holding.take(now, *cost) {
        Drawn::Taken(spent) => {
            *slot = Some(spent);
            true
        }
        Drawn::Refused(_) => true,
        Drawn::Short => false,
    }
}

impl Level {
    fn found(&self, spent: Option<Spent>) -> Result<Taken, Short> {
        let more = one_more(&self.entry);
        let spent = spent.ok_or(Short::For(more))?;
        let there = self.entry.left.load(Ordering::Relaxed).saturating_add(spent.left.into());
        let left = Tokens(there.min(self.entry.bucket.burst().0));
        Ok(Taken { turn: Duration::ZERO, left, more })
    }
}

/// Until another token comes.
fn one_more(entry: &Entry) -> Duration {
    entry.bucket.refill_time(entry.bucket.unit()).unwrap_or(Duration::MAX)
}

fn is_leasable(bucket: Bucket, always: bool) -> bool {
    let is_large = always || bucket.burst().0 >= NODE_TOKENS;
    is_large && bucket.time_to_full().is_some_and(|full| full >= FULL_MIN)
}

/// A bucket that is full sooner is drawn on exactly: its tokens would come back before a lease
/// has made its way.
const FULL_MIN: Duration = Duration::from_millis(20);
