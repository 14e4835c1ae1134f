//! What the accounts of a node count.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use telemetry::prometheus::Registry;

/// The metrics of budgets. Clones count into the same cells.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Calls that budgets bind, by what became of their holds.
    pub(crate) holds: Family<Hold, Counter>,
    /// Reservations that ended, by how.
    pub(crate) endings: Family<Ending, Counter>,
    /// Calls that did cost more than they held.
    pub(crate) overruns: Counter,
    /// Thresholds that were reached.
    pub(crate) thresholds: Counter,
    /// Calls that hold something now.
    pub(crate) open: Gauge,
    /// Accounts in memory.
    pub(crate) rows: Gauge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Hold {
    pub(crate) result: Holding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants' names are the label's values")]
pub(crate) enum Holding {
    held,
    overdrawn,
    unavailable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Ending {
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants' names are the label's values")]
pub(crate) enum How {
    settled,
    voided,
    assumed,
}

impl Metrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let Self { holds, endings, overruns, thresholds, open, rows } = self;
        registry.register(
            "budget_holds",
            "Requests that budgets bind, by whether they could pay",
            holds.clone(),
        );
        registry.register(
            "budget_reservations_ended",
            "Reservations that ended: settled, voided, or assumed spent after a crash",
            endings.clone(),
        );
        registry.register(
            "budget_overruns",
            "Requests that did cost more than they held",
            overruns.clone(),
        );
        registry.register("budget_thresholds", "Thresholds reached", thresholds.clone());
        registry.register("budget_reservations", "Requests that hold money now", open.clone());
        registry.register(
            "budget_accounts",
            "Accounts in memory: with Redis those that this node has spent of",
            rows.clone(),
        );
    }

    pub(crate) fn held(&self, result: Holding) {
        self.holds.get_or_create(&Hold { result }).inc();
    }

    /// Calls that hold something, and accounts.
    pub(crate) fn gauge(&self, open: usize, rows: usize) {
        self.open.set(i64::try_from(open).unwrap_or(i64::MAX));
        self.rows.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    pub(crate) fn ended(&self, how: How) {
        self.endings.get_or_create(&Ending { how }).inc();
    }
}
