//! Tells of thresholds that a row was the first of the fleet to reach.

use std::collections::HashMap;
use std::sync::Arc;

use model::{BudgetId, Timestamp};
use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::counter::Counter;
use rules::budget::Budget;
use tokio::sync::mpsc;

use super::Row;
use super::books::Reached;
use crate::money::{BudgetMetrics, CROSSINGS_MAX, Crossing};

/// What a node knows of budgets besides its calls, and who wants to know of their thresholds.
#[derive(Debug)]
pub(crate) struct Herald {
    /// The budgets that the node serves.
    budgets: RwLock<HashMap<BudgetId, Arc<Budget>>>,
    told: mpsc::Sender<Crossing>,
    /// Until somebody asks.
    hearer: Mutex<Option<mpsc::Receiver<Crossing>>>,
    /// What was reached of budgets that the node does not know yet: it has just started.
    untold: Mutex<Vec<(Timestamp, Reached)>>,
    /// Counts every threshold that is reached.
    thresholds: Counter,
    metrics: BudgetMetrics,
}

impl Herald {
    pub(crate) fn new(thresholds: Counter, metrics: BudgetMetrics) -> Self {
        let (told, hearer) = mpsc::channel(CROSSINGS_MAX);
        Self {
            budgets: RwLock::default(),
            told,
            hearer: Mutex::new(Some(hearer)),
            untold: Mutex::default(),
            thresholds,
            metrics,
        }
    }

    /// Where thresholds are told, to the first who asks. At most 1,024 wait to be taken; what comes
    /// then is only logged.
    pub(crate) fn crossings(&self) -> Option<mpsc::Receiver<Crossing>> {
        self.hearer.lock().take()
    }

    /// The budgets that the node serves from now on.
    pub(crate) fn know(&self, budgets: &[Arc<Budget>]) {
        let known = budgets.iter().map(|budget| (budget.id.clone(), Arc::clone(budget)));
        *self.budgets.write() = known.collect();
        let untold = std::mem::take(&mut *self.untold.lock());
        for (at, reached) in untold {
            self.send(at, reached);
        }
    }

    /// Whether it knows any budget.
    pub(crate) fn knows(&self) -> bool {
        !self.budgets.read().is_empty()
    }

    /// The budget that counts in a row as it is served.
    pub(crate) fn budget_of(&self, row: &Row) -> Option<Arc<Budget>> {
        let is = row.is.as_ref()?;
        let budgets = self.budgets.read();
        budgets.get(&is.budget).filter(|budget| is.is_of(budget)).cloned()
    }

    /// The row with what its budget says, where the node knows it.
    pub(crate) fn under(&self, row: Row) -> Option<Row> {
        self.budget_of(&row).map(|budget| row.under(&budget))
    }

    /// Thresholds of a row have fired over the whole fleet.
    pub(crate) fn tell(&self, at: Timestamp, reached: Reached) {
        let row = &reached.row;
        for percent in &reached.percents {
            self.thresholds.inc();
            self.metrics.thresholds.inc();
            let (account, is) = (String::from_utf8_lossy(&row.key), row.is.as_deref());
            let budget = is.map(|is| is.budget.as_str());
            let subject = is.map_or_else(|| account.into_owned(), |is| is.subject.to_string());
            tracing::warn!(budget, subject, percent, "a budget's threshold is reached");
        }
        self.send(at, reached);
    }

    fn send(&self, at: Timestamp, reached: Reached) {
        let Some(budget) = self.budget_of(&reached.row) else {
            let mut untold = self.untold.lock();
            if untold.len() < CROSSINGS_MAX {
                untold.push((at, reached));
            }
            return;
        };
        let Reached { row, percents, account } = reached;
        let Some(row) = row.is.as_deref() else { return };
        for percent in percents {
            let (budget, row) = (Arc::clone(&budget), row.clone());
            let crossing = Crossing { at, budget, row, percent, account };
            if self.told.try_send(crossing).is_err() {
                tracing::warn!("too many thresholds wait to be told; this one is only logged");
            }
        }
    }
}
