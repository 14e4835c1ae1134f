//! What the fleet's ledger counts of its store.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use telemetry::prometheus::{LATENCY_SECONDS, Registry};

/// The ledger's metrics. Clones count into the same cells.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Calls of the store that ended, by how.
    pub(crate) calls: Family<Call, Counter>,
    /// From sending a call to its answer.
    pub(crate) seconds: Histogram,
    /// Plans in a call.
    pub(crate) plans: Histogram,
    /// 0 while calls go out, 1 while one connection is tried, 2 while none is.
    pub(crate) breaker: Gauge,
    /// Epochs this node came to, by how.
    pub(crate) epochs: Family<Epoch, Counter>,
    /// Requests that could not be counted, by what became of them.
    pub(crate) uncounted: Family<Uncounted, Counter>,
    /// Requests that found the queue to the store full; they are uncounted too.
    pub(crate) queue_full: Counter,
    /// Requests refused without a call, since the store had just refused the same.
    pub(crate) shut: Counter,
    /// Thresholds of budgets that this node's calls were the first to reach.
    pub(crate) thresholds: Counter,
    /// Buckets that this node leases of, or would.
    pub(crate) leases: Gauge,
    /// The era of what the cluster has agreed on about the store.
    pub(crate) era: Gauge,
    /// 1 while this node has a share of the limits that are shared.
    pub(crate) sharing: Gauge,
    /// Tokens of leases, by what became of them.
    pub(crate) lease_tokens: Family<LeaseTokens, Counter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LeaseTokens {
    pub(crate) fate: TokensFate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants' names are the label's values")]
pub(crate) enum TokensFate {
    granted,
    spent,
    returned,
    lapsed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Call {
    pub(crate) result: CallResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants' names are the label's values")]
pub(crate) enum CallResult {
    answered,
    late,
    failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Epoch {
    pub(crate) found: EpochFound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants' names are the label's values")]
pub(crate) enum EpochFound {
    joined,
    first,
    lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Uncounted {
    pub(crate) action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants' names are the label's values")]
pub(crate) enum Action {
    passed,
    refused,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            seconds: Histogram::new(LATENCY_SECONDS),
            plans: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
            breaker: Gauge::default(),
            epochs: Family::default(),
            uncounted: Family::default(),
            queue_full: Counter::default(),
            shut: Counter::default(),
            thresholds: Counter::default(),
            leases: Gauge::default(),
            era: Gauge::default(),
            sharing: Gauge::default(),
            lease_tokens: Family::default(),
        }
    }
}

impl Metrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let Self { calls, seconds, plans, breaker, epochs, uncounted, queue_full, .. } = self;
        let Self { shut, leases, lease_tokens, thresholds, era, sharing, .. } = self;
        registry.register(
            "ledger_era",
            "Grows whenever the cluster agrees anew on who counts limits",
            era.clone(),
        );
        registry.register(
            "ledger_sharing",
            "1 while Redis is left alone and this node has a share of the limits",
            sharing.clone(),
        );
        registry.register(
            "ledger_thresholds",
            "Thresholds of budgets in Redis that calls of this node reached first",
            thresholds.clone(),
        );
        registry.register("ledger_calls", "Calls of Redis that ended, by how", calls.clone());
        registry.register("ledger_call_seconds", "Duration of calls of Redis", seconds.clone());
        registry.register("ledger_call_plans", "Requests in one call of Redis", plans.clone());
        registry.register(
            "ledger_breaker",
            "0 while Redis is used, 1 while it is tried, 2 while it is left alone",
            breaker.clone(),
        );
        registry.register("ledger_epochs", "Epochs of Redis this node came to", epochs.clone());
        registry.register(
            "ledger_uncounted",
            "Requests that could not be counted, by what became of them",
            uncounted.clone(),
        );
        registry.register(
            "ledger_queue_full",
            "Requests that found the queue to Redis full",
            queue_full.clone(),
        );
        registry.register(
            "ledger_shut",
            "Requests refused without a call, since Redis had just refused the same",
            shut.clone(),
        );
        registry.register("ledger_leases", "Buckets this node leases of", leases.clone());
        registry.register(
            "ledger_lease_tokens",
            "Tokens of leases, by what became of them",
            lease_tokens.clone(),
        );
    }
}
