//! What the gate counts of its traffic.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::FixedState;
use model::{Code, Ending, Outcome, RulingKind};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use telemetry::prometheus::{LATENCY_SECONDS, Registry};

/// The gate's counters. Labels come from closed sets: never an agent's name or a path.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// What each core counts of its requests; summed when somebody asks.
    cores: Arc<Cores>,
    /// Open client connections.
    pub connections: Gauge,
    /// Those of them that wait for their next request without buffers.
    pub connections_parked: Gauge,
    /// Connections closed at once because the node held as many as it may.
    pub connections_refused: Counter,
    /// Connections opened to upstreams.
    pub upstream_connections: Counter,
    /// Requests that wait for their turn in a limit's queue.
    pub queued: Gauge,
    /// Of requests that may be repeated.
    pub guarded: Guarded,
    /// Connections that ended because what they sent was no HTTP; they have no record.
    pub malformed: Counter,
    /// Requests answered with 503 because the record's queue was full; they have no record.
    pub unrecorded: Counter,
}

/// What the gate counts of requests that may be repeated.
#[derive(Clone, Debug, Default)]
pub struct Guarded {
    /// Those under way, and those that wait for one.
    pub under_way: Gauge,
    /// Bytes of their bodies and answers in memory, and of those that prices read.
    pub bytes: Gauge,
    /// Bodies and answers of which a piece found no room in that memory.
    pub full: Counter,
    /// Answers that are heard for what they say of a price, although their clients have gone.
    pub settling: Gauge,
    /// Those answered with what the same request was answered before.
    pub replayed: Counter,
}

impl Guarded {
    fn register(self, registry: &mut Registry) {
        let Self { under_way, bytes, full, settling, replayed } = self;
        registry.register(
            "guarded",
            "Requests under way that may be repeated, or that wait for one",
            under_way,
        );
        registry.register("guarded_bytes", "Bytes of bodies held in memory", bytes);
        registry.register(
            "guarded_full",
            "Bodies that were not held, since the node held as many bytes as it may",
            full,
        );
        registry.register("settling", "Answers waited for whose clients have gone", settling);
        registry.register("replayed", "Requests that got an earlier one's answer", replayed);
    }
}

/// The counts of every core.
#[derive(Debug, Default)]
struct Cores(Mutex<Vec<Arc<Counts>>>);

/// What one core counts. Only that core writes, so that no two cores wait for one cache line.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Requests that ended, by the hundreds of their status and by their ending.
    requests: [[AtomicU64; Ending::ALL.len()]; CLASSES.len()],
    /// Requests the gate refused.
    refusals: [AtomicU64; Code::ALL.len()],
    /// What policies decided, and what they would have with those that are only reported.
    rulings: [[AtomicU64; RulingKind::ALL.len()]; 2],
    /// Requests that ended, by the operation they called. Names come from the catalogues of APIs, so
    /// there are never more than those have.
    operations: Mutex<HashMap<Cow<'static, str>, u64, FixedState>>,
    /// From the end of the head to the end of the answer.
    latency: Latency,
    /// From the first try to the upstream's answer's head.
    upstream: Latency,
}

/// A histogram.
#[derive(Debug, Default)]
struct Latency {
    /// How many were at most as long as the bound of this place and longer than the one before;
    /// the last place has no bound.
    counts: [AtomicU64; LATENCY_SECONDS.len() + 1],
    micros: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// `2xx`, or `none` when no answer was sent.
    status: &'static str,
    ending: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    code: &'static str,
}

