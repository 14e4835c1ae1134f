//! The fleet's ledger: buckets in Redis, which any number of nodes draw on.
//!
//! The script `take.lua` decides by the store's clock, in the arithmetic of `rules::limit`; what a
//! decision means in full is computed from its few numbers by that arithmetic itself. Where a
//! bucket is leased (`lease.rs`), the node decides by itself. Budgets' holds go with the draws
//! (`money.rs`). While the store is away the nodes of a cluster may each have a share of a limit
//! (`outage.rs`).

mod address;
mod agreed;
mod batch;
mod breaker;
mod claim;
pub(crate) mod coarse;
pub(crate) mod key;
pub(crate) mod lease;
mod link;
mod memory;
mod money;
mod outage;
mod repeat;
mod ring;
pub(crate) mod road;
mod script;
mod settle;
mod shard;
mod share;
mod shut;
mod teller;

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::{Clock, Uptime};
use rules::plan::Plan;
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

pub use self::address::{Address, AddressError};
use self::batch::{Ask, DRAWS_MAX, Found, Want, wants};
use self::breaker::Breaker;
pub use self::claim::Money;
use self::claim::{Claim, Till};
pub use self::key::{Organisation, OrganisationError};
use self::lease::desk::{Desk, Held, Local};
use self::lease::keeper::Keeper;
use self::lease::table::Table;
use self::link::Dialer;
pub(crate) use self::money::{Entry, Kept, Kind, Purse, Share, kept_of};
pub use self::money::{Page, Telling};
use self::money::{Seen, scribe};
pub use self::outage::Place;
use self::outage::{Counting, Outage};
pub(crate) use self::road::{Road, Roads};
use self::settle::{given, settle, shorts};
use self::shard::Shard;
use self::share::Sharing;
use self::shut::Shut;
use crate::metrics::{Action, Metrics, Uncounted};
use crate::repeat::LEASE;
use crate::storage::Error;
use crate::{Answer, BudgetMetrics, Denial, Reservation};

/// What a fleet's ledger is made of.
#[derive(Debug)]
pub struct Options {
    pub address: Address,
    /// For `rediss`: whom to trust.
    pub tls: Arc<ClientConfig>,
    pub organisation: Organisation,
    /// What the fleet calls this node: no other has the name, and it keeps it as long as its
    /// journal.
    pub node: Arc<str>,
    /// Where the node remembers the store's epoch over a restart, and keeps the journal of its
    /// money. It exists.
    pub directory: Option<PathBuf>,
    /// Longest wait of a request; [`PATIENCE`] unless a test says otherwise. A call may take four
    /// fifths of it: the rest is for the way to the call.
    pub patience: Duration,
    pub metrics: Metrics,
    /// What budgets count, here or in the node itself.
    pub budgets: BudgetMetrics,
    /// Its place in a cluster that agrees on who counts; `None` for a node that is alone.
    pub place: Option<Place>,
}

/// The way to the fleet's ledger. Clones share it.
#[derive(Clone, Debug)]
pub struct Fleet {
    asks: mpsc::Sender<Ask>,
    is_up: Arc<AtomicBool>,
    organisation: Organisation,
    patience: Duration,
    metrics: Metrics,
    shut: Arc<Shut>,
    roads: Roads,
    desk: Arc<Desk>,
    /// How long a node is believed to live without a word.
    pub(crate) lease: Duration,
    till: Arc<Till>,
    outage: Arc<Outage>,
}

/// A take that is under way.
pub struct Pending {
    found: oneshot::Receiver<Found>,
    wants: Arc<[Want]>,
    claim: Option<Claim>,
    patience: Duration,
    /// Where a refusal is noted, and when the store was asked.
    notes: Option<(Arc<Shut>, Uptime)>,
    /// What leases gave already, and the clock by which they end.
    held: Option<(Held, Arc<dyn Clock>)>,
    sharing: Sharing,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("wants", &self.wants).finish_non_exhaustive()
    }
}

