//! What the turns at upstreams come to. Labels are the ids of quotas, which operators choose.

use std::time::Duration;

use model::{QuotaId, Uptime};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use telemetry::prometheus::{LATENCY_SECONDS, Registry};

use super::line::Line;
use super::{NoTurn, Turn};

/// The metrics of quotas. Clones count into the same cells. Where a quota counts several
/// credentials, a gauge shows the one that was stepped last.
#[derive(Clone, Debug)]
pub struct QuotaMetrics {
    /// Calls that wanted a turn, by what they got.
    turns: Family<Turns, Counter>,
    /// Calls that could not be counted, by what became of them.
    uncounted: Family<Uncounted, Counter>,
    /// Calls of the whole fleet that count now.
    used: Family<Of, Gauge>,
    /// Calls of others on the same credential, as far as they are known.
    headroom: Family<Of, Gauge>,
    /// Calls of this node that wait.
    waiting: Family<Of, Gauge>,
    /// Seconds for which the upstream is left alone.
    blocked: Family<Of, Gauge>,
    /// How long calls waited for their turns.
    pub(super) waits: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    quota: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Turns {
    quota: String,
    result: Result,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants' names are the label's values")]
enum Result {
    given,
    late,
    blocked,
    away,
    full,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Uncounted {
    quota: String,
    action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants' names are the label's values")]
enum Action {
    passed,
    refused,
}

impl Default for QuotaMetrics {
    fn default() -> Self {
        Self {
            turns: Family::default(),
            uncounted: Family::default(),
            used: Family::default(),
            headroom: Family::default(),
            waiting: Family::default(),
            blocked: Family::default(),
            waits: Histogram::new(LATENCY_SECONDS),
        }
    }
}

impl QuotaMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let Self { turns, uncounted, used, headroom, waiting, blocked, waits } = self.clone();
        registry.register("quota_turns", "Calls that wanted a turn, by what they got", turns);
        registry.register("quota_uncounted", "Calls that could not be counted", uncounted);
        registry.register("quota_used", "Calls of the fleet that count now", used);
        registry.register("quota_headroom", "Calls of others on the credential", headroom);
        registry.register("quota_waiting", "Calls of this node that wait for a turn", waiting);
        registry.register("quota_blocked_seconds", "How long the upstream is left alone", blocked);
        registry.register("quota_wait_seconds", "How long calls waited for a turn", waits);
    }

    pub(super) fn count(&self, quota: &QuotaId, waited: &std::result::Result<Turn, NoTurn>) {
        let result = match waited {
            Ok(_) => Result::given,
            Err(NoTurn::Late(_)) => Result::late,
            Err(NoTurn::Blocked(_)) => Result::blocked,
            Err(NoTurn::Away) => Result::away,
            Err(NoTurn::Full) => Result::full,
        };
        self.turns.get_or_create(&Turns { quota: quota.to_string(), result }).inc();
    }

    pub(super) fn uncounted(&self, quota: &QuotaId, passed: bool) {
        let action = if passed { Action::passed } else { Action::refused };
        self.uncounted.get_or_create(&Uncounted { quota: quota.to_string(), action }).inc();
    }

    /// Shows what the last step said of a line.
    pub(super) fn show(&self, line: &Line, now: Uptime) {
        let of = Of { quota: line.key.quota.to_string() };
        let set = |family: &Family<Of, Gauge>, value: u64| {
            family.get_or_create(&of).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.used, line.seen.used);
        set(&self.headroom, line.seen.headroom);
        set(&self.waiting, line.waiting() as u64);
        set(&self.blocked, seconds(line.blocked(now)));
    }

    /// Shows nothing of a quota any more.
    pub(super) fn forget(&self, quota: &QuotaId) {
        let of = Of { quota: quota.to_string() };
        for family in [&self.used, &self.headroom, &self.waiting, &self.blocked] {
            family.remove(&of);
        }
    }
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