impl Metrics {
    /// Makes the counters and names them in the registry.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            cores: Arc::default(),
            connections: Gauge::default(),
            connections_parked: Gauge::default(),
            connections_refused: Counter::default(),
            upstream_connections: Counter::default(),
            queued: Gauge::default(),
            guarded: Guarded::default(),
            malformed: Counter::default(),
            unrecorded: Counter::default(),
        };
        let all = metrics.clone();
        registry.register_collector(all.cores);
        registry.register("connections", "Open client connections", all.connections);
        registry.register(
            "connections_parked",
            "Open client connections that idle without buffers",
            all.connections_parked,
        );
        registry.register(
            "connections_refused",
            "Client connections above the bound",
            all.connections_refused,
        );
        registry.register(
            "upstream_connections",
            "Connections opened to upstreams",
            all.upstream_connections,
        );
        registry.register("queued", "Requests waiting for their turn", all.queued);
        all.guarded.register(registry);
        registry.register(
            "malformed",
            "Connections that ended because what they sent was no HTTP",
            all.malformed,
        );
        registry.register(
            "unrecorded",
            "Requests refused because the record's queue was full",
            all.unrecorded,
        );
        metrics
    }

    /// The counts of one more core.
    pub(crate) fn for_core(&self) -> Arc<Counts> {
        let counts = Arc::new(Counts::default());
        self.cores.0.lock().push(Arc::clone(&counts));
        counts
    }
}

impl Counts {
    /// Counts a request that has ended.
    pub(crate) fn count(&self, outcome: &Outcome) {
        let class = usize::from(outcome.status / 100);
        let class = self.requests.get(class).unwrap_or(&self.requests[0]);
        add(class.get(outcome.ending as usize), 1);
        if let Some(code) = outcome.refusal {
            add(self.refusals.get(code as usize), 1);
        }
        if let Some(ruling) = &outcome.ruling {
            let [enforced, shadow] = &self.rulings;
            add(enforced.get(ruling.kind as usize), 1);
            let other = ruling.shadow.as_ref().map_or(ruling.kind, |shadow| shadow.kind);
            add(shadow.get(other as usize), 1);
        }
        self.count_operation(outcome);
        self.latency.observe(outcome.timing.total);
        if let Some(upstream) = outcome.timing.upstream {
            self.upstream.observe(upstream);
        }
    }
}

impl Counts {
    fn count_operation(&self, outcome: &Outcome) {
        let Some(operation) = &outcome.operation else { return };
        let mut counts = self.operations.lock();
        match counts.get_mut(&**operation) {
            Some(count) => *count += 1,
            None => {
                counts.insert(operation.clone(), 1);
            }
        }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            requests: Default::default(),
            refusals: [const { AtomicU64::new(0) }; Code::ALL.len()],
            rulings: [const { [const { AtomicU64::new(0) }; RulingKind::ALL.len()] }; 2],
            operations: Mutex::default(),
            latency: Latency::default(),
            upstream: Latency::default(),
        }
    }
}

impl Latency {
    fn observe(&self, took: Duration) {
        let secs = took.as_secs_f64();
        let place = LATENCY_SECONDS.iter().take_while(|bound| secs > **bound).count();
        add(self.counts.get(place), 1);
        add(Some(&self.micros), u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

/// Only one core writes, so that a load and a store are enough.
fn add(count: Option<&AtomicU64>, more: u64) {
    if let Some(count) = count {
        count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}

impl Collector for Cores {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let cores = self.0.lock().clone();
        requests(&cores, &mut encoder)?;
        refusals(&cores, &mut encoder)?;
        rulings(&cores, &mut encoder)?;
        operations(&cores, &mut encoder)?;
        let (name, help) = ("request_seconds", "Head to end of answer");
        latency(&cores, &mut encoder, (name, help), |counts| &counts.latency)?;
        let (name, help) = ("upstream_seconds", "First try to answer");
        latency(&cores, &mut encoder, (name, help), |counts| &counts.upstream)
    }
}

fn requests(cores: &[Arc<Counts>], encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
    let help = "Requests that ended";
    let mut family = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
    for (class, status) in CLASSES.into_iter().enumerate() {
        for ending in Ending::ALL {
            let sum = sum(cores, |counts| counts.requests.get(class)?.get(ending as usize));
            if sum > 0 {
                let labels = RequestLabels { status, ending: ending.as_str() };
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&sum, None)?;
            }
        }
    }
    Ok(())
}

fn refusals(cores: &[Arc<Counts>], encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
    let help = "Requests the gate refused";
    let mut family = encoder.encode_descriptor("refusals", help, None, MetricType::Counter)?;
    for code in Code::ALL {
        let sum = sum(cores, |counts| counts.refusals.get(*code as usize));
        if sum > 0 {
            let labels = RefusalLabels { code: code.as_str() };
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&sum, None)?;
        }
    }
    Ok(())
}

/// With policies that are only reported (`shadow`), and as it was decided.
fn rulings(cores: &[Arc<Counts>], encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
    let help = "What policies decided; as `shadow`, what they would have with those only reported";
    let name = "policy_decisions";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (place, mode) in [(0, "enforced"), (1, "shadow")] {
        for kind in RulingKind::ALL {
            let sum = sum(cores, |counts| counts.rulings.get(place)?.get(kind as usize));
            if sum > 0 {
                let labels = [("decision", kind.as_str()), ("mode", mode)];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&sum, None)?;
            }
        }
    }
    Ok(())
}

