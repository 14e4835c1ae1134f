//! The fleet's ledger: buckets in Redis, which any number of nodes draw on.
//!
//! The script `take.lua` decides by the store's clock, in the arithmetic of `rules::limit`; what a
//! decision means in full is computed from its few numbers by that arithmetic itself. What is
//! absent: leases (each take is a trip to the store, shared with others), budgets, and recovery of
//! what the store forgot.

mod address;
mod batch;
mod breaker;
pub(crate) mod coarse;
mod key;
pub(crate) mod lease;
mod line;
mod link;
mod memory;
mod repeat;
mod ring;
mod script;
mod shard;
mod shut;

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
pub use self::key::{Organisation, OrganisationError};
use self::line::Line;
use self::link::Dialer;
use self::memory::Memory;
pub(crate) use self::ring::Road;
use self::shard::Shard;
use self::shut::Shut;
use crate::limit::worst;
use crate::metrics::{Action, Metrics, Uncounted};
use crate::{Denial, Reservation};

/// What a fleet's ledger is made of.
#[derive(Debug)]
pub struct Options {
    pub address: Address,
    /// For `rediss`: whom to trust.
    pub tls: Arc<ClientConfig>,
    pub organisation: Organisation,
    /// Where the node remembers the store's epoch over a restart. It exists.
    pub directory: Option<PathBuf>,
    /// Longest wait of a request; [`PATIENCE`] unless a test says otherwise. A call may take four
    /// fifths of it: the rest is for the way to the call.
    pub patience: Duration,
    pub metrics: Metrics,
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
    line: Line,
    road: watch::Receiver<Option<Road>>,
}

/// A take that is under way.
#[derive(Debug)]
pub struct Pending {
    found: oneshot::Receiver<Found>,
    wants: Arc<[Want]>,
    patience: Duration,
    /// Where a refusal is noted, and when the store was asked.
    notes: Option<(Arc<Shut>, Uptime)>,
}

impl Fleet {
    /// Starts connecting, on the runtime of the caller. The tasks end when the last clone is
    /// dropped; wait for them with the tracker.
    #[must_use]
    pub fn start(options: Options, clock: Arc<dyn Clock>, tasks: &TaskTracker) -> Self {
        let Options { address, tls, organisation, directory, patience, metrics } = options;
        let (asks, asked) = mpsc::channel(QUEUE_MAX);
        let is_up = Arc::<AtomicBool>::default();
        let memory = Memory::read(directory.as_deref(), &address, &organisation);
        let breaker = Breaker::new(Arc::clone(&is_up), metrics.breaker.clone());
        let dialer = Dialer {
            address,
            tls,
            organisation: organisation.clone(),
            memory,
            tasks: tasks.clone(),
        };
        let line = Line::default();
        let (ways, road) = watch::channel(None);
        let shard = Shard {
            line: line.clone(),
            asks: asked,
            dialer,
            breaker,
            metrics: metrics.clone(),
            clock,
            call_max: patience * 4 / 5,
            road: ways,
        };
        tasks.spawn(shard.run());
        let shut = Arc::default();
        Self { asks, is_up, organisation, patience, metrics, shut, line, road }
    }

    /// Whether takes go to the store now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Asks for everything a plan draws on.
    ///
    /// # Errors
    /// [`Denial::Away`], at once, when the store is.
    pub(crate) fn take(&self, plan: &Plan) -> Result<Pending, Denial> {
        if !self.is_up() || plan.draws.len() > DRAWS_MAX {
            return Err(Denial::Away);
        }
        let wants = wants(&self.organisation, plan);
        let (answer, found) = oneshot::channel();
        let ask = Ask { wants: Arc::clone(&wants), answer };
        self.asks.try_send(ask).map_err(|_| {
            self.metrics.queue_full.inc();
            Denial::Away
        })?;
        Ok(Pending { found, wants, patience: self.patience, notes: None })
    }

    /// The same, but the store is not asked where it has just refused the same.
    ///
    /// # Errors
    /// That refusal; or as [`Fleet::take`].
    pub(crate) fn take_unless_shut(&self, plan: &Plan, now: Uptime) -> Result<Pending, Denial> {
        if let Some(denial) = self.shut.denial(plan, now).filter(|_| self.is_up()) {
            self.metrics.shut.inc();
            return Err(denial);
        }
        let notes = Some((Arc::clone(&self.shut), now));
        self.take(plan).map(|pending| Pending { notes, ..pending })
    }

    /// The link in use, and how long a call of it may take.
    pub(crate) fn road(&self) -> Option<(Road, Duration)> {
        let road = self.road.borrow().clone();
        road.map(|road| (road, self.patience * 4 / 5))
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
        let Self { found, wants, patience, notes } = self;
        let found = tokio::time::timeout(patience, found).await;
        let found = found.ok().and_then(Result::ok).ok_or(Denial::Away)?;
        let settled = settle(plan, &wants, &found);
        if let (Err(Denial::Short { .. }), Some((shut, asked))) = (&settled, notes) {
            let draws = wants.iter().zip(&found.used);
            let shorts = draws.map(|(want, used)| want.coarse.take(*used, want.cost).err());
            shut.note(plan, shorts, asked);
        }
        settled
    }
}

/// What the store's decision means: the arithmetic of the embedded ledger on the levels found.
fn settle(plan: &Plan, wants: &[Want], found: &Found) -> Result<Reservation, Denial> {
    let draws = wants.iter().zip(&found.used);
    let taken: Vec<_> = draws.map(|(want, used)| want.coarse.take(*used, want.cost)).collect();
    let denial = worst(plan, taken.iter().map(|taken| taken.err()));
    if found.granted != denial.is_none() {
        // The script and the arithmetic disagree: a defect, on which nothing may pass.
        tracing::error!(?found, "Redis decided against the rules");
        return Err(Denial::Away);
    }
    if let Some(denial) = denial {
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

/// Longest wait of a request to learn what the store says, or that it says nothing.
pub const PATIENCE: Duration = Duration::from_millis(50);

/// Requests of a node that wait for the next call. When as many wait, the next is answered as if
/// the store were away.
const QUEUE_MAX: usize = 16_384;

#[cfg(test)]
pub(crate) mod tests;
