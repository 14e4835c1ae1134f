//! What the gate counts of its traffic.

use model::{Code, Ending, Outcome};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use telemetry::prometheus::{Registry, latency_seconds};

/// The gate's counters. Labels come from closed sets: never an agent's name or a path.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Moves once a request, when its outcome is recorded.
    pub requests: Family<RequestLabels, Counter>,
    /// Moves once a refused request.
    pub refusals: Family<RefusalLabels, Counter>,
    /// From the end of the head to the end of the answer.
    pub latency: Histogram,
    /// From the first try to the upstream's answer's head.
    pub upstream_latency: Histogram,
    /// Open client connections.
    pub connections: Gauge,
    /// Connections closed at once because the node held as many as it may.
    pub connections_refused: Counter,
    /// Connections opened to upstreams.
    pub upstream_connections: Counter,
    /// Requests that wait for their turn in a limit's queue.
    pub queued: Gauge,
    /// Requests answered with 503 because the record's queue was full; they have no record.
    pub unrecorded: Counter,
}

/// Labels of [`Metrics::requests`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `2xx`, or `none` when no answer was sent.
    pub status: StatusClass,
    pub ending: EndingLabel,
}

/// Labels of [`Metrics::refusals`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    pub code: CodeLabel,
}

/// A refusal's code as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeLabel(pub Code);

/// An ending as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndingLabel(pub Ending);

/// The hundreds of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusClass(pub u16);

impl EncodeLabelValue for CodeLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for EndingLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for StatusClass {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = match self.0 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "none",
        };
        name.encode(encoder)
    }
}

impl Metrics {
    /// Makes the counters and names them in the registry.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            refusals: Family::default(),
            latency: latency_seconds(),
            upstream_latency: latency_seconds(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            upstream_connections: Counter::default(),
            queued: Gauge::default(),
            unrecorded: Counter::default(),
        };
        let all = metrics.clone();
        registry.register("requests", "Requests that ended", all.requests);
        registry.register("refusals", "Requests the gate refused", all.refusals);
        registry.register("request_seconds", "Head to end of answer", all.latency);
        registry.register("upstream_seconds", "First try to answer", all.upstream_latency);
        registry.register("connections", "Open client connections", all.connections);
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
        registry.register(
            "unrecorded",
            "Requests refused because the record's queue was full",
            all.unrecorded,
        );
        metrics
    }

    /// Counts a request that has ended.
    pub(crate) fn count(&self, outcome: &Outcome) {
        let labels = RequestLabels {
            status: StatusClass(outcome.status / 100),
            ending: EndingLabel(outcome.ending),
        };
        self.requests.get_or_create(&labels).inc();
        if let Some(code) = outcome.refusal {
            self.refusals.get_or_create(&RefusalLabels { code: CodeLabel(code) }).inc();
        }
        self.latency.observe(outcome.timing.total.as_secs_f64());
        if let Some(upstream) = outcome.timing.upstream {
            self.upstream_latency.observe(upstream.as_secs_f64());
        }
    }
}