fn operations(cores: &[Arc<Counts>], encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
    let help = "Requests that ended, by the operation they called";
    let mut family = encoder.encode_descriptor("operations", help, None, MetricType::Counter)?;
    let mut sums: BTreeMap<Cow<'static, str>, u64> = BTreeMap::new();
    for counts in cores {
        for (operation, count) in &*counts.operations.lock() {
            *sums.entry(operation.clone()).or_default() += count;
        }
    }
    for (operation, sum) in &sums {
        let labels = [("operation", &**operation)];
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(sum, None)?;
    }
    Ok(())
}

fn latency(
    cores: &[Arc<Counts>],
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    of: impl Fn(&Counts) -> &Latency,
) -> std::fmt::Result {
    let bounds = LATENCY_SECONDS.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds
        .enumerate()
        .map(|(place, bound)| (bound, sum(cores, |counts| of(counts).counts.get(place))))
        .collect();
    let count = buckets.iter().map(|(_, count)| count).sum();
    let micros = Duration::from_micros(sum(cores, |counts| Some(&of(counts).micros)));
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    encoder.encode_histogram::<NoLabelSet>(micros.as_secs_f64(), count, &buckets, None)
}

fn sum<'a>(cores: &'a [Arc<Counts>], of: impl Fn(&'a Counts) -> Option<&'a AtomicU64>) -> u64 {
    let one = |counts: &'a Arc<Counts>| of(counts).map_or(0, |count| count.load(Ordering::Relaxed));
    cores.iter().map(one).fold(0, u64::wrapping_add)
}

/// The hundreds of a status as labels; the first stands for everything that is no status.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

#[cfg(test)]
mod tests {
    use telemetry::prometheus::Registry;

    use super::{Duration, Metrics, Ordering};

    #[test]
    fn the_counts_of_all_cores_are_summed() {
        let mut registry = Registry::new();
        let metrics = Metrics::register(&mut registry);
        for millis in [1, 3] {
            let counts = metrics.for_core();
            counts.latency.observe(Duration::from_millis(millis));
            counts.requests[2][0].fetch_add(millis, Ordering::Relaxed);
            counts.refusals[0].fetch_add(1, Ordering::Relaxed);
        }
        let text = registry.encode();
        for line in [
            "tollgate_requests_total{status=\"2xx\",ending=\"complete\"} 4",
            "tollgate_request_seconds_count 2",
            "tollgate_request_seconds_sum 0.004",
            "tollgate_request_seconds_bucket{le=\"0.001\"} 1",
            "tollgate_request_seconds_bucket{le=\"0.005\"} 2",
            "tollgate_request_seconds_bucket{le=\"+Inf\"} 2",
            "tollgate_upstream_seconds_count 0",
        ] {
            assert!(text.lines().any(|other| other == line), "no {line} in\n{text}");
        }
        assert!(text.contains("tollgate_refusals_total{code="), "{text}");
    }
}