impl Fleet {
    /// Starts connecting, on the runtime of the caller. The tasks end when the last clone is
    /// dropped; wait for them with the tracker.
    ///
    /// # Errors
    /// When the journal of its money cannot be used, is damaged, or was written by a later version.
    pub fn start(
        options: Options,
        clock: Arc<dyn Clock>,
        tasks: &TaskTracker,
    ) -> Result<Self, Error> {
        let Options { address, tls, organisation, node, directory, patience, .. } = options;
        let Options { metrics, budgets, place, .. } = options;
        let outage = Arc::new(Outage::new(place, Arc::clone(&clock), metrics.clone()));
        let name = (&organisation, node);
        let (till, orders) = Till::open(name, directory.as_deref(), &clock, (&metrics, budgets))?;
        let (asks, asked) = mpsc::channel(QUEUE_MAX);
        let is_up = Arc::<AtomicBool>::default();
        let breaker = Breaker::new(Arc::clone(&is_up), metrics.breaker.clone());
        let dialer = Dialer::new(address, tls, organisation.clone(), directory.as_deref(), tasks);
        let (road, roads) = watch::channel(None);
        let call_max = call_max(patience);
        let (due, falls_due) = mpsc::channel(QUEUE_MAX);
        let table = Arc::new(Table::new(LEASES_MAX));
        let desk = Desk { table: Arc::clone(&table), due, clock: Arc::clone(&clock) };
        let keeper = Keeper {
            due: falls_due,
            table,
            roads: roads.clone(),
            asks: asks.clone(),
            organisation: organisation.clone(),
            node: RandomState::new().hash_one(clock.now().as_micros()).to_le_bytes(),
            call_max,
            clock: Arc::clone(&clock),
            metrics: metrics.clone(),
            outage: Arc::clone(&outage),
        };
        tasks.spawn(keeper.run());
        tasks.spawn(scribe(Arc::clone(&till.purse), roads.clone(), organisation.clone()));
        let shard = Shard {
            asks: asked,
            dialer,
            breaker,
            roads: road,
            metrics: metrics.clone(),
            clock,
            call_max,
            node: Arc::clone(&till.node),
            purse: Arc::clone(&till.purse),
            seen: Arc::<Seen>::default(),
            orders,
            outage: Arc::clone(&outage),
        };
        tasks.spawn(shard.run());
        let (shut, desk, lease) = (Arc::default(), Arc::new(desk), LEASE);
        Ok(Self {
            asks,
            is_up,
            organisation,
            patience,
            metrics,
            shut,
            roads,
            desk,
            lease,
            till,
            outage,
        })
    }

    /// Whether takes go to the store now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Takes everything a plan draws on and holds, or nothing: of leases at once, of the store for
    /// the rest.
    /// Where a lease is short the store decides on everything.
    pub(crate) fn draw(&self, plan: &Plan, now: Uptime) -> Answer {
        if plan.draws.iter().any(|draw| draw.rule.shares()) {
            match self.outage.source(now.as_micros()) {
                Counting::Store => {}
                Counting::Share(share) => return self.draw_shared(plan, &share, now),
                Counting::Nobody => return self.draw_held(plan, now),
            }
        }
        let pending = match self.desk.draw(plan, now.as_micros()) {
            Local::Refused(denial) => Err(denial),
            Local::Taken(held) if held.count() == plan.draws.len() && plan.holds.is_empty() => {
                return Answer::Now(Ok(held.into_reservation(plan)));
            }
            Local::Taken(held) => self.ask_unless_shut(plan, Some(held), now),
            Local::Nothing => self.ask_unless_shut(plan, None, now),
        };
        pending.map_or_else(|denial| Answer::Now(Err(denial)), Answer::Later)
    }

    /// Asks the store, unless it has just refused the same.
    fn ask_unless_shut(
        &self,
        plan: &Plan,
        held: Option<Held>,
        now: Uptime,
    ) -> Result<Pending, Denial> {
        // A plan that holds may have been taken before: then it gets the same answer.
        let may_be_shut = self.is_up() && plan.holds.is_empty();
        if let Some(denial) = self.shut.denial(plan, now).filter(|_| may_be_shut) {
            self.metrics.shut.inc();
            return Err(denial);
        }
        let notes = Some((Arc::clone(&self.shut), now));
        self.ask(plan, held).map(|pending| Pending { notes, ..pending })
    }

