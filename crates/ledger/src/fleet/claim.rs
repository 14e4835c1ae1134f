//! Money of the fleet as a gate asks for it, and as its operators see it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::{Amount, Clock, ReservationId};
use rules::budget::{Budget, RowKey};
use rules::plan::Plan;
use tokio::sync::{mpsc, oneshot};

use super::Fleet;
use super::batch::Found;
use super::money::{Purse, Row, Telling, Verdict, Wanted};
use super::teller::Order;
use crate::metrics::Metrics;
use crate::storage::Error;
use crate::{Denial, Held, Reservation, Standing};

/// How the fleet's money stands, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    /// Whether the store can be asked.
    pub is_up: bool,
    /// Whether money can be held.
    pub is_open: bool,
    /// When the store's life began in which this node has told it all, in microseconds since
    /// 1970; 0: never.
    pub epoch: u64,
    /// This node's holds that are open.
    pub open: usize,
    /// This node's ends that the store has not taken yet.
    pub waiting: usize,
    /// What the fleet calls this node.
    pub node: Arc<str>,
    /// Every node that ever held money.
    pub nodes: BTreeMap<String, Telling>,
}

/// What a node does with money.
#[derive(Debug)]
pub(crate) struct Till {
    /// What the fleet calls this node.
    pub(crate) node: Arc<str>,
    pub(crate) purse: Arc<Purse>,
    orders: mpsc::Sender<Order>,
}

impl Till {
    /// Opens the node's journal in a directory, where there is one. Answers where orders come out.
    ///
    /// # Errors
    /// When the journal cannot be used, is damaged, or was written by a later version.
    pub(crate) fn open(
        node: Arc<str>,
        directory: Option<&Path>,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<(Arc<Self>, mpsc::Receiver<Order>), Error> {
        let purse = Purse::open(directory, Arc::clone(clock), metrics.thresholds.clone())?;
        let (orders, ordered) = mpsc::channel(1);
        Ok((Arc::new(Self { node, purse: Arc::new(purse), orders }), ordered))
    }
}

impl Fleet {
    /// From now on this node takes part in the money of its fleet. A node with budgets says so
    /// when it starts, else its first request that holds anything is refused.
    pub fn begin_money(&self) {
        self.till.purse.begin();
    }

    /// Whether money can be held now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_up() && self.till.purse.is_open()
    }

    /// How its money stands.
    #[must_use]
    pub fn money(&self) -> Money {
        let (open, waiting) = self.till.purse.counts();
        Money {
            is_up: self.is_up(),
            is_open: self.is_open(),
            epoch: self.till.purse.epoch(),
            open,
            waiting,
            node: Arc::clone(&self.till.node),
            nodes: self.till.purse.nodes(),
        }
    }

    /// Opens money without what a node has spent that does not come back. It counts again should
    /// the node come back after all. `false` where the node has told what it has spent; `None` when
    /// the store did not take it in some seconds.
    pub async fn excuse(&self, node: &str) -> Option<bool> {
        let (answer, done) = oneshot::channel();
        self.order(Order::Excuse(Arc::from(node), answer), done).await
    }

    /// Charges what a node that is gone still holds: nobody knows what its calls did. Answers how
    /// many holds that were, at most some hundreds at a time; `None` when the store did not say so
    /// in some seconds. Should the node come back, what it knows of them counts instead.
    pub async fn estimate(&self, node: &str) -> Option<usize> {
        let (answer, done) = oneshot::channel();
        self.order(Order::Estimate(Arc::from(node), answer), done).await
    }

    /// Adds to what a row may spend; negative takes. Done once under its id.
    pub fn adjust(&self, id: ReservationId, budget: &Budget, row: &RowKey, by: Amount) {
        let row = Row::of(&self.organisation, budget, row);
        self.till.purse.begin();
        self.till.purse.adjust(id.0, &row, by);
    }

    async fn order<T>(&self, order: Order, done: oneshot::Receiver<T>) -> Option<T> {
        let ordered = async {
            self.till.orders.send(order).await.ok()?;
            done.await.ok()
        };
        tokio::time::timeout(ORDER_MAX, ordered).await.ok()?
    }
}

/// Holds that the store was asked for: void, unless the answer comes and is taken.
#[derive(Debug)]
pub(crate) struct Claim {
    purse: Arc<Purse>,
    pub(crate) wanted: Arc<Wanted>,
    is_answered: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_answered {
            self.purse.cancel(&self.wanted);
        }
    }
}

impl Claim {
    /// Of what a plan holds, with a seat for it; `None` of a plan that holds nothing.
    ///
    /// # Errors
    /// [`Denial::Away`] when money is closed or could not be made durable, [`Denial::Crowded`]
    /// when this node has no seat for another hold.
    pub(crate) fn of(fleet: &Fleet, plan: &Plan) -> Result<Option<Self>, Denial> {
        let wanted = Wanted::of(&fleet.organisation, plan);
        let Some(wanted) = wanted else { return Ok(None) };
        fleet.till.purse.begin();
        if !fleet.is_open() || !fleet.till.purse.can_write(&plan.holds) {
            return Err(Denial::Away);
        }
        if !fleet.till.purse.seat(&wanted) {
            return Err(Denial::Crowded { hold: 0 });
        }
        let purse = Arc::clone(&fleet.till.purse);
        Ok(Some(Self { purse, wanted, is_answered: false }))
    }

    /// What the store's answer makes of it. If that is not certain to be nothing it is void.
    ///
    /// # Errors
    /// Why nothing was taken, or that the store has forgotten it meanwhile.
    pub(crate) fn answered(
        mut self,
        plan: &Plan,
        found: &Found,
        taken: Result<Reservation, Denial>,
    ) -> Result<Reservation, Denial> {
        let holds = found.holds.as_ref().filter(|_| found.granted);
        let Some(holds) = holds else {
            self.is_answered = true;
            self.purse.unseat(self.wanted.id);
            return taken;
        };
        let taken = taken?;
        let standing = match holds.verdict {
            Verdict::Settled => Standing::Settled,
            Verdict::Voided => Standing::Voided,
            Verdict::New
            | Verdict::Known
            | Verdict::Short
            | Verdict::Mismatch
            | Verdict::Closed => {
                if !self.purse.keep(self.wanted.id, holds.epoch) {
                    return Err(Denial::Away);
                }
                Standing::Reserved
            }
        };
        self.is_answered = true;
        if standing != Standing::Reserved {
            self.purse.unseat(self.wanted.id);
        }
        let held = Held::shared(&self.purse, plan, standing);
        Ok(Reservation { held: Some(Box::new(held)), ..taken })
    }
}

/// Longest wait of an operator.
const ORDER_MAX: Duration = Duration::from_secs(5);
