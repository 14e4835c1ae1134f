//! The registry of metrics, and their text.

use prometheus_client::collector::Collector;
use prometheus_client::registry::{Metric, Registry as Inner};

/// The media type of [`Registry::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Owns every metric of the process. Metrics are registered once, at the start.
#[derive(Debug)]
pub struct Registry(Inner);

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// An empty registry; every name gets the prefix `tollgate_`.
    #[must_use]
    pub fn new() -> Self {
        Self(Inner::with_prefix("tollgate"))
    }

    /// Registers a metric. Counters get `_total` appended by the format.
    pub fn register(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.0.register(name, help, metric);
    }

    /// Registers what is gathered anew whenever somebody asks.
    pub fn register_collector(&mut self, collector: impl Collector) {
        self.0.register_collector(Box::new(collector));
    }

    /// All metrics as OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0)
            .expect("writing to a string does not fail");
        text
    }
}

/// Upper bounds of a latency's buckets, from 100 µs to a minute; fine where the gate's own cost
/// lies.
pub const LATENCY_SECONDS: [f64; 17] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 60.0,
];

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn metrics_are_encoded_as_openmetrics() {
        let mut registry = Registry::new();
        let counter: Counter = Counter::default();
        registry.register("requests", "Requests", counter.clone());
        counter.inc_by(3);
        let expected = "# HELP tollgate_requests Requests.\n# TYPE tollgate_requests counter\n\
            tollgate_requests_total 3\n# EOF\n";
        assert_eq!(registry.encode(), expected);
    }
}