    /// Asks for everything a plan draws on, but what leases gave.
    ///
    /// # Errors
    /// [`Denial::Away`], at once, when the store is.
    fn ask(&self, plan: &Plan, held: Option<Held>) -> Result<Pending, Denial> {
        self.ask_with(plan, held, Sharing::by_store(plan, &self.outage))
    }

    /// The same, but what this node's share gave.
    fn ask_with(
        &self,
        plan: &Plan,
        held: Option<Held>,
        sharing: Sharing,
    ) -> Result<Pending, Denial> {
        let claim = Claim::of(self, plan)?;
        let is_leased = |at| given(held.as_ref(), &sharing, at).is_some();
        let wants = wants(&self.organisation, plan, is_leased);
        let (answer, found) = oneshot::channel();
        let money = claim.as_ref().map(|claim| Arc::clone(&claim.wanted));
        let ask = Ask { wants: Arc::clone(&wants), money, answer };
        if !self.is_up() || ask.weight() > DRAWS_MAX {
            return Err(Denial::Away);
        }
        self.asks.try_send(ask).map_err(|_| {
            self.metrics.queue_full.inc();
            Denial::Away
        })?;
        let held = held.map(|held| (held, Arc::clone(&self.desk.clock)));
        let (patience, notes) = (self.patience, None);
        Ok(Pending { found, wants, claim, patience, notes, held, sharing })
    }

    /// Asks the store for everything a plan draws on.
    #[cfg(test)]
    pub(crate) fn take(&self, plan: &Plan) -> Result<Pending, Denial> {
        self.ask(plan, None)
    }

    /// The link in use, and how long a call of it may take.
    pub(crate) fn road(&self) -> Option<(Road, Duration)> {
        let road = self.roads.borrow().clone();
        road.map(|road| (road, call_max(self.patience)))
    }

    pub(crate) const fn organisation(&self) -> &Organisation {
        &self.organisation
    }

    pub(crate) fn note_uncounted(&self, passed: bool) {
        let action = if passed { Action::passed } else { Action::refused };
        self.metrics.uncounted.get_or_create(&Uncounted { action }).inc();
    }
}

impl Pending {
    /// Waits for the answer to the plan that was asked for, no longer than [`PATIENCE`].
    ///
    /// # Errors
    /// Which draw found its bucket short, or that the store is away.
    pub async fn wait(self, plan: &Plan) -> Result<Reservation, Denial> {
        let Self { found, wants, claim, patience, notes, held, sharing } = self;
        let found = tokio::time::timeout(patience, found).await;
        let found = found.ok().and_then(Result::ok).ok_or(Denial::Away)?;
        if !sharing.is_sure() {
            return Err(Denial::Away);
        }
        let given = |at| given(held.as_ref().map(|(held, _)| held), &sharing, at);
        let settled = settle(plan, &wants, &found, given);
        if let (Err(Denial::Short { .. }), Some((shut, asked))) = (&settled, notes) {
            shut.note(plan, shorts((&wants, &found), |at| given(at).is_some()), asked);
        }
        let reservation = match claim {
            None => settled?,
            Some(claim) => claim.answered(plan, &found, settled)?,
        };
        if let Some((held, clock)) = held {
            held.spend(&*clock)?;
        }
        Ok(reservation)
    }
}

/// How long one call may take: the rest is for the way to it.
fn call_max(patience: Duration) -> Duration {
    patience * 4 / 5
}

/// Longest wait of a request to learn what the store says, or that it says nothing.
pub const PATIENCE: Duration = Duration::from_millis(50);

/// Buckets that a node leases of at once. Further ones are drawn on exactly.
const LEASES_MAX: usize = 65_536;

/// Requests of a node that wait for the next call. When as many wait, the next is answered as if
/// the store were away.
const QUEUE_MAX: usize = 16_384;

#[cfg(test)]
pub(crate) mod tests;
