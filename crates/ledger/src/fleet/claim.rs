//! Money of the fleet as a gate asks for it, and as its operators see it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::{BudgetId, Clock};
use redis::RedisError;
use rules::budget::{Account, Budget, RowKey};
use rules::plan::Plan;
use tokio::sync::{mpsc, oneshot};

use super::Fleet;
use super::batch::Found;
use super::key::Organisation;
use super::money::{self, Page, Purse, Row, Telling, Verdict, View, Wanted};
use super::road::Road;
use super::teller::Order;
use crate::metrics::Metrics;
use crate::money::{AdjustError, Adjustment, BudgetMetrics, Crossing, Event, Holding};
use crate::storage::Error;
use crate::{Denial, Held, Reservation, Standing, Statement};

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
        (organisation, node): (&Organisation, Arc<str>),
        directory: Option<&Path>,
        clock: &Arc<dyn Clock>,
        (metrics, budgets): (&Metrics, BudgetMetrics),
    ) -> Result<(Arc<Self>, mpsc::Receiver<Order>), Error> {
        let name = (organisation.clone(), Arc::clone(&node));
        let metrics = (metrics.thresholds.clone(), budgets);
        let purse = Purse::open(directory, name, Arc::clone(clock), metrics)?;
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

    /// Adds what this node's journal says to a statement.
    pub(crate) fn state(&self, statement: &mut Statement) {
        self.till.purse.state(statement);
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

    /// Charges all that a node which is gone still holds: nobody knows what its calls did. Answers
    /// how many holds that were; `None` when the store did not take them in some seconds. Should
    /// the node come back, what it knows of them counts instead.
    pub async fn estimate(&self, node: &str) -> Option<usize> {
        let mut charged = 0;
        loop {
            let (answer, done) = oneshot::channel();
            let some = self.order(Order::Estimate(Arc::from(node), answer), done).await?;
            if some == 0 {
                return Some(charged);
            }
            charged += some;
            // What is charged leaves the way to the others.
            tokio::time::timeout(ORDER_MAX, self.till.purse.charged()).await.ok()?;
        }
    }

    /// The budgets that the node serves: thresholds are judged by them where no call is at hand.
    pub fn know(&self, budgets: &[Arc<Budget>]) {
        self.till.purse.know(budgets);
    }

    /// Where thresholds are told that this node was the first of its fleet to reach; `None` to all
    /// who ask but the first. At most 1,024 wait to be taken; what comes then is only logged.
    #[must_use]
    pub fn crossings(&self) -> Option<mpsc::Receiver<Crossing>> {
        self.till.purse.herald.crossings()
    }

    /// Adjusts what a row may spend: on this node's disk and in the store. Answers the row, and
    /// whether it was adjusted now: not when the id was used for the same before, at any node.
    ///
    /// # Errors
    /// When it cannot be done, or is not known to be: then it may count later, and who repeats it
    /// under the same id learns that.
    pub async fn adjust(
        &self,
        budget: &Budget,
        adjustment: Adjustment,
    ) -> Result<(Account, bool), AdjustError> {
        self.till.purse.begin();
        if !self.is_open() {
            return Err(AdjustError::Away);
        }
        let (of, row) =
            (Row::of(&self.organisation, budget, &adjustment.row), adjustment.row.clone());
        match self.till.purse.adjust(of, adjustment).await {
            Some(adjusted) => adjusted,
            None => Ok((self.account(&row).await.ok_or(AdjustError::Away)?, false)),
        }
    }

    /// A row as the store has it; `None` where it cannot be asked.
    pub async fn account(&self, row: &RowKey) -> Option<Account> {
        self.look(async |mut road, view| money::account(&mut road.connection, view, row).await)
            .await
    }

    /// Some of a budget's rows, behind so many of earlier pages; `None` where the store cannot be
    /// asked, or does not know all of them.
    pub async fn page(&self, budget: &Budget, from: u64, limit: usize) -> Option<Page> {
        let of = (from, limit);
        let page = async |mut road: Road, view: View<'_>| {
            money::page(&mut road.connection, view, budget, of).await
        };
        self.look(page).await
    }

    /// What happened to a budget's rows besides calls at all nodes, oldest first: the newest 4,096
    /// events. `None` where the store cannot be asked.
    pub async fn history(&self, budget: &BudgetId) -> Option<Vec<Event>> {
        let organisation = &self.organisation;
        let events = async |mut road: Road, _: View<'_>| {
            money::events(&mut road.connection, organisation, budget).await
        };
        self.look(events).await
    }

    /// Asks the store for operators, who wait longer than requests.
    async fn look<T>(
        &self,
        ask: impl AsyncFnOnce(Road, View<'_>) -> Result<T, RedisError>,
    ) -> Option<T> {
        let (road, _) = self.road().filter(|_| self.is_open())?;
        let now = self.till.purse.now();
        let view = View { organisation: &self.organisation, epoch: road.epoch, now };
        match tokio::time::timeout(ORDER_MAX, ask(road, view)).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                tracing::warn!(%error, "Redis did not say what stands in the budgets");
                None
            }
            Err(_) => None,
        }
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
            self.purse.count(Holding::unavailable);
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
            fleet.till.purse.count(Holding::unavailable);
            return Err(Denial::Away);
        }
        if !fleet.till.purse.seat(&wanted) {
            fleet.till.purse.count(Holding::unavailable);
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
            match &taken {
                Err(Denial::Overdrawn { .. }) => self.purse.count(Holding::overdrawn),
                Err(Denial::Away | Denial::Mismatch | Denial::Crowded { .. }) => {
                    self.purse.count(Holding::unavailable);
                }
                Ok(_) | Err(Denial::Short { .. } | Denial::Full { .. }) => {}
            }
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
        self.purse.count(Holding::held);
        if standing != Standing::Reserved {
            self.purse.unseat(self.wanted.id);
        }
        let held = Held::shared(&self.purse, plan, standing);
        Ok(Reservation { held: Some(Box::new(held)), ..taken })
    }
}

/// Longest wait of an operator.
const ORDER_MAX: Duration = Duration::from_secs(5);
